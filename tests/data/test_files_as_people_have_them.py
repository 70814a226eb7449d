"""Files of questions in the forms that spreadsheets, table libraries and the hub leave them in."""

import csv
import json
import os
import re
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selw2s_jax.data import by_id, doubts, question_files, rows, task_files, tasks
from selw2s_jax.errors import UserError

TEXTS = [{"text": "Größer, «so»", "label": 1}, {"text": "b", "label": 0}]
COMMAS = 'text,label\n"Größer, «so»",1\nb,0\n'
TABS = "text\tlabel\nGrößer, «so»\t1\nb\t0\n"
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in TEXTS)


def load(path, found=None) -> list[tasks.Question]:
    return task_files.load_user_questions(str(path), "mine", "train", found=found)


def load_rows(tmp_path, some: list[dict], found=None) -> list[tasks.Question]:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in some))
    return load(path, found)


def refusal(read, *args) -> str:
    with pytest.raises(UserError) as caught:
        read(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "UTF-8 with a mark": ("a.csv", COMMAS.encode("utf-8-sig")),
        "UTF-16 with a mark": ("a.csv", COMMAS.encode("utf-16")),
        "UTF-16, big end first": ("a.csv", b"\xfe\xff" + COMMAS.encode("utf-16-be")),
        "UTF-16 without a mark": ("a.csv", COMMAS.encode("utf-16-le")),
        "UTF-32": ("a.csv", COMMAS.encode("utf-32")),
        "UTF-16 lines of JSON": ("a.jsonl", JSONL.encode("utf-16")),
        "UTF-16 lines of JSON, no mark": ("a.jsonl", JSONL.encode("utf-16-be")),
        "Unicode text with tabs": ("a.csv", TABS.encode("utf-16")),
        "semicolons": ("a.csv", b'\xef\xbb\xbftext;label\r\n"Gr\xc3\xb6\xc3\x9fer, \xc2\xabso\xc2\xbb";1\r\nb;0\r\n'),
        "lines that end in CR": ("a.jsonl", JSONL.replace("\n", "\r").encode()),
        "cells that end in CR": ("a.csv", COMMAS.replace("\n", "\r").encode()),
        "a mark before each line": ("a.jsonl", JSONL.replace("{", "\ufeff{").encode()),
        "empty columns behind": ("a.csv", re.sub("([l01])\n", r"\1,,\n", COMMAS).encode()),
    }.values(),
)  # fmt: skip
def test_text_in_any_unicode_and_with_any_delimiter(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert [(one.text, one.answer) for one in load(tmp_path / name)] == [("Größer, «so»", 1), ("b", 0)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize(
    "content", [b"\xff\xfet\x00e", b"\xff\xfe\x00\xd8\x0a\x00", b"\xff\xfe\x00\x00\xff\xff\xff\xff"]
)
def test_damaged_unicode_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert str(tmp_path / name) in refusal(load, tmp_path / name)


def test_a_cell_is_as_long_as_it_likes(tmp_path):
    long = "word " * 60_000
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], ["a", 1], [long, 0], ["b", 1]])
    assert [one.text for one in load(tmp_path / "a.csv")] == ["a", long, "b"]


@pytest.mark.parametrize(
    ("value", "label"), [(1.0, 1), (0.0, 0), ("1.0", 1), ("0.", 0), (" 1 ", 1), ("TRUE", 1)]
)
def test_labels_that_were_floats(tmp_path, value, label):
    (found,) = load_rows(tmp_path, [{"text": "a", "label": value}])
    assert found.answer == label
    (tmp_path / "a.csv").write_text(f"text,label\na,{value}\n")
    assert load(tmp_path / "a.csv")[0].answer == label


@pytest.mark.parametrize(
    "value", [0.5, float("nan"), float("inf"), -1.0, 2.0, "", "1e0", "one", None, [1], 1e300]
)
def test_labels_that_are_none(tmp_path, value):
    assert "line 2: label must be 0 or 1" in refusal(
        load_rows, tmp_path, [{"text": "a", "label": 1}, {"text": "b", "label": value}]
    )


