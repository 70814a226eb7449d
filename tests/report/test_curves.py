"""What a report says of curves over training: numbers worked out by hand, a warning, damage, the page."""

import dataclasses
import json

import numpy as np
import pytest
from support import report_runs, store_edits

from selw2s_jax.errors import UserError
from selw2s_jax.report import curve_numbers, document, stored, warnings
from selw2s_jax.runtime import artifacts

N, STEPS = 40, (0, 2, 4, 5)
# Right items by step of seed 0, the first so many of 40; seed 1 has one more at the end.
COURSES = {
    "weak": (10, 15, 18, 20),
    "ceiling": (10, 30, 36, 38),
    "finetune": (10, 36, 22, 22),
    "selective": (10, 20, 30, 39),
}
RIGHT = {method: (course[-1], course[-1] + 1) for method, course in COURSES.items()}
# Held-out rows, of ten, that a student answers as their weak labels say.
AGREED = {"finetune": (5, 7, 9, 9), "selective": (9, 6, 5, 8)}


def write_run(workdir, *, damage=None):
    """A run and the curves of its trainings.

    Args:
        damage: changes the columns of the tables.
    """
    settings = {"evaluation.every_steps": 2}
    report_runs.write_run(
        workdir, right=RIGHT, num_items=N, diagnostics=(), p_ik=(), settings=settings, with_results=False
    )
    path, truth, store = workdir / "manifest.json", np.resize(report_runs.TRUTH, N), artifacts.Store(workdir)
    manifest = json.loads(path.read_text())
    for entry in manifest["students"]:
        course = np.array(COURSES[entry["method"]])
        course[-1] += entry["seed"]
        tables = {"curve.parquet": table("item", np.where(np.arange(N) < course[:, None], truth, 1 - truth))}
        if entry["method"] in AGREED:
            agreed = (np.arange(10) < np.array(AGREED[entry["method"]])[:, None]).astype(int)
            tables["curve_held_out.parquet"] = table("row", agreed) | {"weak_1": np.full(40, 0.9)}

        def write(folder, tables=tables):
            for name, columns in tables.items():
                artifacts.write_table(folder / name, (damage or dict)(columns))

        entry["key"] = store_edits.make(store, "train", {**entry, "of": "a curve"}, write).key
    path.write_text(json.dumps(manifest))
    return workdir


def table(kind: str, classes: np.ndarray) -> dict:
    """Columns of classes `[K, N]`, the examples in another order than theirs by name."""
    ids = [f"{kind}-{number}" for number in range(classes.shape[1])]
    return {
        "step": np.repeat(STEPS, len(ids)),
        "example_id": ids[::-1] * len(STEPS),
        "prob_1": (0.2 + 0.6 * classes[:, ::-1]).astype(np.float32).reshape(-1),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> stored.Run:
    return stored.read_run(write_run(tmp_path_factory.mktemp("curves") / "run"))


def test_accuracy_and_agreement_by_step(run):
    rows = {(row["method"], row["step"]): row for row in curve_numbers.step_rows(run)}
    assert len(rows) == 16
    assert rows["finetune", 5]["accuracy"] == pytest.approx((22 + 23) / 2 / N)
    # The weak model has the first 20 and 21 items right, so it differs from 22 right ones on 2 and 1.
    found = rows["finetune", 4]
    assert found["agreement"] == pytest.approx((38 + 39) / 2 / N)
    assert found["agreement_weak_right"] == 1
    assert found["agreement_weak_wrong"] == pytest.approx((18 / 20 + 18 / 19) / 2)
    assert (found["held_out"], found["trained"], found["num_seeds"]) == (pytest.approx(0.9), None, 2)
    assert rows["ceiling", 2]["agreement"] is None and rows["weak", 0]["accuracy"] == 0.25


def test_where_to_stop(run):
    rows = {row["method"]: row for row in curve_numbers.stop_rows(run)}
    found = rows["finetune"]
    assert (found["last_step"], found["stopped_step"], found["oracle_step"]) == (5, 4, 2)
    assert found["stopped"] == 22 / N and found["missed"] == pytest.approx((22 - 36) / N)
    assert found["stopped_gain"] == pytest.approx((22 - 22.5) / N)
    assert found["oracle_gain"] == found["crossed_gain"] == pytest.approx((36 - 22.5) / N)
    assert found["oracle_pgr"] == pytest.approx((36 - 20.5) / (38.5 - 20.5))
    # Of the untrained model the most, 9, is not looked at.
    assert (rows["selective"]["stopped_step"], rows["selective"]["oracle_gain"]) == (5, 0)
    assert rows["ceiling"]["stopped"] is None and rows["ceiling"]["oracle_step"] == 5


def test_a_student_that_falls_and_agrees_more_is_warned_of(run):
    (found,) = [one for one in warnings.find(run) if "overfits" in one.observation]
    assert found.method == "finetune" and found.seeds == "0, 1"
    # At step 2 it differs from the weak model on 16 and 15 items, at the end on 2 of each.
    assert "from about step 2 to 5 its accuracy falls by 33.8 points" in found.observation
    assert found.observation.endswith("rises by 33.8")


def test_without_predictions_of_the_weak_model_there_is_the_truth_alone(run):
    alone = dataclasses.replace(run, predictions={})
    assert curve_numbers.overfitting(alone, "finetune") is None
    assert all(row["agreement"] is None for row in curve_numbers.step_rows(alone))
    assert {row["oracle_pgr"] for row in curve_numbers.stop_rows(alone)} == {None}


def test_the_page_has_a_section_and_an_oracle_is_called_one(run, no_pictures):
    files = document.files([run])
    assert files["training_curves-1.svg"] and "stops.csv" in files and "curves.md" in files
    text = " ".join(report_runs.Page(files["report.html"]).text)
    assert "Over training" in text and "oracle's step" in text
    rows = {row["method"]: row for row in report_runs.read_csv(files["stops.csv"])}
    assert float(rows["finetune"]["stopped_step"]) == 4 and rows["weak"]["stopped"] == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda columns: {name: values[:-1] for name, values in columns.items()},
        lambda columns: columns | {"step": np.array(columns["step"])[::-1]},
        lambda columns: columns | {"example_id": ["other"] * len(columns["step"])},
    ],
)
def test_a_table_that_no_run_writes_is_told_in_a_line(tmp_path, damage):
    with pytest.raises(UserError, match=r"cannot be read|lacks"):
        stored.read_run(write_run(tmp_path / "run", damage=damage))
