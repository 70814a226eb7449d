"""The untouched strong language model answers questions, with 0 or 1 or at length."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from selw2s_jax.data import lengths, splits, tasks
from selw2s_jax.data import prompts as prompts_lib
from selw2s_jax.hf import pretrained, tokenizers
from selw2s_jax.inference import classify, fewshot, generate, partials
from selw2s_jax.models import decoder
from selw2s_jax.runtime import artifacts

FILE = "answers.parquet"
_BLOCK = (
    512  # questions whose written answers are kept together: what a run that is stopped has to write again
)


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Prompts of N questions, within a model's context.

    Attributes:
        tokens: ids of each.
        answer_ids: of the answers 0 and 1, None where answers are written.
        cut: how many prompts have `fewer_shots`, a `shortened` passage and a `truncated` question.
    """

    tokens: list[np.ndarray]
    answer_ids: tuple[int, int] | None
    cut: dict[str, int]


class Solutions(NamedTuple):
    """Answers written to N questions, several to each.

    Attributes:
        right: `[N]` float32, the share of right ones.
        unfinished: `[N]` int32, how many were cut off.
        text: `[N]` str, the first.
    """

    right: np.ndarray
    unfinished: np.ndarray
    text: np.ndarray


def make_prompts(
    tokenizer: tokenizers.Tokenizer,
    few_shot: prompts_lib.FewShot,
    questions: Sequence[tasks.Example],
    *,
    max_length: int,
) -> Prompts:
    """Encodes the prompts of questions, without what does not fit.

    Args:
        max_length: longest prompt, in tokens; a written answer needs room behind it.

    Raises:
        UserError: not even the instruction fits, or the tokenizer has no tokens for the answers.
    """
    answer_ids, encode = None, tokenizer.encode_batch
    if not few_shot.is_generated:
        _, answer_ids = _encode_judged(tokenizer, few_shot, [few_shot.prompt(questions[0].text)])
        encode = lambda texts: _encode_judged(tokenizer, few_shot, texts)[0]  # noqa: E731
    tokens, cut = fewshot.fit_prompts(
        encode, few_shot.build, questions, num_shots=len(few_shot.shots), max_length=max_length
    )
    return Prompts(tokens, answer_ids, cut)


def _encode_judged(
    tokenizer: tokenizers.Tokenizer, few_shot: prompts_lib.FewShot, prompts: Sequence[str]
) -> tuple[list[np.ndarray], tuple[int, int]]:
    """`fewshot.encode_prompts` of prompts that are answered with 0 or 1."""
    return fewshot.encode_prompts(tokenizer, prompts, few_shot.continuations)


def judge(
    language_model: decoder.Decoder,
    prompts: Prompts,
    *,
    batch_tokens: int,
    label: str,
    partial: partials.Partial | None = None,
) -> np.ndarray:
    """Log-odds `[N]` float32 of the answer 1 to questions that are answered with 0 or 1.

    Args:
        language_model: with its language-model head; a `language_model.LanguageModel` too.
        batch_tokens: tokens in one batch.
        label: name in progress lines.
        partial: what is done already, and where it is kept.
    """
    return fewshot.answer_log_odds(
        language_model,
        prompts.tokens,
        prompts.answer_ids,
        mesh=language_model.mesh,
        batch_tokens=batch_tokens,
        label=label,
        partial=partial,
    )


def solve(
    language_model: decoder.Decoder,
    tokenizer: tokenizers.Tokenizer,
    prompts: Prompts,
    questions: Sequence[tasks.Example],
    task: tasks.Task,
    settings: generate.Settings,
    *,
    batch_tokens: int,
    label: str,
    partial: partials.Partial,
) -> Solutions:
    """Writes answers to questions, and marks them by their solutions.

    Args:
        settings: of the generation; a question has `num_samples` answers.
        language_model, batch_tokens, label, partial: as `judge`; tokens are slots of the KV cache.
    """
    index, stored = partial.load()
    found = Solutions(*(stored or (np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, "U1"))))
    left = np.setdiff1d(np.arange(len(questions)), index)
    for first in range(0, len(left), _BLOCK):
        chosen = left[first : first + _BLOCK]
        try:
            written = generate.generate(
                language_model,
                tokenizer,
                [prompts.tokens[i] for i in chosen],
                [questions[i].example_id for i in chosen],
                settings,
                batch_tokens=batch_tokens,
                label=f"{label}, from question {len(index) + 1} of {len(questions)}",
            )
        except classify.NotFiniteError as error:
            raise classify.NotFiniteError(int(chosen[error.index])) from error
        marked = [_mark(task, questions[i], of_one) for i, of_one in zip(chosen, written, strict=True)]
        index = np.concatenate([index, chosen])
        right, unfinished, text = (
            np.concatenate([old, new]) for old, new in zip(found, zip(*marked, strict=True), strict=True)
        )
        found = Solutions(right.astype(np.float32), unfinished, text)
        partial.save(index, list(found))
        partial.settle()
    order = np.argsort(index)
    return Solutions(*(column[order] for column in found))


