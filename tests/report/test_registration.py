"""What a report says of a registration, in each way that a run can stand to it, and of what a run could have seen."""

import dataclasses
import json

import numpy as np
import pytest
from support import commands, registered_runs, report_runs

from selw2s_jax.analysis import comparisons, power
from selw2s_jax.errors import UserError
from selw2s_jax.report import __main__ as report_command
from selw2s_jax.report import (
    document,
    numbers,
    power_numbers,
    power_sections,
    registration_sections,
    stored,
    tables,
)
from selw2s_jax.run import registrations

LARGE = {
    "weak": (40, 38), "ceiling": (95, 97), "finetune": (60, 62), "selective": (80, 82), "random_selection": (79, 82),
}  # fmt: skip


def run_of(tmp_path, **changes) -> stored.Run:
    return stored.read_run(registered_runs.write_run(tmp_path / "run", **changes))


def edit(run, change) -> stored.Run:
    path = run.workdir / registrations.FILE
    report_runs.damage(path, change(path.read_text()))
    return stored.read_run(run.workdir)


@pytest.mark.usefixtures("no_pictures")
def test_the_report_opens_with_what_was_registered(tmp_path):
    run = run_of(tmp_path, right=LARGE, num_items=100)
    files = document.files([run])
    text = " ".join(report_runs.Page(files["report.html"]).text)
    assert text.index("Registered before the first student was trained") < text.index(
        "A weak model is fine-tuned"
    )
    body = text[text.index("Settings and manifest") :]  # behind the contents
    assert body.index("Registered comparisons") < body.index("Warnings")
    assert f"before the first student was trained here (sha256 {run.registration.found.sha256})" in text
    assert "by Holm's correction over the 2 registered comparisons" in text
    rows = report_runs.read_csv(files["registered.csv"])
    assert [(row["first"], row["second"]) for row in rows] == list(registered_runs.PAIRS)
    raw = [numbers.difference(run, *pair).p_value for pair in registered_runs.PAIRS]
    assert [float(row["p_value_holm"]) for row in rows] == pytest.approx(comparisons.holm(raw))
    assert [row["decision"] for row in rows] == ["no difference shown", "gain"]
    decided = {
        (row["first"], row["second"]): row["decided"]
        for row in report_runs.read_csv(files["comparisons.csv"])
    }
    assert decided == {
        ("selective", "finetune"): "before",
        ("random_selection", "finetune"): "after",
        ("selective", "random_selection"): "before",
    }
    assert "Every other comparison on this page was decided after" in text


@pytest.mark.usefixtures("no_pictures")
def test_without_a_registration_nothing_is_said_of_one(tmp_path):
    run = stored.read_run(report_runs.write_run(tmp_path / "run"))
    assert run.registration is None and registration_sections.sections([run]) == []
    assert all(column.key != "decided" for column in tables.comparison_table(run).columns)
    assert "registered.csv" not in document.files([run])


def test_a_loss_is_one_and_a_comparison_waits_for_its_seeds(tmp_path):
    pairs = (("weak", "selective"), ("selective", "confidence"))
    run = run_of(tmp_path, right=LARGE, num_items=100, of_content={"pairs": pairs})
    loss, absent = registration_sections.rows(run)
    assert loss["decision"] == "loss" and absent["decision"] == "not yet: 0 of 2 seeds"
    # The one that is not finished counts among the tests.
    assert loss["p_value_holm"] == pytest.approx(2 * loss["p_value"])
    assert absent["p_value_holm"] is None and absent["difference"] is None
    more = run_of(tmp_path / "more", right=LARGE, num_items=100, of_content={"seeds": (0, 1, 2)})
    assert {row["decision"] for row in registration_sections.rows(more)} == {"not yet: 2 of 3 seeds"}


def test_seeds_that_were_not_registered_are_left_out(tmp_path):
    run = run_of(tmp_path, right=LARGE, num_items=100, of_content={"seeds": (1,)})
    row = registration_sections.rows(run)[1]
    assert row["num_seeds"] == 1 and row["difference"] == pytest.approx(0.20)
    assert row["decision"] == "gain"


@pytest.mark.parametrize(
    ("change", "words", "has_table"),
    [
        (None, "is no longer there", False),
        ("{", "is damaged, or was edited. The run began with the sha256", False),
        (lambda text: text.replace('"level": 0.05', '"level": 0.1'), "was changed after the run began", True),
        (
            lambda text: text.replace('"first": "selective"', '"first": "weak"'),
            "was changed after the run",
            True,
        ),
    ],
    ids=["removed", "damaged", "other level", "other pair"],
)
def test_a_file_that_is_not_what_the_run_began_with(tmp_path, change, words, has_table):
    run = edit(run_of(tmp_path), change if callable(change) else lambda text: change)
    (section,) = registration_sections.sections([run])
    assert section.title.startswith("A registration that does not hold") and words in " ".join(section.notes)
    assert bool(section.tables) == has_table and not run.registration.holds
    assert {row["decided"] for row in tables.comparison_table(run).rows} == {"after"}
    assert power_numbers.test_of(run) == power.DEFAULT


