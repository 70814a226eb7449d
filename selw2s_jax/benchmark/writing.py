"""Answers that the untouched model writes, and how many tokens of them it gives in a second."""

import time
from typing import NamedTuple

import numpy as np

from selw2s_jax.benchmark import example_texts
from selw2s_jax.inference import generate
from selw2s_jax.models import decoder

NEW_TOKENS = 32  # of each answer
_MOST_PROMPTS, _NUM_ROUNDS = 64, 3


class Written(NamedTuple):
    """Times of writing the same answers several times.

    Attributes:
        first_s: of the first time, which compiles.
        seconds: of each time after it.
        num_prompts: that were answered.
        work: of one time.
    """

    first_s: float
    seconds: np.ndarray
    num_prompts: int
    work: generate.Work


class _NoText:
    """In the place of a tokenizer: random weights write tokens that are no text."""

    def decode(self, token_ids: list[int]) -> str:
        del token_ids
        return ""


def measure(model: decoder.Decoder, prompts: example_texts.Tokens, *, batch_tokens: int) -> Written:
    """Writes answers of `NEW_TOKENS` greedily, fewer where the context ends, as `generate.generate` does in a run.

    Args:
        prompts: the first of them are taken.
        batch_tokens: token slots of the KV cache, about.
    """
    settings = generate.Settings(NEW_TOKENS, temperature=0.0)
    chosen = list(prompts[:_MOST_PROMPTS])
    names = [str(number) for number in range(len(chosen))]
    seconds, work = [], generate.Work()
    for _ in range(1 + _NUM_ROUNDS):
        work, start = generate.Work(), time.perf_counter()
        generate.generate(
            model, _NoText(), chosen, names, settings, batch_tokens=batch_tokens, label="written", work=work
        )
        seconds.append(time.perf_counter() - start)
    return Written(seconds[0], np.array(seconds[1:]), len(chosen), work)
