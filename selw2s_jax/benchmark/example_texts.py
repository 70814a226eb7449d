"""What is measured on: the texts of the config's task where they are at hand, else examples of random tokens."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import ml_collections
import numpy as np

from selw2s_jax.data import lengths, tasks
from selw2s_jax.data import splits as splits_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import data as data_lib
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import fewshot

SOURCES = ("auto", "real", "synthetic")

# Tokens of a question and answer with GPT-2's tokenizer, measured on the train split of each data set.
MEAN_LENGTHS = {"sciq": 22, "boolq": 136, "cosmos_qa": 107, "arc": 32, "winogrande": 22, "gsm8k": 55}
_OTHER_MEAN = 100
# Standard deviation of the logarithm of synthetic lengths; that of real ones was 0.16 (Winogrande) to 0.49 (BoolQ).
LENGTHS_SPREAD = 0.35
_NUM_SYNTHETIC = 2048
_MOST_SCORED = 4096  # examples that scoring and answering take of a split
_INSTRUCTION_TOKENS = 32  # in front of the shots of a synthetic prompt

Tokens = Sequence[np.ndarray]


class Examples(NamedTuple):
    """Token ids of examples; each is read when it is asked for.

    Attributes:
        described: what they are, for people.
        is_real: whether they are texts of the task.
        task, p_ik: what students are trained on; a run of P(IK) alone has no task examples.
        test: what is scored.
        prompts: few-shot prompts.
    """

    described: str
    is_real: bool
    task: Callable[[], Tokens]
    p_ik: Callable[[], Tokens]
    test: Callable[[], Tokens]
    prompts: Callable[[], Tokens]


def synthetic(
    config: ml_collections.ConfigDict, model: pretrained.Model, mean_length: int | None = None
) -> Examples:
    """Random tokens in examples whose lengths are log-normal around a mean, the same in every process.

    Raises:
        UserError: a mean that the model cannot be given.
    """
    limit, vocab_size = model.max_length, model.config.vocab_size
    if mean_length is not None and mean_length > limit:
        raise UserError(
            f"--lengths={mean_length} is more than the {limit} tokens that the model is given: raise "
            "config.data.max_length, or take a model with a longer context"
        )

    def mean_of(task: str) -> int:
        return min(mean_length or MEAN_LENGTHS.get(task, _OTHER_MEAN), limit)

    def examples(task: str, seed: int) -> Tokens:
        generator = np.random.default_rng(seed)
        drawn = draw_lengths(generator, mean_of(task), limit)
        return [generator.integers(1, vocab_size, length, np.int32) for length in drawn]

    def prompts() -> Tokens:
        own, context = examples(config.task, 3), model.config.max_seq_len
        mean = int(np.mean([len(ids) for ids in own]))
        longest = max(map(len, own))
        wanted = _INSTRUCTION_TOKENS + config.self_label.num_shots * mean
        shared = np.random.default_rng(4).integers(1, vocab_size, max(min(wanted, context - longest), 0))
        return [np.concatenate([shared, ids]).astype(np.int32) for ids in own]

    return Examples(
        f"synthetic, {mean_of(config.task)} tokens an example on average",
        False,
        task=lambda: examples(config.task, 0),
        p_ik=lambda: examples(config.p_ik.task, 1),
        test=lambda: examples(config.task, 2),
        prompts=prompts,
    )


def draw_lengths(generator: np.random.Generator, mean: int, limit: int) -> np.ndarray:
    """Lengths `[N]` of synthetic examples: log-normal with this mean, within 1 and the limit."""
    # exp(mu + s^2 / 2) is the mean of a log-normal.
    mu = math.log(mean) - LENGTHS_SPREAD**2 / 2
    drawn = generator.lognormal(mu, LENGTHS_SPREAD, _NUM_SYNTHETIC)
    return np.clip(np.rint(drawn), 1, limit).astype(np.int64)


def real(config: ml_collections.ConfigDict, model: pretrained.Model, workdir) -> Examples:
    """The texts of a config's task for a model with its tokenizer; `methods` say which splits there are.

    Raises:
        UserError: they are not at hand.
    """
    data = data_lib.DataReader(config, workdir).read()[config.seeds[0]]

    def training(split: splits_lib.Split) -> Tokens:
        """Without what is too long, which a run drops too."""
        return split.only(~lengths.is_overlong(split.texts, model)).tokens(model)

    def prompts() -> Tokens:
        splits = [split for split in (data.student_half, data.p_ik, data.test) if split is not None]
        split = next((split for split in splits if split.shots), data.test)
        questions = split.examples[:_MOST_SCORED]
        tokens, _ = fewshot.fit_prompts(
            model.tokenizer.encode_batch,
            split.few_shot.build,
            questions,
            num_shots=len(split.shots),
            max_length=model.config.max_seq_len,
        )
        return tokens

    return Examples(
        f"texts of {tasks.canonical_name(config.task)}",
        True,
        task=lambda: training(data.student_half),
        p_ik=lambda: training(data.p_ik),
        test=lambda: lengths.encode(data.test.texts[:_MOST_SCORED], model),
        prompts=prompts,
    )