@pytest.mark.parametrize(
    ("choices", "answer", "right"),
    [
        (["w", "x", "y"], "B", "x"),
        (["w", "x", "y"], "c", "y"),
        (["w", "x", "y"], " A ", "w"),
        (["B", "A"], "A", "A"),  # the choice that is the letter
        (["w", "x", "y"], 2.0, "y"),
        (["w", "x", "y"], " x", "x"),
        ({"text": ["w", "x", "y"], "label": ["A", "B", "C"]}, "B", "x"),
        ({"text": ["w", "x", "y"], "label": ["1", "2", "3"]}, "1", "w"),
        ({"text": ["w", "x", "y"], "label": [1, 2, 3]}, 3.0, "y"),
        ({"text": ["1", "2", "3"], "label": ["A", "B", "C"]}, "C", "3"),
        ({"text": ["A", "C", "B"], "label": ["A", "B", "C"]}, "B", "C"),  # by its label
        ({"text": ["w", "x"]}, 1, "x"),
        ([{"text": "w", "label": "A"}, {"text": "x", "label": "B"}], "B", "x"),
    ],
)
@pytest.mark.parametrize("column", ["answer", "answerKey"])
def test_choices_and_answers_of_the_hub(tmp_path, choices, answer, right, column):
    row = {"question": "q", "choices": choices, column: answer}
    (tmp_path / "a.csv").write_text("")
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([row.keys(), ["q", json.dumps(choices), answer]])
    for found in (load_rows(tmp_path, [row]), load(tmp_path / "a.csv")):
        assert [one.choices[one.answer] for one in found] == [right]


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("['x', 'y']", ("x", "y")),
        ("""["it's", 'y']""", ("it's", "y")),
        ("{'text': ['x', 'y'], 'label': ['A', 'B']}", ("x", "y")),
        ("['a \\\\ b', 'y']", ("a \\ b", "y")),
    ],
)
def test_lists_in_cells_as_table_libraries_write_them(tmp_path, cell, texts):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["question", "choices", "answer"], ["q", cell, "B"]])
    (found,) = load(tmp_path / "a.csv")
    assert (found.choices, found.answer) == (texts, 1)


@pytest.mark.parametrize(
    "cell", ["['x' 'y']", "__import__('os').getcwd()", "[" * 5000, "x|y", "('x', 'y')", "1 +" * 50]
)
def test_cells_that_hold_no_list_are_refused(tmp_path, cell):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["question", "choices", "answer"], ["q", cell, 0]])
    assert "line 2: choices " in refusal(load, tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("choices", "answer", "fault"),
    [
        (["w", "x"], "C", "a letter from A to B or a choice's text, found 'C'"),
        (["w", "a"], "A", "names two choices"),
        (["w", "x"], 2, "found 2"),
        (["w", "x"], 0.5, "found 0.5"),
        (["w", "x"], float("nan"), "found nan"),
        ({"text": ["w", "x"], "label": ["A", "B"]}, "C", "one of A, B"),
        ({"text": ["w", "x"], "label": ["A", "A"]}, "A", "occur twice"),
        ({"text": ["w", "x"], "label": ["A"]}, "A", "2 texts and other labels"),
        ({"text": ["w", "x"], "label": ["A", None]}, "A", "empty"),
        ({"text": "wx", "label": "AB"}, "A", "a list of at least two texts"),
        ([{"text": "w"}, {"txt": "x"}], 0, "choices must be text, found nothing"),
    ],
)
def test_choices_and_answers_that_do_not_go_together(tmp_path, choices, answer, fault):
    good = {"question": "q", "choices": ["w", "x"], "answer": 0}
    message = refusal(load_rows, tmp_path, [good, {"question": "q", "choices": choices, "answer": answer}])
    assert "line 2: " in message and fault in message


@pytest.mark.parametrize(
    ("choices", "answer", "kept"),
    [
        (["x", "y", "x", "z"], 3, (("x", "y", "z"), 2)),
        (["x", "y", "x "], 2, (("x", "y"), 0)),
        (["x", "x", "x", "y"], "y", (("x", "y"), 1)),
        ({"text": ["x", "x", "y"], "label": ["A", "B", "C"]}, "B", (("x", "y"), 0)),
    ],
)
def test_a_choice_is_taken_once(tmp_path, choices, answer, kept):
    found = doubts.Found()
    rows_ = [
        {"question": "q", "choices": choices, "answer": answer},
        {"question": "q", "choices": ["v", "w"], "answer": 0},
    ]
    questions = load_rows(tmp_path, rows_, found)
    assert (questions[0].choices, questions[0].answer) == kept
    assert "1 of 2 questions offer the same choice twice" in found.notes[0]


