"""A user's own JSONL, CSV and parquet files, good and bad."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selw2s_jax import errors
from selw2s_jax.data import task_files, tasks

LABELLED = [{"text": 'a, "b"\nc', "label": 1}, {"text": "d", "label": 0}, {"text": "é", "label": 1}]
CHOICES = [
    {"question": "Why?", "choices": ["x", "y, z"], "answer": 1},
    {"question": "How?", "choices": ["p", "q", "r"], "answer": "p"},
]


def write(path, content):
    path.write_text(content, encoding="utf-8")
    return str(path)


def write_jsonl(path, rows):
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def error_of(path, split="train"):
    with pytest.raises(errors.UserError) as caught:
        task_files.load_user_questions(str(path), "mine", split)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_three_formats_give_the_same_questions(tmp_path):
    csv_text = 'text,label\r\n"a, ""b""\nc",1\r\nd,0\r\né,1\r\n'
    pq.write_table(pa.Table.from_pylist(LABELLED), tmp_path / "a.parquet")
    paths = [
        write_jsonl(tmp_path / "a.jsonl", LABELLED),
        write(tmp_path / "a.csv", csv_text),
        str(tmp_path / "a.parquet"),
    ]
    for path in paths:
        questions = task_files.load_user_questions(path, "mine", "train")
        assert [question.text for question in questions] == [row["text"] for row in LABELLED]
        assert [question.answer for question in questions] == [1, 0, 1]
        assert [question.question_id for question in questions] == [f"mine/train/{row}" for row in range(3)]
        task = task_files.user_task("mine", questions)
        examples = tasks.convert(task, questions, mode="coin", seed=0)
        assert [(example.text, example.label) for example in examples] == [
            (row["text"], row["label"]) for row in LABELLED
        ]


def test_choices_in_three_formats(tmp_path):
    as_text = [row | {"answer": str(row["answer"])} for row in CHOICES]
    as_text[0]["answer"] = "y, z"
    pq.write_table(pa.Table.from_pylist(as_text), tmp_path / "a.parquet")
    csv_text = 'question,choices,answer\nWhy?,"[""x"", ""y, z""]",1\nHow?,"[""p"", ""q"", ""r""]",p\n'
    for path in (
        write_jsonl(tmp_path / "a.jsonl", CHOICES),
        write(tmp_path / "a.csv", csv_text),
        str(tmp_path / "a.parquet"),
    ):
        questions = task_files.load_user_questions(path, "mine", "test")
        assert [(question.choices, question.answer) for question in questions] == [
            (("x", "y, z"), 1),
            (("p", "q", "r"), 0),
        ]
        task = task_files.user_task("mine", questions, instruction="Judge.")
        assert task.instruction == "Judge."
        assert task.format(questions[0], "x") == "Q: Why? A: x"


def test_solutions_in_three_formats(tmp_path):
    rows = [{"question": "2+2?", "solution": "2+2=4\n\n#### 4\n"}, {"question": "Half?", "solution": "0.5"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    rows[1]["solution"] = 0.5
    for path in (
        write_jsonl(tmp_path / "a.jsonl", rows),
        write(tmp_path / "a.csv", 'question,solution\n2+2?,"2+2=4\n\n#### 4\n"\nHalf?,0.5\n'),
        str(tmp_path / "a.parquet"),
    ):
        questions = task_files.load_user_questions(path, "mine", "train")
        task = task_files.user_task("mine", questions)
        assert task.is_generated and task.stop == ("\n\n",)
        assert tasks.convert(task, questions, mode="coin", seed=0) == [
            tasks.Example("mine/train/0", "mine/train/0", "2+2?", 0, "2+2=4\n#### 4"),
            tasks.Example("mine/train/1", "mine/train/1", "Half?", 0, "0.5"),
        ]
        assert task.is_correct("it is 4.0", questions[0].solution)
    assert task_files.user_task("mine", questions, instruction="Solve.").instruction == "Solve."


def test_bad_solutions(tmp_path):
    rows = [{"question": "q", "solution": solution} for solution in (4, "four", "", None, True, float("nan"))]
    message = error_of(write_jsonl(tmp_path / "a.jsonl", rows))
    assert "line 1" not in message
    assert "line 2: solution has no number: 'four'" in message
    assert "line 3: solution is empty" in message
    assert "line 4: solution must be text, found nothing" in message
    assert "line 5: solution must be text, found True" in message
    assert "line 6: solution has no number: 'nan'" in message


def test_labels_may_be_true_and_false(tmp_path):
    rows = [{"text": "a", "label": True}, {"text": "b", "label": "False"}, {"text": "c", "label": "1"}]
    questions = task_files.load_user_questions(write_jsonl(tmp_path / "a.jsonl", rows), "mine", "train")
    assert [question.answer for question in questions] == [1, 0, 1]


def test_every_bad_line_is_named(tmp_path):
    lines = [
        '{"text": "fine", "label": 1}',
        '{"text": "cut off", "label": ',
        "",
        "[1, 2]",
        '{"text": "x", "label": 2}',
        '{"text": "   ", "label": 0}',
        '{"text": "x"}',
        '{"text": 5, "label": 0}',
        '{"text": "x", "label": 1.5}',
        '{"text": "\\ud800", "label": 1}',
        '{"text": "x", "label": 0.5}',
        '{"text": "x", "label": ""}',
    ]
    message = error_of(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert "line 2: not a JSON object (Expecting value)" in message
    assert "line 4: not a JSON object: [1, 2]" in message
    assert "line 5: label must be 0 or 1, found 2" in message
    assert "line 6: text is empty" in message
    assert "line 7: label must be 0 or 1, found nothing" in message
    assert "line 8: text must be text, found 5" in message
    assert "line 9: label must be 0 or 1, found 1.5" in message
    assert "line 10: text is not UTF-8 text" in message
    assert "line 11: label must be 0 or 1, found 0.5" in message
    assert "line 12: label must be 0 or 1, found ''" in message
    assert "line 1:" not in message
    assert "line 3:" not in message


def test_long_lists_of_bad_lines_are_cut(tmp_path):
    message = error_of(write_jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": 7}] * 13))
    assert "13 of 13 rows are bad: line 1: label" in message
    assert "line 10: label" in message
    assert "line 11:" not in message
    assert "(+3 more: lines 11, 12, 13)" in message


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"choices": ["x"]}, "at least two texts"),
        ({"choices": "x"}, "at least two texts"),
        ({"choices": ["x", ""]}, "choices is empty"),
        ({"choices": ["x", 3]}, "choices must be text, found 3"),
        ({"answer": 2}, "an index from 0 to 1, a letter from A to B or a choice's text, found 2"),
        ({"answer": -1}, "found -1"),
        ({"answer": "w"}, "found 'w'"),
        ({"answer": "1"}, "found '1'"),
        ({"answer": True}, "found True"),
        ({"answer": None}, "found nothing"),
        ({"question": ""}, "question is empty"),
    ],
)
def test_bad_choices(tmp_path, change, fault):
    message = error_of(write_jsonl(tmp_path / "a.jsonl", [CHOICES[1], CHOICES[0] | change]))
    assert "line 2: " in message
    assert "line 1: " not in message
    assert fault in message


def test_bad_csv(tmp_path):
    rows = 'text,label\n"two\nlines",1\nx,1,2\ny,maybe\nz\nx,2\nx,0.5\nx,""\n" ",1\n'
    message = error_of(write(tmp_path / "a.csv", rows))
    assert "line 4: 3 cells under 2 columns" in message
    assert "line 5: label must be 0 or 1, found 'maybe'" in message
    assert "line 6: 1 cells under 2 columns" in message
    for line, fault in (
        (7, "label must be 0 or 1"),
        (8, "label must be 0 or 1"),
        (9, "label must be 0 or 1"),
        (10, "text is empty"),
    ):
        assert f"line {line}: {fault}" in message
    assert "line 3: not CSV" in error_of(write(tmp_path / "b.csv", 'text,label\nx,1\n"never closed,1\n'))
    assert "occurs twice" in error_of(write(tmp_path / "c.csv", "text,label,label\nx,1,1\n"))
    row = 'q,"[""1"", ""0""]",1\n'
    assert "names two choices" in error_of(write(tmp_path / "d.csv", f"question,choices,answer\n{row}"))
    assert "not a JSON list" in error_of(write(tmp_path / "e.csv", "question,choices,answer\nq,x|y,x\n"))
    (tmp_path / "f.csv").write_bytes("text,label\nx,1\né,1\n".encode("latin-1"))
    assert "line 3: text is not UTF-8 text" in error_of(tmp_path / "f.csv")


def test_bad_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"text": "x", "label": 1}, {"text": None, "label": 3}]), path)
    assert "row 2: text must be text, found nothing" in error_of(path)
    pq.write_table(pa.Table.from_pylist([{"sentence": "x", "gold": 1}]), path)
    assert "(found: 'sentence', 'gold')" in error_of(path)
    path.write_bytes(b"PAR1 nothing")
    assert "cannot be read as parquet" in error_of(path)


def test_columns_empty_files_and_names(tmp_path):
    assert "(found: 'txt', 'label')" in error_of(write(tmp_path / "a.csv", "txt,label\nx,1\n"))
    assert "(found: 'txt')" in error_of(write_jsonl(tmp_path / "a.jsonl", [{"txt": "x"}]))
    assert "(found: none)" in error_of(write(tmp_path / "o.jsonl", "{}\n"))
    assert "has no rows" in error_of(write(tmp_path / "b.jsonl", "\n\n"))
    assert "has no rows" in error_of(write(tmp_path / "b.csv", "text,label\n"))
    assert "has no rows" in error_of(write(tmp_path / "c.csv", ""))
    assert "unknown format '.json'" in error_of(write(tmp_path / "a.json", "[]"))
    assert "is missing" in error_of(tmp_path / "none.jsonl")
    assert "not a JSON object" in error_of(write(tmp_path / "c.jsonl", "[" * 100_000))
    (tmp_path / "d.jsonl").write_bytes(b'{"text": "\xff", "label": 1}\n')
    assert "line 1: not UTF-8 text" in error_of(tmp_path / "d.jsonl")


def test_hold_out(tmp_path):
    rows = [{"text": f"text {row % 150}", "label": row % 2} for row in range(300)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    train, test = task_files.load_user_splits("mine", path)
    assert len(train) + len(test) == 300
    assert 0.1 < len(test) / 300 < 0.3
    assert not {question.text for question in train} & {question.text for question in test}
    row = int(test[0].question_id.removeprefix("mine/test/"))
    assert rows[row]["text"] == test[0].text
    assert (train, test) == task_files.load_user_splits("mine", path)
    with pytest.raises(errors.UserError, match="give a test file"):
        task_files.load_user_splits("mine", write_jsonl(tmp_path / "b.jsonl", rows[:1]))


def test_train_and_test_file(tmp_path):
    train_path = write_jsonl(tmp_path / "a.jsonl", LABELLED)
    train, test = task_files.load_user_splits(
        "mine", train_path, write_jsonl(tmp_path / "b.jsonl", LABELLED[:2])
    )
    assert (len(train), len(test)) == (3, 2)
    assert test[0].question_id == "mine/test/0"
    solved = [{"question": "2+2?", "solution": 4}]
    for name, rows in (("c", CHOICES), ("d", solved)):
        with pytest.raises(errors.UserError, match="differ in form"):
            task_files.load_user_splits("mine", train_path, write_jsonl(tmp_path / f"{name}.jsonl", rows))
