"""Questions of a user's own that a student is asked: as texts, by their parts, and what is none."""

import json

import pytest

from selw2s_jax.data import doubts, question_files, tasks
from selw2s_jax.errors import UserError


def read_text(tmp_path, task: str, *lines: dict) -> list[tasks.Example]:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return question_files.read(path, tasks.get_task(task))


@pytest.mark.parametrize(
    ("task", "line", "texts"),
    [
        ("sciq", {"text": "Anything.", "question": "not read"}, ["Anything."]),
        ("sciq", {"question": "Why?", "answer": "So."}, ["Q: Why? A: So."]),
        ("arc", {"question": "Why?", "choices": ["b", "a"], "answer": 0}, ["Q: Why? A: b", "Q: Why? A: a"]),
        ("boolq", {"question": "is it", "context": "It is."}, ["Passage: It is.\nQuestion: is it"]),
        (
            "boolq",
            {"question": "is it", "passage": "It is.", "answer": True},
            ["Passage: It is.\nQuestion: is it"],
        ),
        (
            "cosmosqa",
            {"question": "Who?", "context": "He.", "answer": "None of the above choices ."},
            ["Context: He.\nQuestion: Who?\nAnswer: None of the above choices ."],
        ),
        ("winogrande", {"question": "So _ ran.", "choices": ["she", "he"]}, ["So she ran.", "So he ran."]),
        ("gsm8k", {"question": "1 + 1?", "answer": "#### 2"}, ["1 + 1?"]),
    ],
)
def test_fields_become_the_text_that_the_task_shows(tmp_path, task, line, texts):
    found = read_text(tmp_path, task, line)
    assert [example.text for example in found] == texts
    name = f"{tasks.canonical_name(task)}/input/0"
    ids = [f"{name}:{i}" for i in range(len(texts))] if len(texts) > 1 else [name]
    assert [example.example_id for example in found] == ids
    found = read_text(tmp_path, task, line | {"example_id": "my own"})
    assert [example.example_id for example in found] == [i.replace(name, "my own") for i in ids]
    for example in found:
        context = line.get("context", line.get("passage", ""))
        assert example.text[slice(*example.passage)] == context  # what a prompt too long is shortened by


