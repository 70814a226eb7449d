"""Questions from a user's file or script, for a trained student to be asked; ground truth is not needed.

The file is JSONL, or CSV or parquet by its name, with columns of the same names; an empty cell says nothing.

A line is `{"text": ...}`, what the models of the task read, or has the fields of a question:

- `question`, and `context` where the task has a passage (`passage` is the same); where the text does not show what
  is given as one, a note counts it;
- `answer`, the text of the answer that is to be judged, or `choices`, a list of them in any form of
  `data.choice_rows`, each judged in a line of its own,
  with `:0`, `:1` and so on behind the example_id, and `answer` is not read. Tasks that are answered with yes or no, or
  at length, show neither.

`label`, 0 or 1, says what is right of a text or an answer, and of `choices` the right one may be named as `choice_rows`
has it, by `answer` or `answerKey`: they are shown to no model, and what models say is measured by them.

`example_id` may name it; else that is `"{task}/input/{row}"`, row = number of the question in the file from 0.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from selw2s_jax.data import (
    choice_rows,
    doubts,
    more_tasks,  # noqa: F401, registers tasks
    rows,
    tasks,
    unshown,
)
from selw2s_jax.errors import UserError

_FORMS = "give text, or question and answer"
_COLUMNS = (
    *("example_id", "text", "question", "context", "passage", "answer", "choices"),
    *("label", "answerKey"),
)


class Asked(NamedTuple):
    """Questions in their order.

    Attributes:
        examples: of a task; their own labels mean nothing.
        labels: of each, 0 or 1, None where none is given.
    """

    examples: list[tasks.Example]
    labels: list[int | None]


def read(
    path: os.PathLike | str, task: tasks.Task, *, found: doubts.Found | None = None
) -> list[tasks.Example]:
    """The examples of `read_with_labels`."""
    return read_with_labels(path, task, found=found).examples


def read_with_labels(
    path: os.PathLike | str, task: tasks.Task, *, found: doubts.Found | None = None
) -> Asked:
    """The questions of a file as examples of a task, and what the file says of their truth.

    Args:
        found: is given what a reader of the results has to know of the file.

    Raises:
        UserError: no such file, unreadable or empty, or lines that are no questions or have the id of another, as
          `rows.describe` names them.
    """
    unread = 0

    def make(values: dict[str, Any], name: str, in_csv: bool) -> list[Item]:
        nonlocal unread
        made = _make_examples(values, task, name, in_csv=in_csv)
        labels, is_read = _labels(values, len(made), in_csv=in_csv)
        unread += not is_read
        pairs = zip(made, labels, strict=True)
        return [Item(example.example_id, example.text, (example, label)) for example, label in pairs]

    items = read_items(path, task.name, _COLUMNS, make, forms=_FORMS, found=found)
    examples, labels = zip(*(item.value for item in items), strict=True)
    if unread and found is not None:
        found.note(
            f"{path}: {unread} line{'s' * (unread > 1)} with a label that is not 0 or 1, or a right answer that is "
            "none of the choices: nothing is measured by it"
        )
    return Asked(list(examples), list(labels))


def from_script(
    questions: Sequence[str | Mapping[str, Any]], task: tasks.Task, *, found: doubts.Found | None = None
) -> list[tasks.Example]:
    """As `read`, of texts that the models read, or of the fields of lines."""

    def make(values: dict[str, Any], name: str, in_csv: bool) -> list[Item]:
        made = _make_examples(values, task, name, in_csv=in_csv)
        return [Item(example.example_id, example.text, example) for example in made]

    items = items_from_script(questions, task.name, make, forms=_FORMS, found=found)
    return [item.value for item in items]


def _labels(values: dict[str, Any], count: int, *, in_csv: bool) -> tuple[list[int | None], bool]:
    """Of each example of a line whether what it shows is right, and whether all that the line says of it was read."""
    given = values.get("label")
    if "choices" in values and "text" not in values and count > 1:
        if not {*choice_rows.ANSWER_COLUMNS}.intersection(values):
            return [None] * count, True
        try:
            return choice_rows.rightness(values, in_csv=in_csv), True
        except ValueError:
            return [None] * count, False
    label = rows.truth_value(given)
    return [label] * count, given is None or label is not None


class Item(NamedTuple):
    """What a line of a file is made into: its id, what models read of it, and itself."""

    example_id: str
    text: str
    value: Any


def read_items(
    path: os.PathLike | str,
    task: str,
    columns: Collection[str],
    make: Callable[[dict[str, Any], str, bool], list[Item]],
    *,
    forms: str,
    found: doubts.Found | None,
) -> list[Item]:
    """What the lines of a file of questions are made into, in order.

    Args:
        task: its name.
        columns: that are read; `example_id` may name a line, which else is `"{task}/input/{row}"`.
        make: (values of a line, its id, whether all of them are text, as in CSV) -> items, of each line at least one;
            a ValueError says what is wrong.
        forms: what a line has to have, for errors.
        found: is given what a reader of the results has to know of the file.

    Raises:
        UserError: as `read`.
    """
    file = rows.find_file(path, "give a file of questions with --input")
    form = file.suffix.lower()
    unit = "row" if form == ".parquet" else "line"
    asked = rows.read(file, columns)
    if form in (".csv", ".parquet"):
        asked = [(line, _without_empty(values)) for line, values in asked]
    return _make_items(
        asked, str(path), task, make, forms=forms, found=found, unit=unit, in_csv=form == ".csv"
    )


def items_from_script(
    questions: Sequence[str | Mapping[str, Any]],
    task: str,
    make: Callable[[dict[str, Any], str, bool], list[Item]],
    *,
    forms: str,
    found: doubts.Found | None,
    text_field: str = "text",
) -> list[Item]:
    """As `read_items`, of the fields of lines.

    Args:
        text_field: of which a text alone is the value.
    """
    if isinstance(questions, (str, Mapping)):
        raise UserError("give a list of questions, also where there is one")
    asked: list[rows.Row] = []
    for number, question in enumerate(questions):
        if isinstance(question, str):
            asked.append((number, {text_field: question}))
        elif isinstance(question, Mapping):
            asked.append((number, dict(question)))
        else:
            asked.append((number, ValueError(f"is of type {type(question).__name__}")))
    if not asked:
        return []
    return _make_items(asked, "the questions", task, make, forms=forms, found=found, unit="question")


def _without_empty(values: dict[str, Any] | ValueError) -> dict[str, Any] | ValueError:
    """A row's cells that say something."""
    if isinstance(values, ValueError):
        return values
    return {name: value for name, value in values.items() if value not in (None, "")}


