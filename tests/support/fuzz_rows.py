"""Cases of `support.fuzz`: files of questions and of numbers, damaged in values, columns, encoding and bytes."""

import csv
import io
import json
import pathlib
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from support import fuzz

from selw2s_jax.data import by_id, question_files, sources, task_files, tasks

_FORMS = {
    "texts": {"text": "the number 4 is even", "label": 1},
    "choices": {"question": "Which is red?", "choices": ["a rose", "grass", "snow"], "answer": 0},
    "letters": {"question": "Which is red?", "choices": ["a rose", "grass", "snow"], "answer": "B"},
    "hub": {"question": "Which?", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
    "solutions": {"question": "2 + 2?", "solution": "2 + 2 = 4\n\n#### 4"},
}
_ENCODINGS = (
    "utf-8",
    "utf-8",
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-be",
    "utf-32",
    "latin-1",
    "cp1252",
    "utf-7",
)
_TYPES = (
    pa.string(), pa.string_view(), pa.large_string(), pa.binary(), pa.int8(), pa.float64(), pa.bool_(), pa.null(),
    pa.decimal128(9, 2), pa.timestamp("ns"), pa.date32(), pa.dictionary(pa.int8(), pa.string()), pa.duration("ns"),
    pa.time64("ns"), pa.float16(), pa.uint64(),
)  # fmt: skip


def _rows(generator: random.Random, form: dict[str, Any], most: int = 5) -> list[dict[str, Any]]:
    """A few rows of a form, about half of the files with one or more that are damaged."""
    rows = [dict(form) for _ in range(generator.randint(1, most))]
    for _ in range(generator.choice((0, 0, 0, 1, 1, 2))):
        place = generator.randrange(len(rows))
        if rows[place]:
            rows[place] = fuzz.damage_values(generator, rows[place])
    return rows


def _jsonl(generator: random.Random, rows: list[dict[str, Any]]) -> str:
    lines = [json.dumps(row, ensure_ascii=generator.random() < 0.5) for row in rows]
    if generator.random() < 0.1:
        lines[0] = lines[0].replace("{", '{"text": "twice", "text": 3, ', 1)
    return generator.choice(("\n", "\n", "\r\n", "\r", "\n\n")).join(lines)


def _csv(generator: random.Random, rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if generator.random() < 0.1 and names:
        names.append(generator.choice(names))
    file = io.StringIO()
    writer = csv.writer(
        file, delimiter=generator.choice(",,,;\t|"), lineterminator=generator.choice(("\n", "\r\n", "\r"))
    )
    writer.writerow(names)
    for row in rows:
        cells = [row.get(name) for name in names]
        writer.writerow([json.dumps(cell) if isinstance(cell, list | dict) else cell for cell in cells])
    return file.getvalue()


def _table(generator: random.Random, rows: list[dict[str, Any]]) -> pa.Table | None:
    """The rows as Arrow has them, some columns of another type; None where it cannot."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            column = pa.array(values)
            if generator.random() < 0.1:
                column = column.cast(generator.choice(_TYPES))
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            column = pa.nulls(len(rows), generator.choice(_TYPES))
        columns.append(column)
    if names and generator.random() < 0.1:
        names.append(generator.choice(names))
        columns.append(columns[0])
    return pa.table(columns, names=names) if columns else None


def write(generator: random.Random, path: pathlib.Path, rows: list[dict[str, Any]]) -> str:
    """Writes rows in the format of a path's name, and damages the file now and then; what was done."""
    done = f"{path.name} of {str(rows)[:200]!r}"
    if path.suffix == ".parquet":
        table = _table(generator, rows)
        try:
            pq.write_table(pa.table({}) if table is None else table, path)
        except (pa.ArrowException, ValueError):
            path.write_bytes(b"PAR1")
        content = path.read_bytes()
    else:
        encoding = generator.choice(_ENCODINGS)
        text = (_csv if path.suffix == ".csv" else _jsonl)(generator, rows)
        content = text.encode(
            encoding, "surrogatepass" if encoding.startswith("utf") and encoding != "utf-7" else "replace"
        )
        done += f" in {encoding}"
    if generator.random() < 0.3:
        for _ in range(generator.randint(1, 3)):
            content = fuzz.damage_bytes(generator, content)
        done += ", bytes damaged"
    path.write_bytes(content)
    return done


def _check_examples(task: tasks.Task, questions: list[tasks.Question]) -> None:
    """That questions can be asked as they are: texts that are some, labels of two kinds, choices that differ."""
    assert questions
    for mode in tasks.CONVERSIONS:
        for example in tasks.convert(task, questions, mode=mode, seed=0):
            assert example.text.strip() and example.text.encode() and example.label in (0, 1), example
    for question in questions:
        if question.choices is not None:
            assert len({choice.strip() for choice in question.choices}) == len(question.choices) > 1, question
            assert 0 <= question.answer < len(question.choices) and tasks.wrong_choices(question), question


@fuzz.register("rows")
def own_questions(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A user's own file of questions."""
    form = generator.choice(list(_FORMS.values()))
    path = folder / f"own{generator.choice(('.jsonl', '.csv', '.parquet'))}"
    what = write(generator, path, _rows(generator, form))

    def check(questions) -> None:
        _check_examples(task_files.user_task("mine", questions), questions)

    return fuzz.Case(what, lambda: task_files.load_user_questions(str(path), "mine", "train"), check)


@fuzz.register("questions to be asked")
def asked_questions(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A file of questions for a student."""
    forms = [*_FORMS.values(), {"question": "is it?", "context": "It is.", "example_id": "mine"}]
    path = folder / f"in{generator.choice(('.jsonl', '.jsonl', '.csv', '.parquet', ''))}"
    what = write(generator, path, _rows(generator, generator.choice(forms)))
    task = tasks.TASKS[generator.choice(list(tasks.TASKS))]

    def check(examples) -> None:
        assert examples and len({one.example_id for one in examples}) == len(examples)
        assert all(one.text.strip() and one.text.encode() for one in examples)

    return fuzz.Case(f"{what} for {task.name}", lambda: question_files.read(path, task), check)


@fuzz.register("numbers by example_id")
def numbers(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A file of labels or scores."""
    path = folder / f"scores{generator.choice(('.jsonl', '.jsonl', '.csv', '.parquet'))}"
    rows = [
        row | {"example_id": f"a{i}"}
        for i, row in enumerate(_rows(generator, {"p_ik": 0.5, "example_id": "a"}))
    ]
    what = write(generator, path, rows)

    def check(values) -> None:
        assert all(isinstance(name, str) and 0 <= value <= 1 for name, value in values.items()), values

    return fuzz.Case(what, lambda: by_id.read_values(str(path), "p_ik", 0, 1), check)


_OF_TASKS = {
    "sciq": {
        "question": "q",
        "correct_answer": "r",
        "distractor1": "x",
        "distractor2": "y",
        "distractor3": "z",
    },
    "boolq": {"passage": "p", "question": "q", "answer": True},
    "arc": {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"},
    "cosmos_qa": {"context": "c", "question": "q", "label": 1} | {f"answer{i}": f"a{i}" for i in range(4)},
    "winogrande": {"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "1"},
    "gsm8k": {"question": "q", "answer": "4\n#### 4"},
}


@fuzz.register("data sets")
def data_sets(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A folder of a registered task, named as we or the hub's clients do."""
    task = tasks.TASKS[generator.choice(list(_OF_TASKS))]
    what = ""
    for subset in task.subsets:
        place = folder / subset.folder / generator.choice(("", "", "data", "train"))
        place.mkdir(parents=True, exist_ok=True)
        names = generator.choice(
            (["train"], ["train-00000-of-00001"], ["0000"], ["train-00000-of-00002", "train-1-of-2"])
        )
        for name in names:
            what += write(generator, place / f"{name}.parquet", _rows(generator, _OF_TASKS[task.name]))
    return fuzz.Case(
        what,
        lambda: sources.load_questions(task, "train", source=str(folder)),
        lambda questions: all(one.text for one in questions),
    )
