"""The untouched strong language model answers the questions of a split, by example_id."""

import json
import pathlib

import numpy as np

from selw2s_jax import artifacts, inputs
from selw2s_jax.inference import classify, fewshot, generate
from selw2s_jax.models import decoder

FILE = "answers.parquet"


def judge(
    folder: pathlib.Path,
    language_model: decoder.Decoder,
    model: inputs.Model,
    split: inputs.Split,
    *,
    batch_tokens: int,
    label: str,
    partial: classify.Partial,
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
    max_length = model.config.max_seq_len
    _, answer_ids = fewshot.encode_prompts(model.tokenizer, split.few_shot_prompts()[:1])
    tokens, cut = fewshot.fit_prompts(
        lambda prompts: fewshot.encode_prompts(model.tokenizer, prompts)[0],
        split.build_prompts,
        split.examples,
        num_shots=len(split.shots),
        max_length=max_length,
    )
    log_odds = fewshot.answer_log_odds(
        language_model,
        tokens,
        answer_ids,
        mesh=language_model.mesh,
        batch_tokens=batch_tokens,
        max_length=max_length,
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
    model: inputs.Model,
    split: inputs.Split,
    settings: generate.Settings,
    *,
    batch_tokens: int,
    label: str,
) -> None:
    """Writes the share of right answers among those written to questions that are answered at length.

    Args:
        settings: of the generation; a question has `num_samples` answers.
        folder, language_model, batch_tokens, label: as `judge`; tokens are slots of the KV cache.

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
    found = generate.generate(
        language_model, model.tokenizer, tokens, split.ids, settings, batch_tokens=batch_tokens, label=label
    )
    right = np.array(
        [
            np.mean([split.task.is_correct(completion.text, example.solution) for completion in completions])
            for example, completions in zip(split.examples, found, strict=True)
        ],
        np.float32,
    )
    first = [completions[0].text for completions in found]
    artifacts.write_table(folder / FILE, {"example_id": split.ids, "right": right, "text": first})
    unfinished = sum(one.finish == "length" for completions in found for one in completions)
    cut |= {"unfinished": unfinished}
    _write_summary(folder, split, cut)
    _print_accuracy(right, cut)


def describe_cut(cut: dict[str, int]) -> str:
    """What was left out of prompts and answers to fit the context, "" for nothing."""
    parts = (
        ("fewer_shots", "prompts with fewer shots to fit the context"),
        ("shortened", "with a shortened passage"),
        ("unfinished", "answers cut off at generation.max_new_tokens"),
    )
    return ", ".join(f"{cut[name]} {text}" for name, text in parts if cut.get(name))


def _write_summary(folder: pathlib.Path, split: inputs.Split, cut: dict[str, int]) -> None:
    content = json.dumps({"n": len(split), "cut": cut}, indent=1, sort_keys=True) + "\n"
    artifacts.write_text(folder / "summary.json", content)


def _print_accuracy(right: np.ndarray, cut: dict[str, int]) -> None:
    described = describe_cut(cut)
    print(
        f"  few-shot accuracy {right.mean():.4f} on {len(right)} questions",
        described,
        sep="; " if described else "",
    )
