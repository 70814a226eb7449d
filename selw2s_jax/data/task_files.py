"""A user's own questions from a JSONL, CSV or parquet file.

Three forms, told apart by the columns (further columns are ignored; a note counts passages among them):

- `text,label`: `text` is what the models read; `label` is 0 or 1, and true or false are taken for 1 and 0.
- `question,choices,answer`: `choices` is a list of at least two different texts, in CSV a JSON list in the
  cell (`"[""red"", ""blue""]"`); `answer` is the index of the right choice from 0, its letter or its text.
  `data.choice_rows` has this and the forms of it on the hub.
- `question,solution`: the model writes its answer, right where it ends in the number that `solution` ends in,
  as in GSM8K; `solution` is what a solved problem of the few-shot prompt shows, or the number alone.

`data.rows` says how files of each format are read.
"""

import dataclasses
import decimal
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from selw2s_jax import errors
from selw2s_jax.data import by_id, choice_rows, doubts, giveaways, gsm8k, tasks, unshown
from selw2s_jax.data import rows as rows_lib

_TEXT_COLUMNS = ("text", "label")
_CHOICE_COLUMNS = ("question", "choices", "answer")
_SOLUTION_COLUMNS = ("question", "solution")
_FORMS = f"{','.join(_TEXT_COLUMNS)}; {','.join(_CHOICE_COLUMNS)}; or {','.join(_SOLUTION_COLUMNS)}"
_HOLDOUT_SHARE = 0.2
# A file none of whose answers is 0 is not taken for chance where that happens less often than this.
_BY_CHANCE = 1e-3


def user_task(
    name: str, questions: Sequence[tasks.Question], *, instruction: str | None = None
) -> tasks.Task:
    """The task of a user's file, by the form of its questions; not registered.

    `text,label` rows and the questions of `question,solution` rows are shown as they are;
    `question,choices,answer` rows as `Q: {question} A: {choice}`. `instruction` replaces the general one of the
    few-shot prompt.
    """
    if questions[0].solution:
        return tasks.Task(
            name=name,
            instruction=instruction or "There is a problem. Respond with a solution that ends in a number.",
            format=tasks.format_text,
            is_correct=gsm8k.is_correct,
            stop=tasks.SOLUTION_STOP,
        )
    if questions[0].choices is None:
        general, form = tasks.judging_instruction("a statement", "it is true"), tasks.format_text
    else:
        general = tasks.judging_instruction("a question, followed by an answer", "the answer is correct")
        form = tasks.format_question_answer
    return tasks.Task(name=name, instruction=instruction or general, format=form)


def load_user_splits(
    task_name: str,
    train_path: str,
    test_path: str | None = None,
    *,
    found: doubts.Found | None = None,
    fault_of: Callable[[choice_rows.Row], str | None] | None = None,
) -> tuple[list[tasks.Question], list[tasks.Question]]:
    """Train and test questions of a user's files.

    Without a test file about 20 % of the train file is held out, by a hash of the question's text: the same
    rows for every seed, and rows of one text stay together.

    Args:
        found: is given what a reader of the results has to know of the files.
        fault_of: as of `load_user_questions`.

    Raises:
        UserError: as `load_user_questions`; or the files differ in form; or nothing can be held out.
    """
    strict = {"found": found, "fault_of": fault_of}
    train = load_user_questions(train_path, task_name, "train", **strict)
    if test_path is not None:
        test = load_user_questions(test_path, task_name, "test", **strict)
        if _form(train[0]) != _form(test[0]):
            raise errors.UserError(
                f"{train_path} and {test_path} differ in form; give both the columns {_FORMS}"
            )
        return train, test
    kept, held_out = [], []
    for question in train:
        if by_id.keyed_uniform(0, "hold out", question.text) < _HOLDOUT_SHARE:
            row = question.question_id.rsplit("/", 1)[1]
            held_out.append(dataclasses.replace(question, question_id=f"{task_name}/test/{row}"))
        else:
            kept.append(question)
    if not kept or not held_out:
        raise errors.UserError(f"{train_path} has too few questions to hold out a test set; give a test file")
    return kept, held_out


