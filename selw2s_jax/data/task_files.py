"""A user's own questions from a JSONL, CSV or parquet file.

Three forms, told apart by the columns (further columns are ignored):

- `text,label`: `text` is what the models read; `label` is 0 or 1, and true or false are taken for 1 and 0.
- `question,choices,answer`: `choices` is a list of at least two different texts, in CSV a JSON list in the
  cell (`"[""red"", ""blue""]"`); `answer` is the index of the right choice from 0, or its text. In CSV, where
  everything is text, a cell that is one choice's text and another one's index is refused.
- `question,solution`: the model writes its answer, right where it ends in the number that `solution` ends in,
  as in GSM8K; `solution` is what a solved problem of the few-shot prompt shows, or the number alone.

`data.rows` says how files of each format are read.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from selw2s_jax import errors
from selw2s_jax.data import by_id, gsm8k, tasks
from selw2s_jax.data import rows as rows_lib
from selw2s_jax.runtime import remote

FORMATS = (".jsonl", ".csv", ".parquet")
_TEXT_COLUMNS = ("text", "label")
_CHOICE_COLUMNS = ("question", "choices", "answer")
_SOLUTION_COLUMNS = ("question", "solution")
_LABELS = {"0": 0, "1": 1, "false": 0, "true": 1}
_FORMS = f"{','.join(_TEXT_COLUMNS)}; {','.join(_CHOICE_COLUMNS)}; or {','.join(_SOLUTION_COLUMNS)}"
_MAX_FAULTS = 10
_HOLDOUT_SHARE = 0.2


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
    task_name: str, train_path: str, test_path: str | None = None
) -> tuple[list[tasks.Question], list[tasks.Question]]:
    """Train and test questions of a user's files.

    Without a test file about 20 % of the train file is held out, by a hash of the question's text: the same
    rows for every seed, and rows of one text stay together.

    Raises:
        UserError: as `load_user_questions`; or the files differ in form; or nothing can be held out.
    """
    train = load_user_questions(train_path, task_name, "train")
    if test_path is not None:
        test = load_user_questions(test_path, task_name, "test")
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


def load_user_questions(path: str, task_name: str, split: str) -> list[tasks.Question]:
    """Reads one file; question_id is `"{task_name}/{split}/{row}"`, rows counted from 0.

    Raises:
        UserError: no such file, unknown format, empty, missing columns (those found are named), or bad rows:
          every one of them with its line and fault in one message (the first ten, then their number).
    """
    file = remote.local_copy(path)
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise errors.UserError(f"{path}: unknown format {file.suffix!r}; use one of {', '.join(FORMATS)}")
    if not file.is_file():
        raise errors.UserError(f"{path} is missing or not a file; check the path")
    try:
        rows = list(_read_rows(file))
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be read ({error.strerror or error}); check the file"
        ) from error
    if not rows:
        raise errors.UserError(f"{path} has no rows; give the columns {_FORMS}")
    parse = _choose_parser(path, rows)
    questions = []
    faults = []
    for row, (line, values) in enumerate(rows):
        try:
            if isinstance(values, ValueError):
                raise values
            questions.append(parse(f"{task_name}/{split}/{row}", values, in_csv=suffix == ".csv"))
        except ValueError as error:
            faults.append(f"{'row' if suffix == '.parquet' else 'line'} {line}: {error}")
    if faults:
        more = f" (+{len(faults) - _MAX_FAULTS} more)" if len(faults) > _MAX_FAULTS else ""
        raise errors.UserError(
            f"{path}: {'; '.join(faults[:_MAX_FAULTS])}{more}; mend or remove what is named"
        )
    return questions


def _read_rows(file: pathlib.Path) -> Iterator[rows_lib.Row]:
    match file.suffix.lower():
        case ".jsonl":
            return rows_lib.read_jsonl(file)
        case ".csv":
            return rows_lib.read_csv(file)
        case _:
            return rows_lib.read_parquet(file, {name for columns in _PARSERS for name in columns})


def _form(question: tasks.Question) -> tuple[bool, bool]:
    return question.choices is None, bool(question.solution)


def _choose_parser(path: str, rows: list[rows_lib.Row]) -> Callable[..., tasks.Question]:
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
        names = ", ".join(rows_lib.show(name) for name in list(found)[:_MAX_FAULTS]) or "none"
        raise errors.UserError(f"{path}: needs the columns {_FORMS} (found: {names})")
    return _parse_text  # no row could be read: each is named by its own fault


def _parse_text(question_id: str, values: dict[str, Any], in_csv: bool) -> tasks.Question:
    del in_csv  # the same in every format
    text = rows_lib.text(values, "text")
    value = values.get("label")
    label = _LABELS.get(str(value).strip().lower()) if isinstance(value, str | int) else None
    if label is None:
        raise ValueError(f"label must be 0 or 1, found {rows_lib.show(value)}")
    return tasks.Question(question_id, text, None, label)


def _parse_choices(question_id: str, values: dict[str, Any], in_csv: bool) -> tasks.Question:
    text = rows_lib.text(values, "question")
    choices = values.get("choices")
    if in_csv and isinstance(choices, str):
        try:
            choices = json.loads(choices)
        except (ValueError, RecursionError):
            raise ValueError(f"choices is not a JSON list: {rows_lib.show(choices)}") from None
    if not isinstance(choices, list) or len(choices) < 2:
        raise ValueError(f"choices must be a list of at least two texts, found {rows_lib.show(choices)}")
    choices = tuple(rows_lib.text({"choices": choice}, "choices") for choice in choices)
    if len({choice.strip() for choice in choices}) < len(choices):
        raise ValueError(f"choices has the same text twice: {rows_lib.show(list(choices))}")
    if len({choice.strip().casefold() for choice in choices}) < 2:
        raise ValueError(f"choices differ in case only: {rows_lib.show(list(choices))}")
    return tasks.Question(question_id, text, choices, _answer_index(values.get("answer"), choices, in_csv))


def _parse_solution(question_id: str, values: dict[str, Any], in_csv: bool) -> tasks.Question:
    del in_csv  # the same in every format
    text, solution = rows_lib.text(values, "question"), values.get("solution")
    if isinstance(solution, int | float) and not isinstance(solution, bool):
        values = values | {"solution": str(solution)}
    solution = tasks.without_blank_lines(rows_lib.text(values, "solution"))
    if gsm8k.parse_answer(solution) is None:
        raise ValueError(f"solution has no number: {rows_lib.show(solution)}")
    return tasks.Question(question_id, text, None, 0, solution=solution)


_PARSERS: dict[tuple[str, ...], Callable[..., tasks.Question]] = {
    _TEXT_COLUMNS: _parse_text,
    _CHOICE_COLUMNS: _parse_choices,
    _SOLUTION_COLUMNS: _parse_solution,
}


def _answer_index(value: Any, choices: tuple[str, ...], in_csv: bool) -> int:
    as_text = as_index = None
    if isinstance(value, str):
        if value in choices:
            as_text = choices.index(value)
        digits = value.strip()
        if in_csv and digits.isascii() and digits.isdigit() and len(digits) < 10:
            as_index = int(digits)
    elif isinstance(value, int) and not isinstance(value, bool):
        as_index = value
    if as_index is not None and not 0 <= as_index < len(choices):
        as_index = None
    if as_text is None and as_index is None:
        raise ValueError(
            f"answer must be an index from 0 to {len(choices) - 1} or a choice's text, found {rows_lib.show(value)}"
        )
    if as_text is not None and as_index is not None and as_text != as_index:
        raise ValueError(
            f"answer {rows_lib.show(value)} is one choice's text and another's index; use .jsonl to tell them apart"
        )
    return as_index if as_text is None else as_text