@pytest.mark.parametrize("choices", [["x", "X"], ["x", "x"], ["AA", "Aa", "aa"]])
def test_questions_without_a_wrong_choice_are_left_out(tmp_path, choices):
    found = doubts.Found()
    good, none = ({"question": "q", "choices": one, "answer": 0} for one in (["v", "w"], choices))
    assert [one.question_id for one in load_rows(tmp_path, [none, good], found)] == ["mine/train/1"]
    assert "1 of 2 questions left out" in found.notes[0] and "line 1: choices" in found.notes[0]
    assert "2 of 2 rows are bad" in refusal(load_rows, tmp_path, [none, none])


@pytest.mark.parametrize(
    ("answers", "is_doubted"), [([1, 2, 3] * 9, True), ([0, 1, 2, 3] * 9, False), ([1, 2, 3], False)]
)
def test_answers_that_seem_to_be_counted_from_1(tmp_path, answers, is_doubted):
    found = doubts.Found()
    choices = ["w", "x", "y", "z"]
    some = [{"question": f"q{i}", "choices": choices, "answer": answer} for i, answer in enumerate(answers)]
    load_rows(tmp_path, some, found)
    assert [f"none of {len(answers)} answers is 0" in one.observation for one in found.doubts] == [
        True
    ] * is_doubted
    in_letters = [one | {"answer": "ABCD"[one["answer"]]} for one in some]
    load_rows(tmp_path, in_letters, lettered := doubts.Found())
    assert not lettered.doubts
    message = refusal(load_rows, tmp_path, [*some, some[0] | {"answer": 4}])
    assert f"line {len(some) + 1}: answer" in message and ("are these from 1?" in message) == (
        0 not in answers
    )


def test_all_bad_rows_are_counted(tmp_path):
    message = refusal(load_rows, tmp_path, [{"text": "a", "label": i % 2 * 3} for i in range(60)])
    assert "30 of 60 rows are bad: line 2: label" in message and "(+20 more: lines 22, 24," in message
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a"}\n' + "{}\n" * 12)
    message = refusal(question_files.read, path, tasks.get_task("sciq"))
    assert "12 of 13 rows are bad: line 2: has no text" in message and "(+2 more: lines 12, 13)" in message


# Parquet.


@pytest.mark.parametrize(
    "kind", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_columns_of_any_kind_of_text(tmp_path, kind):
    texts = (
        pa.array(["a", "b"]).dictionary_encode()
        if pa.types.is_dictionary(kind)
        else pa.array(["a", "b"], kind)
    )
    pq.write_table(pa.table({"text": texts, "label": pa.array([1.0, 0.0])}), tmp_path / "a.parquet")
    assert [(one.text, one.answer) for one in load(tmp_path / "a.parquet")] == [("a", 1), ("b", 0)]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.string(), 2)], ids=str
)
@pytest.mark.parametrize("has_labels", [True, False])
def test_choices_of_any_kind_of_list(tmp_path, kind, has_labels):
    choices = pa.array([["x", "y"], ["v", "w"]], kind)
    if has_labels:
        labels = pa.array([["A", "B"], ["1", "2"]], kind)
        choices = pa.StructArray.from_arrays([choices, labels], ["text", "label"])
    answers = ["B", "1"] if has_labels else ["B", "v"]
    table = pa.table({"question": ["p", "q"], "choices": choices, "answerKey": answers})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [one.choices[one.answer] for one in load(tmp_path / "a.parquet")] == ["y", "v"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"text,label,label\na,0,1\n"),
        ("a.csv", b"text,text,label\na,b,1\n"),
        ("a.jsonl", b'{"text": "a", "label": 0, "label": 1}\n'),
        ("a.jsonl", b'{"question": "q", "choices": {"text": ["a", "b"], "text": ["b", "a"]}, "answer": 0}\n'),
    ],
)
def test_a_column_that_occurs_twice_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "occurs twice" in refusal(load, tmp_path / name)


def test_a_parquet_column_that_occurs_twice_is_named(tmp_path):
    columns = [pa.array(["a"]), pa.array([0]), pa.array([1])]
    pq.write_table(pa.table(columns, names=["text", "label", "label"]), tmp_path / "a.parquet")
    assert "the column label occurs twice" in refusal(load, tmp_path / "a.parquet")
    pq.write_table(pa.table(columns, names=["text", "other", "other"]), tmp_path / "a.parquet")
    assert "found: 'text')" in refusal(load, tmp_path / "a.parquet")
    pq.write_table(
        pa.table([*columns, columns[0], columns[0]], names=["text", "label", "n", "x", "x"]),
        tmp_path / "a.parquet",
    )
    assert load(tmp_path / "a.parquet")[0].text == "a"