def load_user_questions(
    path: str,
    task_name: str,
    split: str,
    *,
    found: doubts.Found | None = None,
    fault_of: Callable[[choice_rows.Row], str | None] | None = None,
) -> list[tasks.Question]:
    """Reads one file; question_id is `"{task_name}/{split}/{row}"`, rows counted from 0.

    Args:
        found: is given what a reader of the results has to know of the file.
        fault_of: what is wrong with a row that can be read, None where nothing is. Where this is given, a row without a
          wrong choice is a bad one too, and not left out.

    Raises:
        UserError: no such file, unknown format, empty, missing columns (those found are named), or bad rows: how many,
          the first ten with line and fault, the others by line.
    """
    found = doubts.Found() if found is None else found
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in rows_lib.FORMATS:
        raise errors.UserError(f"{path}: unknown format {suffix!r}; use one of {', '.join(rows_lib.FORMATS)}")
    rows = rows_lib.read(rows_lib.find_file(path), _WANTED, texts=unshown.PASSAGES)
    if not rows:
        raise errors.UserError(f"{path} has no rows; give the columns {_FORMS}")
    parse = _choose_parser(path, rows)
    parsed, faults, left_out, is_past, not_shown = [], [], [], False, unshown.Unshown()
    for row, (line, values) in enumerate(rows):
        try:
            if isinstance(values, ValueError):
                raise values
            parsed.append(parse(f"{task_name}/{split}/{row}", values, in_csv=suffix == ".csv"))
            if fault_of and (fault := fault_of(parsed[-1])):
                raise ValueError(fault)
            not_shown.look(line, values, parsed[-1].question.text)
        except choice_rows.NoWrongChoiceError as error:
            (faults if fault_of else left_out).append((line, str(error)))
        except ValueError as error:
            faults.append((line, str(error)))
            is_past = is_past or isinstance(error, choice_rows.PastTheLastError)
    unit = "row" if suffix == ".parquet" else "line"
    if not parsed:
        faults = sorted(faults + left_out)
    if faults:
        hint = (
            "; no answer is 0: indices count from 0, are these from 1?"
            if _is_shifted(parsed, is_past)
            else ""
        )
        raise errors.UserError(
            f"{path}: {rows_lib.describe(faults, len(rows), unit)}; mend or remove what is named{hint}"
        )
    if left_out:
        found.notes.append(
            f"{path}: {len(left_out)} of {len(rows)} questions left out, as no wrong choice can be shown; "
            f"{unit} {left_out[0][0]}: {left_out[0][1]}"
        )
    found.notes += not_shown.notes(path, len(rows), unit)
    _look_through(path, parsed, found)
    return [one.question for one in parsed]


def _is_shifted(parsed: Sequence[choice_rows.Row], is_past: bool) -> bool:
    """Whether the answers look as if they were counted from 1: none is 0, which is hardly chance."""
    answers = [(one.index, len(one.question.choices)) for one in parsed if one.index is not None]
    if any(index == 0 for index, _ in answers):
        return False
    by_chance = math.prod(1 - 1 / num_choices for _, num_choices in answers)
    return is_past or (bool(answers) and by_chance < _BY_CHANCE)


def _look_through(path: str, parsed: Sequence[choice_rows.Row], found: doubts.Found) -> None:
    """What the rows of a good file are like as a whole."""
    if repeated := sum(one.num_repeated > 0 for one in parsed):
        found.notes.append(
            f"{path}: {repeated} of {len(parsed)} questions offer the same choice twice; each is taken once"
        )
    answers = sum(one.index is not None for one in parsed)
    if _is_shifted(parsed, is_past=False):
        found.doubts.append(
            doubts.Doubt(
                f"{path}: none of {answers} answers is 0, and answers are indices from 0",
                "if the file counts its answers from 1, every label is wrong: subtract 1",
            )
        )
    found.doubts += giveaways.of_places([one.question for one in parsed], path)


def _form(question: tasks.Question) -> tuple[bool, bool]:
    return question.choices is None, bool(question.solution)


def _choose_parser(path: str, rows: list[rows_lib.Row]) -> Callable[..., choice_rows.Row]:
    """By the columns of the first row that has all of one form; if none has, the file is refused."""
    found: dict[str, Any] = {}
    for _, values in rows:
        if isinstance(values, ValueError):
            continue
        for columns, parse in _PARSERS.items():
            if all(column in values for column in columns):
                return parse
        found |= values
    if found or not any(isinstance(values, ValueError) for _, values in rows):
        names = ", ".join(rows_lib.show(name) for name in list(found)[:10]) or "none"
        raise errors.UserError(f"{path}: needs the columns {_FORMS} (found: {names})")
    return _parse_text  # no row could be read: each is named by its own fault


def _parse_text(question_id: str, values: dict[str, Any], in_csv: bool) -> choice_rows.Row:
    del in_csv  # the same in every format
    text = rows_lib.text(values, "text")
    value = values.get("label")
    label = rows_lib.truth_value(value)
    if label is None:
        raise ValueError(f"label must be 0 or 1, found {rows_lib.show(value)}")
    return choice_rows.Row(tasks.Question(question_id, text, None, label))


def _parse_solution(question_id: str, values: dict[str, Any], in_csv: bool) -> choice_rows.Row:
    del in_csv  # the same in every format
    text, solution = rows_lib.text(values, "question"), values.get("solution")
    if isinstance(solution, int | float | decimal.Decimal) and not isinstance(solution, bool):
        values = values | {"solution": str(solution)}
    solution = tasks.without_blank_lines(rows_lib.text(values, "solution"))
    if gsm8k.parse_answer(solution) is None:
        raise ValueError(f"solution has no number: {rows_lib.show(solution)}")
    return choice_rows.Row(tasks.Question(question_id, text, None, 0, solution=solution))


_PARSERS: dict[tuple[str, ...], Callable[..., choice_rows.Row]] = {
    _TEXT_COLUMNS: _parse_text,
    **{("question", "choices", answer): choice_rows.parse for answer in choice_rows.ANSWER_COLUMNS},
    _SOLUTION_COLUMNS: _parse_solution,
}
_WANTED = {name for columns in _PARSERS for name in columns}