@pytest.mark.parametrize(
    ("changes", "holds", "words"),
    [
        ({"is_met": False}, False, "was not there when this run was started"),
        ({"entry": {"students_before": 3}}, False, "came to a workdir that had 3 trained students"),
        (
            {"entry": {"differing": [{"key": "config.graph.tau", "registered": 0.1, "run": 0.2}]}},
            True,
            "Not as registered: config.graph.tau was 0.1, and the run has 0.2.",
        ),
        ({"other_test": True}, True, "are not those that were registered: 10 items, hash"),
    ],
    ids=["not met", "late", "another config", "another test set"],
)
def test_how_a_run_can_stand_to_a_registration(tmp_path, changes, holds, words):
    run = run_of(tmp_path, **changes)
    assert run.registration.holds == holds and words in " ".join(registration_sections.statements(run))


def test_a_manifest_that_says_no_such_thing_is_damaged(tmp_path):
    workdir = registered_runs.write_run(tmp_path / "run")
    path = workdir / "manifest.json"
    for wrong in ([], {"sha256": "a"}, {"sha256": "a", "students_before": 0, "differing": [{"key": "a"}]}):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"registration": wrong}))
        with pytest.raises(UserError, match="cannot be read"):
            stored.read_run(workdir)


def with_answers(run, answers) -> stored.Run:
    """The run with other answers: by method `[S, N]`, whether each is right."""
    truth = np.resize(run.truth, next(iter(answers.values())).shape[1])
    predictions = {
        method: {seed: np.where(right == truth, 0.9, 0.1) for seed, right in enumerate(of_method)}
        for method, of_method in answers.items()
    }
    return dataclasses.replace(run, truth=truth, predictions=predictions)


def test_what_a_run_could_have_seen_is_of_its_own_answers(tmp_path):
    run, rng = run_of(tmp_path), np.random.default_rng(0)
    answers = {
        name: rng.uniform(size=(3, 203)) < share for name, share in (("selective", 0.8), ("finetune", 0.7))
    }
    answers["random_selection"] = answers["selective"]
    run = with_answers(run, answers)
    found = power_numbers.components(run)
    assert list(found) == list(registered_runs.PAIRS)
    expected = power.components(answers["selective"], answers["finetune"])
    assert found["selective", "finetune"] == expected
    same, row = power_numbers.seen_rows(run, found)
    test = power.Test(num_tests=2)
    assert power_numbers.test_of(run) == test
    assert row["gain"] == power.detectable_gain(expected, test=test)
    assert row["from_seeds"] + row["from_items"] + row["from_residual"] == pytest.approx(1)
    assert row["differ"] == np.mean(answers["selective"] != answers["finetune"])
    assert same["error"] is None and same["gain"] is None and same["differ"] == 0
    rows = power_numbers.plan_rows(run, found)
    assert [row["num_seeds"] for row in rows] == [3, 5, 10, 20] and rows[0]["is_own"] == "yes"
    assert rows[1]["items 0.02"] == power.smallest_items(expected, 0.02, seeds=5, test=test)
    (section,) = power_sections.sections([run])
    notes = " ".join(section.notes)
    assert (
        "Holm's correction over 2" in notes and "selective - random_selection give the same answers" in notes
    )


@pytest.mark.usefixtures("no_pictures")
def test_one_seed_is_planned_with_as_one(tmp_path):
    right = {method: counts[:1] for method, counts in LARGE.items()}
    run = stored.read_run(report_runs.write_run(tmp_path / "run", right=right, num_items=100))
    (section,) = power_sections.sections([run])
    assert "One seed says nothing of the spread between seeds" in " ".join(section.notes)
    seen, plan = section.tables
    assert {row["num_seeds"] for row in plan.rows} == {1}
    assert {row["from_seeds"] for row in seen.rows} == {None} == {row["from_residual"] for row in seen.rows}
    assert all(one.cells() for one in section.tables)


@pytest.mark.usefixtures("no_pictures")
def test_a_reader_asks_for_other_pairs(tmp_path):
    workdir = report_runs.write_run(tmp_path / "run", right=LARGE, num_items=100)
    arguments = f"--workdir={workdir}", "--compare=ceiling:weak,selective:weak"
    assert commands.call(report_command.main, *arguments, cwd=tmp_path).returncode == 0
    rows = report_runs.read_csv((workdir / "report" / "power.csv").read_bytes())
    pairs = [("ceiling", "weak"), ("selective", "weak"), ("selective", "random_selection")]
    assert [(row["first"], row["second"]) for row in rows] == pairs
    refused = commands.call(report_command.main, arguments[0], "--compare=mtl:weak", cwd=tmp_path)
    commands.assert_refused(refused, "'mtl' is no model that is tested here: choose of weak, ceiling")


def test_runs_without_two_methods_have_no_such_section(tmp_path):
    run = stored.read_run(report_runs.write_run(tmp_path / "run", unfinished=("finetune", "selective")))
    assert power_sections.sections([dataclasses.replace(run, predictions={})]) == []