def answer_split(
    folder: pathlib.Path,
    language_model: decoder.Decoder,
    model: pretrained.Model,
    split: splits.Split,
    sampling: generate.Settings | None,
    *,
    batch_tokens: int,
    label: str,
    partial: partials.Partial,
) -> None:
    """Writes the answers to a split's questions as an artifact.

    Of questions that are answered with 0 or 1 probability and log-odds of the answer 1; of those that are answered at
    length the share of right answers, and the first.

    Args:
        folder: of the artifact that is being made.
        sampling: how answers are written, None where they are 0 or 1.
        language_model, batch_tokens, label, partial: as `judge`.

    Raises:
        UserError: as `make_prompts`; or an answer is no finite number.
    """
    common = {"batch_tokens": batch_tokens, "label": label, "partial": partial}
    room = 0 if sampling is None else sampling.max_new_tokens
    max_length = model.config.max_seq_len - room
    prompts = make_prompts(model.tokenizer, split.few_shot, split.examples, max_length=max_length)
    cut = dict(prompts.cut)
    named = naming(model.name, split.ids, language_model)
    if sampling is None:
        with named:
            log_odds = judge(language_model, prompts, **common)
        probs = fewshot.to_probs(log_odds)
        columns = {"prob_1": probs, "log_odds": log_odds}
        right = (probs > 0.5) == split.labels
    else:
        with named:
            found = solve(
                language_model, model.tokenizer, prompts, split.examples, split.task, sampling, **common
            )
        right = found.right
        columns = {"right": right, "text": found.text.tolist()}
        cut["unfinished"] = int(found.unfinished.sum())
    artifacts.write_table(folder / FILE, {"example_id": split.ids, **columns})
    summary = json.dumps({"n": len(split), "cut": cut}, indent=1, sort_keys=True) + "\n"
    artifacts.write_text(folder / "summary.json", summary)
    described = describe_cut(cut)
    print(
        f"  few-shot accuracy {right.mean():.4f} on {len(right)} questions",
        described,
        sep="; " if described else "",
    )


def naming(
    name: str, example_ids: Sequence[str], language_model: decoder.Decoder
) -> contextlib.AbstractContextManager[None]:
    """`classify.naming` of answers of a language model.

    Args:
        name: of the model.
    """
    return classify.naming(
        f"the answers of the language model {name}",
        example_ids,
        f"its weights hold such values, or overflow in {language_model.settings.compute_dtype.name}; use other "
        "weights, or precision.compute_dtype=float32",
    )


def _mark(
    task: tasks.Task, example: tasks.Example, completions: Sequence[generate.Completion]
) -> tuple[float, int, str]:
    """The share of right answers, how many were cut off, and the first."""
    right = np.mean([task.is_correct(one.text, example.solution) for one in completions])
    return float(right), sum(one.finish == "length" for one in completions), completions[0].text


def is_too_long(model: pretrained.Model, split: splits.Split, max_new_tokens: int) -> np.ndarray:
    """Which questions of a split a model can be asked only after cutting into the question itself, `[N]` bool.

    Args:
        max_new_tokens: room for answers that are written.
    """
    few_shot, room, encode = split.few_shot, model.config.max_seq_len, model.tokenizer.encode_batch
    if few_shot.is_generated:
        room -= max_new_tokens
    else:
        encode = lambda texts: _encode_judged(model.tokenizer, few_shot, texts)[0]  # noqa: E731
    return fewshot.is_too_long(encode, few_shot.build, split.examples, max_length=room)


def check_prompts(model: pretrained.Model, split: splits.Split, max_new_tokens: int) -> None:
    """Checks, before any device work, that a model can be asked the questions of a split.

    Args:
        max_new_tokens: room for answers that are written.

    Raises:
        UserError: not even the instruction fits, or the model's tokenizer has no tokens for the answers.
    """
    max_length, few_shot = model.config.max_seq_len - max_new_tokens, split.few_shot
    if not few_shot.is_generated:
        _encode_judged(model.tokenizer, few_shot, [few_shot.prompt(split.examples[0].text)])
    bare = few_shot.build(0, split.examples)
    long = [
        example
        for example, prompt in zip(split.examples, bare, strict=True)
        if lengths.most_tokens(prompt) > max_length
    ]
    if long:
        fewshot.fit_prompts(
            model.tokenizer.encode_batch, few_shot.build, long, num_shots=0, max_length=max_length
        )


def describe_cut(cut: dict[str, int]) -> str:
    """What was left out of prompts and answers to fit the context, "" for nothing."""
    parts = (
        ("fewer_shots", "prompts with fewer shots to fit the context"),
        ("shortened", "with a shortened passage"),
        ("truncated", "with the question truncated from the left"),
        ("unfinished", "answers cut off at generation.max_new_tokens"),
    )
    return ", ".join(f"{cut[name]} {text}" for name, text in parts if cut.get(name))
