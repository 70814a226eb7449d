"""predictions.parquet: its columns, what is read back of it, and that shared texts are written once."""

import numpy as np
import pytest

from selw2s_jax.data import item_predictions
from selw2s_jax.errors import UserError

IDS = ["sciq/test/0", "sciq/test/1", "sciq/test/2"]
TEST = item_predictions.Test("sciq", IDS, np.array([1, 0, 1]), ["one", "two, \n", "drei ä"])


def judged(method="weak", seed=0, probabilities=(0.5, 0.1, 0.7), test=TEST):
    return item_predictions.judged(test, method, seed, np.array(probabilities, np.float32))


def test_columns_of_class_heads(tmp_path):
    parts = [judged(), judged("ceiling", 7), item_predictions.Predicted(
        TEST._replace(name="gsm8k", labels=None), "few-shot answers", 0, np.array([True, False, True])
    )]  # fmt: skip
    item_predictions.write(tmp_path, "sciq", parts, "a run")
    table = item_predictions.read(tmp_path, "a run")
    assert tuple(table.column_names) == item_predictions.COLUMNS
    rows = table.to_pylist()
    assert len(rows) == 9 and rows[1] == {
        "task": "sciq", "test": "sciq", "method": "weak", "seed": 0, "example_id": IDS[1], "label": 0,
        "probability": np.float32(0.1), "correct": True, "text": "two, \n",
    }  # fmt: skip
    # 0.5 is no answer of 1, as everywhere.
    assert [row["correct"] for row in rows[:3]] == [False, True, True]
    assert rows[-1]["label"] is None and rows[-1]["probability"] is None and rows[-1]["test"] == "gsm8k"


def test_columns_of_written_answers(tmp_path):
    test = TEST._replace(labels=["2", "18", "5/3"])
    correct = np.array([True, False, False])
    part = item_predictions.Predicted(test, "weak", 0, correct, answers=["2", "", "5"])
    item_predictions.write(tmp_path, "arc", [part], "a run")
    rows = item_predictions.read(tmp_path, "a run").to_pylist()
    assert list(rows[0]) == [*item_predictions.COLUMNS, item_predictions.ANSWER]
    assert [(row["label"], row["answer"], row["correct"]) for row in rows] == [
        ("2", "2", True), ("18", "", False), ("5/3", "5", False),
    ]  # fmt: skip
    assert {row["probability"] for row in rows} == {None}


def test_texts_that_many_models_share_are_written_once(tmp_path):
    rng = np.random.default_rng(0)
    letters = [bytes(rng.integers(33, 127, 3000, dtype=np.uint8)).decode() for _ in range(500)]
    test = item_predictions.Test("sciq", [f"q{n}" for n in range(500)], np.ones(500, int), letters)
    few = [judged(str(number), 0, rng.uniform(size=500), test) for number in range(2)]
    many = few * 10
    sizes = []
    for name, parts in (("few", few), ("many", many)):
        (tmp_path / name).mkdir()
        item_predictions.write(tmp_path / name, "sciq", parts, "a run")
        sizes.append((tmp_path / name / item_predictions.FILE).stat().st_size)
    assert sizes[1] < 1.1 * sizes[0]


def test_bytes_that_have_changed_are_not_read_as_others(tmp_path):
    item_predictions.write(tmp_path, "sciq", [judged(), judged("ceiling")], "a run")
    path, first = tmp_path / item_predictions.FILE, item_predictions.read(tmp_path, "a run")
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(4, len(content), 150):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ rng.integers(1, 256)]) + content[place + 1 :]
        )
        try:
            found = item_predictions.read(tmp_path, "a run")
        except UserError:
            continue
        assert found is None or found.equals(first)


def test_a_file_of_another_run_is_none_and_a_damaged_one_is_told(tmp_path):
    assert item_predictions.read(tmp_path, "a run") is None
    item_predictions.write(tmp_path, "sciq", [judged()], "a run")
    assert item_predictions.read(tmp_path, "another run") is None
    path = tmp_path / item_predictions.FILE
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"predictions\.parquet cannot be read .*run the same config again"):
        item_predictions.read(tmp_path, "a run")
    item_predictions.write(tmp_path, "sciq", [], "a run")
    assert not path.exists()
