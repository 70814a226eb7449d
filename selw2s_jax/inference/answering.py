"""The untouched strong language model answers the questions of a split, by example_id."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from selw2s_jax.data import lengths, splits, tasks
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import fewshot, generate, partials
from selw2s_jax.models import decoder
from selw2s_jax.runtime import artifacts

FILE = "answers.parquet"
_BLOCK = (
    512  # questions whose written answers are kept together: what a run that is stopped has to write again
)


def judge(
    folder: pathlib.Path,
    language_model: decoder.Decoder,
    model: pretrained.Model,
    split: splits.Split,
    *,
    batch_tokens: int,
    label: str,
    partial: partials.Partial,
) -> None:
    """Writes probability and log-odds of the answer 1 to questions that are answered with 0 or 1.

    Args:
        folder: of the artifact that is being made.
        language_model: the model with its language-model head.
        batch_tokens: tokens in one batch.
        label: name in progress lines.
        partial: what is done already, and where it is kept.

    Raises:
        UserError: a question alone is too long for the model, or its tokenizer has no tokens for the answers.
    """
    _, answer_ids = fewshot.encode_prompts(
        model.tokenizer, split.build_prompts(len(split.shots), split.examples[:1])
    )
    tokens, cut = fewshot.fit_prompts(
        lambda prompts: fewshot.encode_prompts(model.tokenizer, prompts)[0],
        split.build_prompts,
        split.examples,
        num_shots=len(split.shots),
        max_length=model.config.max_seq_len,
    )
    log_odds = fewshot.answer_log_odds(
        language_model,
        tokens,
        answer_ids,
        mesh=language_model.mesh,
        batch_tokens=batch_tokens,
        label=label,
        partial=partial,
    )
    probs = fewshot.to_probs(log_odds)
    columns = {"example_id": split.ids, "prob_1": probs, "log_odds": log_odds}
    artifacts.write_table(folder / FILE, columns)
    _write_summary(folder, split, cut)
    _print_accuracy((probs > 0.5) == split.labels, cut)


def solve(
    folder: pathlib.Path,
    language_model: decoder.Decoder,
    model: pretrained.Model,
    split: splits.Split,
    settings: generate.Settings,
    *,
    batch_tokens: int,
    label: str,
    partial: partials.Partial,
) -> None:
    """Writes the share of right answers among those written to questions that are answered at length.

    Args:
        settings: of the generation; a question has `num_samples` answers.
        folder, language_model, batch_tokens, label, partial: as `judge`; tokens are slots of the KV cache.

    Raises:
        UserError: a question alone is too long for the model.
    """
    tokens, cut = fewshot.fit_prompts(
        model.tokenizer.encode_batch,
        split.build_prompts,
        split.examples,
        num_shots=len(split.shots),
        max_length=model.config.max_seq_len - settings.max_new_tokens,
    )
    index, stored = partial.load()
    right, unfinished, text = stored or (np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, "U1"))
    left = np.setdiff1d(np.arange(len(split)), index)
    for first in range(0, len(left), _BLOCK):
        chosen = left[first : first + _BLOCK]
        found = generate.generate(
            language_model,
            model.tokenizer,
            [tokens[i] for i in chosen],
            [split.ids[i] for i in chosen],
            settings,
            batch_tokens=batch_tokens,
            label=f"{label}, from question {len(index) + 1} of {len(split)}",
        )
        marked = [
            _mark(split.task, split.examples[i], of_one) for i, of_one in zip(chosen, found, strict=True)
        ]
        index = np.concatenate([index, chosen])
        right, unfinished, text = (
            np.concatenate([old, new])
            for old, new in zip((right, unfinished, text), zip(*marked, strict=True), strict=True)
        )
        partial.save(index, [right.astype(np.float32), unfinished, text])
        partial.settle()
    order = np.argsort(index)
    columns = {
        "example_id": split.ids,
        "right": right[order].astype(np.float32),
        "text": text[order].tolist(),
    }
    artifacts.write_table(folder / FILE, columns)
    cut |= {"unfinished": int(unfinished.sum())}
    _write_summary(folder, split, cut)
    _print_accuracy(right, cut)


def _mark(
    task: tasks.Task, example: tasks.Example, completions: Sequence[generate.Completion]
) -> tuple[float, int, str]:
    """The share of right answers, how many were cut off, and the first."""
    right = np.mean([task.is_correct(one.text, example.solution) for one in completions])
    return float(right), sum(one.finish == "length" for one in completions), completions[0].text


def check_prompts(model: pretrained.Model, split: splits.Split, max_new_tokens: int) -> None:
    """Checks, before any device work, that a model can be asked the questions of a split.

    Args:
        max_new_tokens: room for answers that are written.

    Raises:
        UserError: a question alone is too long, or the model's tokenizer has no tokens for the answers.
    """
    max_length = model.config.max_seq_len - max_new_tokens
    if not split.task.is_generated:
        fewshot.encode_prompts(model.tokenizer, split.build_prompts(len(split.shots), split.examples[:1]))
    bare = split.build_prompts(0, split.examples)
    long = [
        example
        for example, prompt in zip(split.examples, bare, strict=True)
        if lengths.most_tokens(prompt) > max_length
    ]
    if long:
        fewshot.fit_prompts(
            model.tokenizer.encode_batch, split.build_prompts, long, num_shots=0, max_length=max_length
        )


def describe_cut(cut: dict[str, int]) -> str:
    """What was left out of prompts and answers to fit the context, "" for nothing."""
    parts = (
        ("fewer_shots", "prompts with fewer shots to fit the context"),
        ("shortened", "with a shortened passage"),
        ("unfinished", "answers cut off at generation.max_new_tokens"),
    )
    return ", ".join(f"{cut[name]} {text}" for name, text in parts if cut.get(name))


def _write_summary(folder: pathlib.Path, split: splits.Split, cut: dict[str, int]) -> None:
    content = json.dumps({"n": len(split), "cut": cut}, indent=1, sort_keys=True) + "\n"
    artifacts.write_text(folder / "summary.json", content)


def _print_accuracy(right: np.ndarray, cut: dict[str, int]) -> None:
    described = describe_cut(cut)
    print(
        f"  few-shot accuracy {right.mean():.4f} on {len(right)} questions",
        described,
        sep="; " if described else "",
    )