def test_texts_of_any_script_and_line_ends_survive(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\r\n{"text": "\xe6\xb0\xb4\\n?"}\r\n  \n{"text": "b\xe2\x80\xa8c"}')
    found = question_files.read(path, tasks.get_task("sciq"))
    assert [example.text for example in found] == ["水\n?", "b\u2028c"]
    assert [example.example_id for example in found] == ["sciq/input/0", "sciq/input/1"]


def test_passages_that_no_text_shows_are_counted(tmp_path):
    """By what the models read: not by the task's name, and whatever the spaces."""
    lines = [
        {"question": "Why?", "answer": "So.", "context": "It rained."},
        {"question": "Why?", "answer": "So.", "context": ""},
        {"question": "Why?", "answer": "So.", "context": None},
        {"question": "It rained. Why?", "choices": ["a", "b"], "context": "It  rained."},
        {"text": "Q: Why? A: So.", "question": "Why?", "passage": "It rained."},
        {"text": "Because.", "question": "Why?", "context": "It snowed."},
    ]
    path, found = tmp_path / "in.jsonl", doubts.Found()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(question_files.read(path, tasks.get_task("sciq"), found=found)) == 7
    assert [note.removeprefix(f"{path}: ").partition(", as")[0] for note in found.notes] == [
        "2 of 6 rows have a context that the models do not read",
        "1 of 6 rows have a passage that the models do not read",
        "1 of 6 rows have a question that the models do not read",
    ]
    assert "(first in line 1): put it into question or text" in found.notes[0]
    assert found.notes[2].endswith("(first in line 6): put it into text")
    path.write_text('{"question": "is it", "passage": "It is.", "context": "It was."}')
    found = doubts.Found()
    question_files.read(path, tasks.get_task("boolq"), found=found)
    assert "1 of 1 rows have a context" in found.notes[0] and len(found.notes) == 1


BAD_FILES = {
    "empty": (b"", r"in.jsonl has no questions; give text, or question and answer in a JSON object a line"),
    "blank": (b"\n \n", r"in.jsonl has no questions"),
    "no JSON": (b'{"text": "a"}\n{"text"', r"in.jsonl, line 2: not a JSON object \(.*\); give text"),
    "deep": (b"[" * 100_000, r"in.jsonl, line 1: not a JSON object"),
    "a list": (b'\n["a"]', r"in.jsonl, line 2: not a JSON object: \['a'\]; give text"),
    "no UTF-8": (b'{"text": "\xff"}', r"in.jsonl, line 1: not UTF-8 text; save the file as UTF-8"),
    "no text": (b'{"example_id": "a"}', r"in.jsonl, line 1: has no text; give text, or question and answer"),
    "text blank": (b'{"text": " "}', r"in.jsonl, line 1: text is empty; mend or remove the line"),
    "text no text": (b'{"text": 3}', r"in.jsonl, line 1: text must be text, found 3"),
    "surrogate": (rb'{"text": "\ud800"}', r"in.jsonl, line 1: text is not UTF-8 text; mend or remove"),
    "no answer": (b'{"question": "Why?"}', r"in.jsonl, line 1: answer must be text, found nothing"),
    "an index": (b'{"question": "Why?", "answer": 1}', r"in.jsonl, line 1: answer must be text, found 1"),
    "no choices": (
        b'{"question": "W?", "choices": []}',
        r"in.jsonl, line 1: choices must be a list of texts",
    ),
    "bad choice": (b'{"question": "W?", "choices": ["a", 1]}', r"line 1: choices must be text, found 1"),
    "id no text": (b'{"text": "a", "example_id": 7}', r"in.jsonl, line 1: example_id must be text, found 7"),
    "same id": (
        b'{"text": "a", "example_id": "x"}\n{"text": "b"}\n{"text": "c", "example_id": "x"}',
        r"in.jsonl, line 3: example_id 'x' is also that of line 1; make it another",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_questions_are_one_line(tmp_path, content, message):
    (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message) as refused:
        question_files.read(tmp_path / "in.jsonl", tasks.get_task("sciq"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("boolq", {"question": "is it"}, "context must be text, found nothing"),
        ("winogrande", {"question": "No blank.", "answer": "x"}, "has no place for the answer; put _ there"),
    ],
)
def test_fields_that_the_task_wants(tmp_path, task, line, message):
    with pytest.raises(UserError, match=message):
        read_text(tmp_path, task, line)


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ({"text": "a", "label": 1}, [1]),
        ({"text": "a", "label": "False"}, [0]),
        ({"text": "a"}, [None]),
        ({"question": "Why?", "answer": "So.", "label": 0}, [0]),
        ({"question": "Why?", "choices": ["b", "a"], "answer": "a"}, [0, 1]),
        ({"question": "Why?", "choices": ["x", "y"], "answerKey": "A"}, [1, 0]),
        ({"question": "Why?", "choices": ["b", "a"]}, [None, None]),
    ],
)
def test_truth_is_read_where_a_line_has_it(tmp_path, line, labels):
    path, found = tmp_path / "in.jsonl", doubts.Found()
    path.write_text(json.dumps(line) + "\n")
    asked = question_files.read_with_labels(path, tasks.get_task("sciq"), found=found)
    assert asked.labels == labels and not found.notes


@pytest.mark.parametrize(
    "line", [{"text": "a", "label": "entailment"}, {"question": "Why?", "choices": ["b", "a"], "answer": "c"}]
)
def test_truth_that_is_none_is_noted_and_not_read(tmp_path, line):
    path, found = tmp_path / "in.jsonl", doubts.Found()
    path.write_text(json.dumps(line) + "\n")
    asked = question_files.read_with_labels(path, tasks.get_task("sciq"), found=found)
    assert set(asked.labels) == {None} and "nothing is measured by it" in found.notes[0]
