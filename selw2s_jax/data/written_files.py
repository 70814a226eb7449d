"""Questions without ground truth from a user's file or script, for a model that writes answers.

The file is JSONL, or CSV or parquet by its name, as `data.question_files` has it, with the fields

- `question`;
- `choices`, of a task whose answers are choices, a list in any form of `data.choice_rows`; of one of two words those,
  which may be missing where the task has one pair;
- `context` (`passage` is the same), where the task's prompts show one, as the subject of MMLU's questions;
- `example_id`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from selw2s_jax.data import choice_rows, doubts, question_files, rows, tasks, written_tasks

_COLUMNS = ("example_id", "question", "choices", "context", "passage")
_FORMS = {
    "choice": "give question and choices",
    "words": "give question, and the two words as choices",
    "number": "give question",
}


def read(
    path: os.PathLike | str, task: written_tasks.WrittenTask, *, found: doubts.Found
) -> list[tasks.Question]:
    """The questions of a file, in order; the answer that each has means nothing.

    Args:
        found: is given what a reader of the results has to know of the file.

    Raises:
        UserError: no such file, unreadable or empty, or lines that are no questions of the task or have the id of
            another, as `rows.describe` names them.
    """
    items = question_files.read_items(
        path, task.name, _COLUMNS, _maker(task), forms=_FORMS[task.kind], found=found
    )
    return [item.value for item in items]


def from_script(
    questions: Sequence[str | Mapping[str, Any]], task: written_tasks.WrittenTask, *, found: doubts.Found
) -> list[tasks.Question]:
    """As `read`, of questions alone, or of the fields of lines."""
    items = question_files.items_from_script(
        questions, task.name, _maker(task), forms=_FORMS[task.kind], found=found, text_field="question"
    )
    return [item.value for item in items]


def _maker(
    task: written_tasks.WrittenTask,
) -> Callable[[dict[str, Any], str, bool], list[question_files.Item]]:
    def make(values: dict[str, Any], name: str, in_csv: bool) -> list[question_files.Item]:
        question = _make_question(values, task, name, in_csv=in_csv)
        return [question_files.Item(name, task.prompt(question), question)]

    return make


def _make_question(
    values: dict[str, Any], task: written_tasks.WrittenTask, name: str, *, in_csv: bool
) -> tasks.Question:
    if "question" not in values:
        raise ValueError(f"has no question; {_FORMS[task.kind]}")
    given = "passage" if "passage" in values else "context"
    if task.needs_context and given not in values:
        raise ValueError(f"has no context, which prompts of {task.name} show; give it too")
    context = question_files.text(values, given) if given in values else ""
    choices = _choices(values, task, in_csv=in_csv)
    question = tasks.Question(name, question_files.text(values, "question"), choices, 0, context)
    if choices is not None and (fault := task.fault(question)):
        raise ValueError(fault)
    return question


def _choices(
    values: dict[str, Any], task: written_tasks.WrittenTask, *, in_csv: bool
) -> tuple[str, ...] | None:
    if task.kind == "number":
        if "choices" in values:
            raise ValueError(f"answers of {task.name} are numbers, and choices are given; leave them out")
        return None
    known = list(task.instructions_by_words)
    if "choices" not in values:
        if len(known) == 1:
            return known[0]
        raise ValueError(f"has no choices; {_FORMS[task.kind]}{_either(known)}")
    choices, _ = choice_rows.texts_and_labels(values["choices"], in_csv=in_csv)
    if known and choices not in known:
        raise ValueError(
            f"the words of {task.name} are others than {rows.show(list(choices))}{_either(known)}"
        )
    return choices


def _either(known: list[tuple[str, str]]) -> str:
    return ": " + ", or ".join(" and ".join(words) for words in known) if known else ""
