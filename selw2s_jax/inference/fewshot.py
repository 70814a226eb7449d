"""Few-shot answers of an untouched language model: the probability of `1` against `0` after `R:`.

What the prompts of a task begin with, its shots, is computed once.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from selw2s_jax.data import batches, by_id, lengths, tasks
from selw2s_jax.data import prompts as prompts_lib
from selw2s_jax.errors import UserError
from selw2s_jax.inference import partials, prefix
from selw2s_jax.models import layers


def encode_prompts(
    tokenizer, prompts: Sequence[str], answers: tuple[str, str] = prompts_lib.ANSWERS
) -> tuple[list[np.ndarray], tuple[int, int]]:
    """Token ids of prompts up to where the answer differs, and the ids of the answers 0 and 1.

    Some tokenizers make one token of ` 1`, others two (a space, then the digit): what both answers share is
    part of the prompt.

    Args:
        answers: as they are written behind a prompt.

    Raises:
        UserError: the answers differ in more than their last token.
    """
    with_one = tokenizer.encode_batch([prompt + answers[1] for prompt in prompts])
    zero, one = tokenizer.encode(prompts[0] + answers[0]), with_one[0]
    if len(zero) != len(one) or zero[:-1] != one[:-1] or zero[-1] == one[-1]:
        raise UserError(
            "the tokenizer does not end the answers ' 0' and ' 1' in one differing token; use the model's own tokenizer"
        )
    if any(ids[-1] != one[-1] for ids in with_one):
        raise UserError("the tokenizer encodes the answer ' 1' differently from prompt to prompt")
    return [np.array(ids[:-1], np.int32) for ids in with_one], (zero[-1], one[-1])


def fit_prompts(
    encode: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    build_prompts: Callable[[int, Sequence[tasks.Example]], Sequence[str]],
    questions: Sequence[tasks.Example],
    *,
    num_shots: int,
    max_length: int,
) -> tuple[list[np.ndarray], dict[str, int]]:
    """Prompts within a context: one that is too long loses shots from the front, then the beginning of its passage,
    then that of the question.

    Args:
        encode: token ids of texts.
        build_prompts: the prompts of questions with so many shots.
        num_shots: shots of a full prompt.
        max_length: longest prompt, in tokens.

    Returns:
        Token ids of each, and how many prompts have `fewer_shots`, a `shortened` passage and, where any has, a
        `truncated` question.

    Raises:
        UserError: not even the instruction fits.
    """
    tokens = [np.array(ids, np.int32) for ids in encode(build_prompts(num_shots, questions))]
    too_long = [i for i, ids in enumerate(tokens) if len(ids) > max_length]
    cut = {"fewer_shots": len(too_long) if num_shots else 0, "shortened": 0}
    for shots in reversed(range(num_shots)):
        if not too_long:
            break
        shorter = encode(build_prompts(shots, [questions[i] for i in too_long]))
        for i, ids in zip(too_long, shorter, strict=True):
            tokens[i] = np.array(ids, np.int32)
        too_long = [i for i in too_long if len(tokens[i]) > max_length]

    def encode_alone(question: tasks.Example) -> np.ndarray:
        return np.array(encode(build_prompts(0, [question]))[0], np.int32)

    for i in too_long:
        tokens[i] = _shorten_passage(questions[i], encode_alone, max_length)
        if len(tokens[i]) > max_length:
            cut["truncated"] = cut.get("truncated", 0) + 1
            tokens[i] = _truncate(_without_passage(questions[i]), encode_alone, max_length)
    cut["shortened"] = len(too_long) - cut.get("truncated", 0)
    return tokens, cut


def is_too_long(
    encode: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    build_prompts: Callable[[int, Sequence[tasks.Example]], Sequence[str]],
    questions: Sequence[tasks.Example],
    *,
    max_length: int,
) -> np.ndarray:
    """Which questions alone, without shots and passage, do not fit a context, `[N]` bool; args as `fit_prompts`."""
    bare = build_prompts(0, [_without_passage(question) for question in questions])
    candidates = [i for i, prompt in enumerate(bare) if lengths.most_tokens(prompt) >= max_length]
    too_long = np.zeros(len(questions), bool)
    if candidates:
        too_long[candidates] = [len(ids) > max_length for ids in encode([bare[i] for i in candidates])]
    return too_long


def _without_passage(question: tasks.Example) -> tasks.Example:
    start, end = question.passage
    return dataclasses.replace(question, text=question.text[:start] + question.text[end:], passage=(0, 0))


def _truncate(question: tasks.Example, encode, max_length: int) -> np.ndarray:
    """Token ids of a question's prompt without as many characters at the beginning of its text as is needed."""

    def without(cut: int) -> np.ndarray:
        return encode(dataclasses.replace(question, text=question.text[cut:]))

    low, high = 0, len(question.text) - 1
    if len(shortest := without(high)) > max_length:
        raise UserError(
            f"the few-shot prompt of {question.example_id} has {len(shortest)} tokens even without shots and all but "
            f"the end of its question, and the context leaves room for {max_length}: shorten data.instruction, or "
            "choose a strong model with a longer context"
        )
    while low < high:  # what is left of `high` is known to fit
        middle = (low + high) // 2
        low, high = (low, middle) if len(without(middle)) <= max_length else (middle + 1, high)
    return without(high)


