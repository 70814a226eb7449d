"""Tables of written answers, a row for each question and variation, variation 0 being the original prompt.

Columns: `example_id`; `variation` int32; `text` as written; `prediction`, what it says, as `answers.to_text` has it, a
choice by its index in the original order; `letter` int32, the place at which that choice was shown, -1 for none; `rule`
by which it was read, "" for none, "scored" where it was chosen by its probability; `conflicts`, whether letter and text
disagree; `finish`, why it ended: "eos", "stop", "length" or "scored"; `log_prob` float32 of what was scored, natural
logarithm, NaN of what was written; `num_tokens` int32, the end of text among them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from selw2s_jax.errors import UserError

FILE = "answers.parquet"


def summarize(columns: dict[str, Any], num_questions: int) -> dict[str, Any]:
    """Counts of a table: answers, questions, what says nothing, has conflicts or was cut off, and of each letter."""
    letters = np.asarray(columns["letter"])
    counts = np.bincount(letters[letters >= 0]).tolist()
    return {
        "n": len(letters),
        "num_questions": num_questions,
        "unparsed": sum(text == "" for text in columns["prediction"]),
        "conflicts": int(np.sum(columns["conflicts"])),
        "unfinished": sum(finish == "length" for finish in columns["finish"]),
        "letters": {chr(ord("A") + place): count for place, count in enumerate(counts)},
    }


def describe(summary: dict[str, Any]) -> str:
    """A summary in one line."""
    parts = (
        ("unparsed", "say nothing that can be read"),
        ("conflicts", "have the letter of one choice and the text of another"),
        ("unfinished", "were cut off at their greatest length"),
    )
    told = [f"{summary[name]} {text}" for name, text in parts if summary[name]]
    return "; ".join([f"{summary['n']} answers to {summary['num_questions']} questions", *told])


def by_question(
    table: dict[str, np.ndarray], ids: Sequence[str], where: str = "a table"
) -> dict[str, list[list]]:
    """Columns of `FILE` by question, joined by example_id: of each column a list of each question's values.

    Args:
        ids: Q example_ids.
        where: whose table it is, for errors.

    Returns:
        By column, `[Q][1 + N]`, the original prompt first; N is each question's own.

    Raises:
        UserError: an id without answers, or one that lacks a variation or has it twice.
    """
    rows: dict[str, list[int]] = {}
    for row in np.argsort(table["variation"], kind="stable"):
        rows.setdefault(table["example_id"][row], []).append(int(row))
    if missing := [name for name in ids if name not in rows]:
        raise UserError(
            f"{where} lacks {len(missing)} of {len(ids)} example_ids (first: {missing[0]}); make it for this split"
        )
    for name in ids:
        if table["variation"][rows[name]].tolist() != list(range(len(rows[name]))):
            raise UserError(
                f"{where} has other variations of {name} than 0, 1, 2, ...; delete it and run again"
            )
    return {
        column: [values[rows[name]].tolist() for name in ids]
        for column, values in table.items()
        if column not in ("example_id", "variation")
    }