# What is no file.


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to nothing", "link to a pipe"])
def test_what_is_no_file_is_refused_at_once(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to nothing":
        path.symlink_to(tmp_path / "none")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    readers = (
        lambda: load(path),
        lambda: by_id.read_values(str(path), "label", 0, 1),
        lambda: question_files.read(path, tasks.get_task("sciq")),
    )
    for read in readers:
        found = []
        thread = threading.Thread(
            target=lambda read=read, found=found: found.append(refusal(read)), daemon=True
        )
        thread.start()
        thread.join(10)
        assert found and "is missing or not a file" in found[0]


def test_a_link_to_a_file_is_that_file(tmp_path):
    load_rows(tmp_path, TEXTS)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "own.jsonl")
    assert len(load(tmp_path / "link.jsonl")) == 2


# Numbers by example_id.


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-0.1", '"nan"', "[0.5]", "{}", '"x"', "null"])
def test_numbers_of_own_files_are_finite_and_in_range(tmp_path, value):
    path = tmp_path / "scores.jsonl"
    path.write_text(f'{{"example_id": "a", "p_ik": 0.5}}\n{{"example_id": "b", "p_ik": {value}}}\n')
    assert f"{path}, line 2: " in refusal(by_id.read_values, str(path), "p_ik", 0, 1)


def test_numbers_in_other_formats(tmp_path):
    (tmp_path / "a.csv").write_bytes("example_id;p_ik\na;0.5\n".encode("utf-16"))
    pq.write_table(pa.table({"example_id": ["a"], "p_ik": [0.5]}), tmp_path / "a.parquet")
    for path in (tmp_path / "a.csv", tmp_path / "a.parquet"):
        assert by_id.read_values(str(path), "p_ik", 0, 1) == {"a": 0.5}


# Questions for a student.


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_passages_that_no_text_shows_are_counted(tmp_path, form):
    """Those of text alone: what a column of that name holds else is not read."""
    some = [
        {"question": "Why?", "choices": '["a", "b"]', "answer": "a", "context": "It rained."},
        {"question": "It rained. Why?", "choices": '["a", "b"]', "answer": "a", "context": "It rained."},
        {"question": "Why?", "choices": '["a", "b"]', "answer": "b", "context": ""},
    ]
    path, found = tmp_path / f"mine.{form}", doubts.Found()
    if form == "jsonl":
        some = [row | {"choices": json.loads(row["choices"])} for row in some]
        path.write_text("".join(json.dumps(row) + "\n" for row in some))
    elif form == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, some[0])
            writer.writeheader()
            writer.writerows(some)
    else:
        columns = {name: [row[name] for row in some] for name in some[0]}
        columns |= {"choices": [["a", "b"]] * 3, "passage": [1, 2, 3]}
        pq.write_table(pa.table(columns), path)
    assert [question.text for question in load(path, found)] == [row["question"] for row in some]
    where = {"jsonl": "line 1", "csv": "line 2", "parquet": "row 1"}[form]
    assert found.notes == [
        f"{path}: 1 of 3 rows have a context that the models do not read, as their text does not show it "
        f"(first in {where}): put it into question or text"
    ]


def test_questions_to_be_asked_in_any_form(tmp_path):
    choices = ["x", "y"]
    hub = {"text": choices, "label": ["A", "B"]}
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "q", "choices": hub, "answerKey": "B"}))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        rows_ = [["question", "choices", "example_id"], ["q", json.dumps(choices), ""]]
        csv.writer(file, delimiter=";").writerows(rows_)
    pq.write_table(
        pa.table({"question": ["q"], "choices": [choices], "text": [None]}), tmp_path / "a.parquet"
    )
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        found = question_files.read(tmp_path / name, tasks.get_task("sciq"))
        assert [one.text for one in found] == ["Q: q A: x", "Q: q A: y"]
        assert [one.example_id for one in found] == ["sciq/input/0:0", "sciq/input/0:1"]


def test_values_are_shown_in_a_line():
    nested: list = []
    for _ in range(10_000):
        nested = [nested]
    for value in (nested, "\x1b[31m\n", 10**4000, float("nan"), {"a": "\u202e"}):
        shown = rows.show(value)
        assert shown.isprintable() and shown.isascii() and len(shown) <= 40
