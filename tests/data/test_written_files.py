"""Questions of a user's own that a model is asked to write the answers to."""

import json

import pytest
from support import written_questions

from selw2s_jax.data import doubts, tasks, written_catalogue, written_files, written_tasks
from selw2s_jax.errors import UserError

assert written_catalogue  # registers the paper's tasks


def read(path, task: str | written_tasks.WrittenTask, *lines: dict, found=None) -> list[tasks.Question]:
    path = path / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = written_tasks.get(task) if isinstance(task, str) else task
    return written_files.read(path, task, found=found or doubts.Found())


def test_fields_become_questions(tmp_path):
    line = {"question": "Which?", "choices": ["a", "b"], "context": "all things", "answer": "not read"}
    asked, named = read(tmp_path, "mmlu", line, line | {"example_id": "mine"})
    assert (asked.question_id, named.question_id) == ("mmlu/input/0", "mine")
    assert (asked.text, asked.choices, asked.context) == ("Which?", ("a", "b"), "all things")
    assert "questions about all things." in written_tasks.get("mmlu").prompt(asked)
    (number,) = read(tmp_path, "gsm8k", {"question": "1 + 1?"})
    assert (number.text, number.choices) == ("1 + 1?", None)
    (story,) = read(tmp_path, "ethics_commonsense", {"question": "I ran.", "choices": ["right", "wrong"]})
    assert "did the right thing" in written_tasks.get("ethics_commonsense").prompt(story)


def test_words_of_a_task_with_one_pair_may_be_missing(tmp_path):
    mine = written_tasks.WrittenTask(
        "mine",
        "words",
        ("{first} or {second}?",),
        instructions_by_words={("yes", "no"): ("{first}/{second}?",)},
    )
    (question,) = read(tmp_path, mine, {"question": "So?"})
    assert question.choices == ("yes", "no")


def test_a_csv_file_as_spreadsheets_write_it(tmp_path):
    path, found = tmp_path / "in.csv", doubts.Found()
    path.write_text('question;choices;context\nWhich?;["a", "b"];\nWhat?;"[\'c\', \'d\']";on rocks\n')
    questions = written_files.read(path, written_questions.CHOICE, found=found)
    assert [question.choices for question in questions] == [("a", "b"), ("c", "d")]
    (note,) = found.notes
    assert "1 of 2 rows have a context that the models do not read" in note


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("hellaswag", {"text": "Who?"}, "has no question; give question and choices"),
        ("hellaswag", {"question": "Who?"}, "has no choices; give question and choices"),
        ("hellaswag", {"question": "Who?", "choices": ["a"]}, "choices must be a list of at least two"),
        ("hellaswag", {"question": "Who?", "choices": ["a", "A "]}, "two choices are equal"),
        (
            "hellaswag",
            {"question": "Who?", "choices": list(map(str, range(27)))},
            "27 choices, where 2 to 26",
        ),
        ("hellaswag", {"question": " ", "choices": ["a", "b"]}, "question is empty; mend or remove the line"),
        ("mmlu", {"question": "Who?", "choices": ["a", "b"]}, "has no context, which prompts of mmlu show"),
        ("gsm8k", {"question": "1?", "choices": ["1", "2"]}, "answers of gsm8k are numbers"),
        (
            "ethics_commonsense",
            {"question": "I ran."},
            "has no choices; .*: acceptable and unacceptable, or right",
        ),
        (
            "ethics_commonsense",
            {"question": "I ran.", "choices": ["wrong", "right"]},
            "the words of ethics_commonsense are others than .*: acceptable and",
        ),
    ],
)
def test_lines_that_are_no_questions(tmp_path, task, line, message):
    good = {"question": "Who?", "choices": ["right", "wrong"], "context": "it"}
    good = {key: good[key] for key in good if task != "gsm8k" or key != "choices"}
    with pytest.raises(UserError, match=rf"in.jsonl, line 2: {message}") as info:
        read(tmp_path, task, good, line)
    assert "\n" not in str(info.value)


def test_the_same_id_twice(tmp_path):
    with pytest.raises(UserError, match="line 2: example_id 'a' is also that of line 1"):
        read(tmp_path, "gsm8k", *[{"question": "1?", "example_id": "a"}] * 2)