def _make_items(
    asked: Sequence[rows.Row],
    where: str,
    task: str,
    make: Callable[[dict[str, Any], str, bool], list[Item]],
    *,
    forms: str,
    found: doubts.Found | None,
    unit: str,
    in_csv: bool = False,
) -> list[Item]:
    not_shown = unshown.Unshown()
    items: list[Item] = []
    line_of: dict[str, int] = {}
    faults = []
    for number, (line, values) in enumerate(asked):
        try:
            if isinstance(values, ValueError):
                raise ValueError(f"{values}; {forms}")
            named = text(values, "example_id") if "example_id" in values else f"{task}/input/{number}"
            of_line = make(values, named, in_csv)
            for item in of_line:
                if (first := line_of.get(item.example_id)) is not None:
                    raise ValueError(
                        f"example_id {rows.show(item.example_id)} is also that of {unit} {first}; make it another"
                    )
                line_of[item.example_id] = line
        except ValueError as error:
            faults.append((line, str(error)))
        else:
            items += of_line
            not_shown.look(line, values, of_line[0].text)
    if faults:
        raise UserError(f"{where}, {rows.describe(faults, len(asked), unit=unit)}")
    if not items:
        raise UserError(f"{where} has no questions; {forms} in a JSON object a line")
    if found is not None:
        found.notes += not_shown.notes(where, len(asked), unit)
    return items


def _make_examples(
    values: dict[str, Any], task: tasks.Task, name: str, *, in_csv: bool
) -> list[tasks.Example]:
    if "text" in values:
        return [tasks.Example(name, name, text(values, "text"), 0)]
    if "question" not in values:
        raise ValueError(f"has no text; {_FORMS}")
    context = ""
    given = "passage" if "passage" in values else "context"
    is_wanted = not {*unshown.PASSAGES}.isdisjoint(task.columns) or values.get(given) is not None
    if is_wanted and values.get(given) != "":  # some tasks have passages now and then
        context = text(values, given)
    question = tasks.Question(name, text(values, "question"), None, 0, context)
    is_plain_text = task.format is tasks.format_text
    if is_plain_text and not task.is_generated and {"answer", "choices"} & values.keys():
        raise ValueError(f"questions of {task.name} are texts without an answer behind them; give text")
    if is_plain_text or task.is_generated or "true/false" in task.columns.values():
        return [_show_choice(task, question, "")]
    if "choices" not in values:
        return [_show_choice(task, question, text(values, "answer"))]
    choices, _ = choice_rows.texts_and_labels(values["choices"], in_csv=in_csv, fewest=1)
    return [
        _show_choice(task, dataclasses.replace(question, question_id=f"{name}:{i}"), choice)
        for i, choice in enumerate(choices)
    ]


def _show_choice(task: tasks.Task, question: tasks.Question, choice: str) -> tasks.Example:
    """The example of a question that shows a choice, whether right or wrong, or "" for none."""
    if choice and task.format(question, choice) == task.format(question, ""):
        raise ValueError(f"question {rows.show(question.text)} has no place for the answer; put _ there")
    showing = dataclasses.replace(task, format=lambda asked, _: task.format(asked, choice))
    (example,) = tasks.convert(showing, [question], mode="all", seed=0)
    return example


def text(values: dict[str, Any], field: str) -> str:
    """A line's text in a field; ValueError with the remedy where it has none."""
    try:
        return rows.text(values, field)
    except ValueError as error:
        raise ValueError(f"{error}; mend or remove the line") from None
