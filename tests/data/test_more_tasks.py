"""Tasks that weak-to-strong researchers know by name: their rows, texts and labels, from folders."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selw2s_jax.data import sources, tasks, written_rows, written_tasks
from selw2s_jax.errors import UserError

ROWS = {
    "amazon_polarity": {"title": ["Great", "Bad"], "content": ["Loved it.", "Broke."], "label": [1, 0]},
    "anthropic_hh": {
        "chosen": ["\n\nHuman: Hi\n\nAssistant: Hello", "\n\nHuman: a\n\nAssistant: b"],
        "rejected": ["\n\nHuman: Hi\n\nAssistant: No", "\n\nHuman: a\n\nAssistant: c"],
    },
    "mmlu": {
        "question": ["1 + 1?", "Who?"],
        "subject": ["high_school_mathematics", ""],
        "choices": [["1", "2", "3", "4"], ["a", "b", "c", "d"]],
        "answer": [1, 0],
    },
    "hellaswag": {
        "ctx": ["A man sits. he", "A dog runs. it"],
        "endings": [["stands up.", "flies."], ["barks.", "sings."]],
        "label": ["0", "1"],
    },
}
ROWS["anthropic_hh_pairs"] = ROWS["anthropic_hh"]


def write(folder, name, split="test", rows=None):
    task = tasks.get_task(name)
    path = folder / task.subsets[0].folder / f"{task.splits.get(split, split)}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows or ROWS[name]), path)
    return task


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("amazon_polarity", [("Great Loved it.", 1), ("Bad Broke.", 0)]),
        (
            "anthropic_hh",
            [
                ("Human: Hi\n\nAssistant: Hello", 1),
                ("Human: Hi\n\nAssistant: No", 0),
                ("Human: a\n\nAssistant: b", 1),
                ("Human: a\n\nAssistant: c", 0),
            ],
        ),
        (
            "mmlu",
            [(f"Q: 1 + 1? A: {n}", int(n == 2)) for n in (1, 2, 3, 4)]
            + [(f"Q: Who? A: {letter}", int(letter == "a")) for letter in "abcd"],
        ),
        (
            "hellaswag",
            [
                ("A man sits. he stands up.", 1),
                ("A man sits. he flies.", 0),
                ("A dog runs. it barks.", 0),
                ("A dog runs. it sings.", 1),
            ],
        ),
    ],
)
def test_rows_become_texts_with_their_truth(tmp_path, name, texts):
    write(tmp_path, name, "train")  # or the other file is divided
    task = write(tmp_path, name)
    questions = sources.load_questions(task, "test", source=str(tmp_path))
    examples = tasks.convert(task, questions, mode="all", seed=0)
    assert [(one.text, one.label) for one in examples] == texts
    assert task.instruction.startswith("There is a") and task.instruction.endswith("with 0 otherwise.")


def test_a_pair_shows_both_and_its_order_says_nothing(tmp_path):
    rows = {"chosen": [f"yes {i}" for i in range(400)], "rejected": [f"no {i}" for i in range(400)]}
    task = write(tmp_path, "anthropic_hh_pairs", rows=rows)
    questions = sources.load_questions(task, "test", source=str(tmp_path))
    for i, question in enumerate(questions):
        first, second = (f"yes {i}", f"no {i}") if question.answer else (f"no {i}", f"yes {i}")
        assert question.text == f"First dialogue:\n{first}\n\nSecond dialogue:\n{second}"
    assert 160 < sum(question.answer for question in questions) < 240
    swapped = write(
        tmp_path, "anthropic_hh_pairs", rows={"chosen": rows["rejected"], "rejected": rows["chosen"]}
    )
    again = sources.load_questions(swapped, "test", source=str(tmp_path))
    assert [one.text for one in again] == [one.text for one in questions]  # whichever was chosen
    assert [one.answer for one in again] == [1 - one.answer for one in questions]


@pytest.mark.parametrize(
    ("name", "column", "value", "message"),
    [
        ("amazon_polarity", "label", [2, 0], "label is 2, not 0 or 1"),
        ("mmlu", "answer", [4, 0], "the answer is 4, not one of 0 to 3"),
        ("hellaswag", "label", ["", "1"], "no answer"),
    ],
)
def test_a_row_without_truth_is_named(tmp_path, name, column, value, message):
    task = write(tmp_path, name, rows=ROWS[name] | {column: value})
    with pytest.raises(UserError, match=message):
        sources.load_questions(task, "test", source=str(tmp_path))


def test_what_is_not_pinned_is_noted():
    assert "not pinned" in sources.notes(tasks.get_task("amazon_polarity"), source="hub")[0]
    for name in ("anthropic_hh", "mmlu", "hellaswag"):
        assert not sources.notes(tasks.get_task(name), source="hub")


def test_judged_and_written_forms_are_of_the_same_files():
    assert written_rows is not None
    for name in ("mmlu", "hellaswag"):
        judged, written = tasks.get_task(name), written_tasks.WRITTEN_TASKS[name].source
        assert (judged.hub_name, judged.hub_revision, judged.subsets) == (
            written.hub_name,
            written.hub_revision,
            written.subsets,
        )


def test_real_mmlu_without_its_training_file_is_divided(real_data):
    task = tasks.get_task("mmlu")
    train, test = (sources.load_questions(task, split, source=str(real_data)) for split in ("train", "test"))
    assert len(train) + len(test) == 14042 and 0.28 < len(test) / 14042 < 0.32
    assert not {one.text for one in train} & {one.text for one in test}
    assert "for trials" in sources.notes(task, source=str(real_data))[0]


def test_a_name_is_taken_whichever_module_is_imported_first():
    code = """
from selw2s_jax.data import tasks
try:
    tasks.register(tasks.Task(name="mmlu", instruction="", format=tasks.format_text))
except ValueError as error:
    assert "'mmlu' is registered already, by selw2s_jax.data.more_tasks" in str(error), error
else:
    raise AssertionError
import selw2s_jax.data.sources, selw2s_jax.data.written_rows
"""
    subprocess.run([sys.executable, "-c", code], check=True)