def _shorten_passage(question: tasks.Example, encode, max_length: int) -> np.ndarray:
    """Token ids of a question's prompt without as many words at the beginning of its passage as is needed.

    Still longer than `max_length` where nothing of the passage is left.
    """
    start, end = question.passage

    def without(cut: int) -> np.ndarray:
        text = question.text[:start] + question.text[cut:]
        return encode(dataclasses.replace(question, text=text))

    words = [match.start() for match in re.finditer(r"\S+", question.text[start:end])]
    cuts = [start + place for place in words] + [end]
    if len(shortest := without(cuts[-1])) > max_length:
        return shortest
    low, high = 0, len(cuts) - 1  # the last is known to fit
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(without(cuts[middle])) <= max_length else (middle + 1, high)
    return without(cuts[high])


def to_probs(log_odds) -> np.ndarray:
    """The probability of the second answer, float32, from log-odds of the same shape."""
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-np.asarray(log_odds, np.float64)))).astype(np.float32)


def answer_log_odds(
    decoder,
    tokens: Sequence[np.ndarray],
    answer_ids: tuple[int, int],
    *,
    mesh: jax.sharding.Mesh,
    batch_tokens: int,
    label: str,
    partial: partials.Partial | None = None,
    shares_prefix: bool = True,
) -> np.ndarray:
    """Log-odds of the second answer against the first: the difference of their logits.

    The probability is 1.0 in float32 where the log-odds still tell one answer from another.

    Args:
        decoder: a `decoder.Decoder` with its language-model head, or a `language_model.LanguageModel`.
        tokens: ids of each of N prompts.
        answer_ids: vocabulary ids of the answers 0 and 1.
        partial: what is done already, and where it is kept.
        shares_prefix: whether what prompts begin with in common is computed once; the scores are equal to rounding.

    Returns:
        `[N]` float32.

    Raises:
        UserError: the model has no language-model head.
        NotFiniteError: an answer is no finite number (`classify.NotFiniteError`).
        Preempted: the run was told to stop.
    """
    require_lm_head(decoder)
    return prefix.score(
        answer_forward,
        tuple(answer_ids),
        decoder,
        tokens,
        mesh=mesh,
        batch_tokens=batch_tokens,
        label=label,
        partial=partial,
        shares_prefix=shares_prefix,
    )


def answer_forward(static, arrays, batch: batches.Batch):
    """What `prefix.score` runs on a batch for `answer_log_odds`: `[E]` float32."""
    (graphdef, answer_ids), (params, cache, _) = static, arrays
    model = nnx.merge(graphdef, params)
    grids = (batch.tokens[0], batch.segment_ids[0], batch.positions[0])
    hidden = model.hidden_states(*grids, reads=batch.reads[0], cache=cache)
    last = hidden[batch.row[0], layers.place_read(batch.reads[0], batch.row[0], batch.last[0])]
    token_ids = jnp.broadcast_to(jnp.array(answer_ids, jnp.int32), (last.shape[0], len(answer_ids)))
    logits = model.answer_logits(last, token_ids)
    return logits[:, 1] - logits[:, 0]


def require_lm_head(decoder) -> None:
    """UserError where a `decoder.Decoder` has no language-model head."""
    if not decoder.has_lm_head:
        raise UserError(
            "the model has no language-model head, so it answers nothing: use a checkpoint of a language model"
        )


def check_fits(tokens: Sequence[np.ndarray], example_ids: Sequence[str], max_length: int) -> None:
    """UserError that names the first of prompts longer than `max_length` tokens, with its length."""
    for ids, name in zip(tokens, example_ids, strict=True):
        if len(ids) > max_length:
            raise UserError(
                f"{name} has {len(ids)} tokens and the context leaves room for {max_length}: shorten it or leave it out"
            )


def sampled_accuracy(
    log_odds: np.ndarray,
    labels: Sequence[int],
    example_ids: Sequence[str],
    *,
    seed: int,
    num_samples: int = 1,
    temperature: float = 1.0,
) -> np.ndarray:
    """P(IK) targets: the share of sampled answers that are right (Selective W2SG, Training to Predict P(IK)).

    Args:
        log_odds: `[N]` of answer 1 against answer 0.
        labels: `[N]` ground truth.
        example_ids: `[N]`; a sample is a function of the seed and these, not of the order.
        num_samples: answers per question; one gives hard targets.
        temperature: of the two answers' logits; 0 takes the likelier one.

    Returns:
        `[N]` float32 in [0, 1].
    """
    log_odds = np.asarray(log_odds, np.float64)
    if temperature == 0:
        answers = (log_odds > 0)[:, None]
    else:
        tempered = to_probs(log_odds / temperature).astype(np.float64)
        draws = np.array(
            [
                [by_id.keyed_uniform(seed, f"answer/{s}", name) for s in range(num_samples)]
                for name in example_ids
            ]
        )
        answers = draws < tempered[:, None]
    return (answers == np.asarray(labels, bool)[:, None]).mean(axis=1).astype(np.float32)
