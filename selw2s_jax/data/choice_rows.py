"""Rows of a question, its choices and the right one, in the forms that people have them in.

Choices are a list of texts; or texts with labels of their own, `{"text": [...], "label": [...]}` as the hub has ARC's,
or a list of `{"text": ..., "label": ...}`. The right one is named by

- its label, where choices have labels;
- its text;
- its index from 0, also where a table library made 1.0 of it; in CSV, where everything is text, its digits;
- a letter, A for the first, where no choice is that letter itself.

What names two different choices is refused.
"""

import ast
import json
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from selw2s_jax.data import rows, tasks

ANSWER_COLUMNS = ("answer", "answerKey")


class Row(NamedTuple):
    """A question as it is asked, and what its row was like.

    Attributes:
        question: each of its choices once.
        num_repeated: choices that were left out, as an earlier one has the same text.
        index: the index from 0 that the right answer is given by, None where it is given otherwise.
    """

    question: tasks.Question
    num_repeated: int = 0
    index: int | None = None


class PastTheLastError(ValueError):
    """The index of an answer is one more than that of the last choice."""


class NoWrongChoiceError(ValueError):
    """All choices are the right one, ignoring case: no wrong one can be shown."""


def parse(question_id: str, values: dict[str, Any], *, in_csv: bool) -> Row:
    """A row with the columns question, choices, and answer or answerKey.

    Raises:
        NoWrongChoiceError: it is no question that can be asked here.
        ValueError: what is wrong with it.
    """
    text = rows.text(values, "question")
    choices, labels = texts_and_labels(values.get("choices"), in_csv=in_csv)
    column = next((name for name in ANSWER_COLUMNS if name in values), ANSWER_COLUMNS[0])
    answer, index = _find(values.get(column), column, choices, labels, in_csv)
    stripped = [choice.strip() for choice in choices]
    kept = [choice for i, choice in enumerate(choices) if choice.strip() not in stripped[:i]]
    if len({choice.strip().casefold() for choice in kept}) < 2:
        fault = "differ in case only" if len(kept) > 1 else "are all the same text"
        raise NoWrongChoiceError(f"choices {fault}: {rows.show(list(choices))}")
    place = [choice.strip() for choice in kept].index(stripped[answer])
    return Row(tasks.Question(question_id, text, tuple(kept), place), len(choices) - len(kept), index)


def rightness(values: dict[str, Any], *, in_csv: bool) -> list[int]:
    """Of each choice of a row, as `texts_and_labels` has them, 1 where it is the right one, else 0.

    Raises:
        ValueError: answer or answerKey names none, or two.
    """
    choices, labels = texts_and_labels(values.get("choices"), in_csv=in_csv)
    column = next((name for name in ANSWER_COLUMNS if name in values), ANSWER_COLUMNS[0])
    answer, _ = _find(values.get(column), column, choices, labels, in_csv)
    return [int(choice.strip() == choices[answer].strip()) for choice in choices]


def texts_and_labels(value: Any, *, in_csv: bool, fewest: int = 2) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts of choices in any of their forms, and their labels, which may be none.

    Raises:
        ValueError: what is wrong with them, as that there are less than `fewest`.
    """
    if in_csv and isinstance(value, str):
        value = _of_cell(value)
    labels = None
    if isinstance(value, dict):
        value, labels = value.get("text"), value.get("label")
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        labels = [one.get("label") for one in value]
        value = [one.get("text") for one in value]
    if not isinstance(value, list) or len(value) < fewest:
        least = "texts" if fewest == 1 else "at least two texts"
        raise ValueError(f"choices must be a list of {least}, found {rows.show(value)}")
    texts = tuple(rows.text({"choices": choice}, "choices") for choice in value)
    return texts, () if labels is None else _labels(labels, len(texts))


def _of_cell(text: str) -> Any:
    """What a cell holds, as JSON, or in Python's quotes, as table libraries write lists."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
            return ast.literal_eval(text.strip())  # literals alone: nothing in them is run
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"choices is not a JSON list: {rows.show(text)}") from None


def _labels(labels: Any, num_choices: int) -> tuple[str, ...]:
    if not isinstance(labels, list) or len(labels) != num_choices:
        raise ValueError(f"choices has {num_choices} texts and other labels: {rows.show(labels)}")
    found = tuple(_as_label(label) for label in labels)
    if "" in found or len(set(found)) < num_choices:
        raise ValueError(f"choices has labels that are empty or occur twice: {rows.show(labels)}")
    return found


def _as_label(value: Any) -> str:
    """A label as text, "" where it is none: 1, 1.0, "1" and " 1" are the same one."""
    number = rows.whole_number(value)
    if number is not None:
        return str(number)
    return value.strip() if isinstance(value, str) else ""


def _find(
    value: Any, column: str, choices: Sequence[str], labels: Sequence[str], in_csv: bool
) -> tuple[int, int | None]:
    """Which choice is the right one, and the index that says so."""
    if labels and _as_label(value) in labels:
        return labels.index(_as_label(value)), None
    index = None if isinstance(value, str) and not in_csv else rows.whole_number(value)
    if labels and column == "answerKey":
        index = None  # a label that its row does not have, whatever else it could be
    past = index == len(choices)
    by_text = _by_text(value, choices, labels)
    found = set(by_text)
    if index is not None and 0 <= index < len(choices):
        found.add(index)
    else:
        index = None
    if not found:
        others = f"one of {', '.join(labels)}" if labels else _described(len(choices))
        fault = PastTheLastError if past else ValueError
        raise fault(f"{column} must be {others} or a choice's text, found {rows.show(value)}")
    if len(found) > 1:
        raise ValueError(
            f"{column} {rows.show(value)} names two choices, by text, letter or index: give the whole text of the "
            "right one, or use .jsonl, which tells numbers from texts"
        )
    return found.pop(), None if by_text else index


def _described(num_choices: int) -> str:
    return f"an index from 0 to {num_choices - 1}, a letter from A to {chr(64 + min(num_choices, 26))}"


def _by_text(value: Any, choices: Sequence[str], labels: Sequence[str]) -> list[int]:
    """The choices that a text names: by all of it, or as a letter, where no choice is that letter."""
    if not isinstance(value, str):
        return []
    stripped = [choice.strip() for choice in choices]
    if value.strip() in stripped:
        return [stripped.index(value.strip())]
    letter = value.strip().upper()
    if labels or len(letter) != 1 or not "A" <= letter <= "Z":
        return []
    alike = [i for i, choice in enumerate(stripped) if choice.upper() == letter]
    place = ord(letter) - ord("A")
    return sorted({*alike, *([place] if place < len(choices) else [])})
