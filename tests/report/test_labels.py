"""Labels of the student's half in reports: where they differ, their calibration, warnings, and runs without them."""

import dataclasses

import numpy as np
import pytest
from support import report_runs

from selw2s_jax.analysis import disagreement, metrics, plotting
from selw2s_jax.errors import UserError
from selw2s_jax.report import (
    calibration_figures,
    calibration_sections,
    disagreement_figures,
    disagreement_numbers,
    disagreement_sections,
    document,
    label_forms,
    stored,
    warnings,
)

SEEDS = (0, 1, 2)
SIZES = dict(zip(SEEDS, (301, 77, 150), strict=True))
RIGHT = {"weak": (5, 4, 5), "selective": (8, 7, 6), "ceiling": (9, 10, 9)}


def labels(**changes):
    """Of three seeds and four methods, of which one has a P(IK) of its own, one no P(IK)."""
    entries = [
        report_runs.disagreement_entry(method, seed, p_ik_of, num_rows=SIZES[seed], **changes)
        for method, p_ik_of in (
            ("selective", "p_ik_only"),
            ("random_selection", "p_ik_only"),
            ("posterior_online", "posterior_online"),
            ("self_training", None),
        )
        for seed in SEEDS
    ]
    return {"disagreement": entries, "calibration": [report_runs.calibration_entry(seed) for seed in SEEDS]}


def read(folder, **changes) -> stored.Run:
    return stored.read_run(report_runs.write_run(folder, right=RIGHT, p_ik=(), **changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> stored.Run:
    return read(tmp_path_factory.mktemp("labels") / "run", of_labels=labels())


def test_overview_is_the_mean_over_seeds_for_each_p_ik(run):
    rows = {row["p_ik_of"]: row for row in disagreement_numbers.overview_rows(run)}
    assert list(rows) == ["p_ik_only", "posterior_online"]
    row, entries = rows["p_ik_only"], run.disagreement[:3]
    assert (row["num_seeds"], row["n"]) == (3, 176)
    assert row["auroc"] == pytest.approx(np.mean([entry["auroc"] for entry in entries]))
    bounds = [(entry["auroc_low"], entry["auroc_high"]) for entry in entries]
    assert row["auroc_interval"] == metrics.seeds_interval([entry["auroc"] for entry in entries], bounds)
    parts = [entry["disagreeing"] for entry in entries]
    assert row["share"] == pytest.approx(
        np.mean([part["n"] / SIZES[seed] for seed, part in enumerate(parts)])
    )
    assert row["self_right_there"] + row["weak_right_there"] == pytest.approx(1)
    low, high = row["self_right_there_interval"]
    assert 0 <= low < row["self_right_there"] < high <= 1
    low, high = row["error_correlation_interval"]
    assert -1 <= low < row["error_correlation"] < high <= 1 and low < 0


def test_bins_over_seeds_are_those_of_all_their_rows(run):
    columns = [report_runs.labels_of(seed, SIZES[seed]) for seed in SEEDS]
    together = {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}
    expected = disagreement.describe(**together)["bins"]
    for part in disagreement_numbers.PARTS:
        pooled = disagreement_numbers.pooled_bins(run.disagreement[:3], part)
        there = [one for one in expected if one[part]["n"]]
        assert [one["low"] for one in pooled] == [one["low"] for one in there]
        for found, one in zip(pooled, there, strict=True):
            assert {name: found[name] for name in one[part]} == pytest.approx(one[part])
    rows = disagreement_numbers.bin_rows(run)
    assert {row["method"] for row in rows} == {"selective", "random_selection", "posterior_online"}
    assert rows[0]["n_all"] == expected[0]["all"]["n"]


def test_labels_are_compared_by_method(run):
    rows = {row["labels"]: row for row in disagreement_numbers.label_rows(run)}
    assert list(rows)[:3] == ["weak labels", "self labels", "selective"] and len(rows) == 6
    of_seeds = [entry["disagreeing"]["target_brier"] for entry in run.disagreement[:3]]
    assert rows["selective"]["brier_disagreeing"] == pytest.approx(np.mean(of_seeds))
    assert rows["self labels"]["brier_all"] == pytest.approx(1 - rows["self labels"]["right_all"])


@pytest.fixture
def nothing_drawn(monkeypatch):
    """Sections without their pictures, which take longest."""
    monkeypatch.setattr(
        disagreement_figures,
        "draw_labels_by_p_ik",
        lambda *_, **__: plotting.Picture(plotting.figure(width=1, height=1)),
    )
    monkeypatch.setattr(
        calibration_figures,
        "draw_calibration",
        lambda *_, **__: plotting.Picture(plotting.figure(width=1, height=1)),
    )


@pytest.mark.usefixtures("no_pictures", "nothing_drawn")
def test_page_has_both_sections_with_pictures_and_files(run):
    made = document.files([run])
    text = " ".join(report_runs.Page(made["report.html"]).text)
    assert "Where weak and self label differ" in text and "Calibration of both labels" in text
    assert "no room" not in text
    assert {"labels_by_p_ik-1.svg", "calibration-1.svg"} <= set(made)
    row, _ = report_runs.read_csv(made["disagreement.csv"])
    assert float(row["auroc_low"]) < float(row["auroc"]) < float(row["auroc_high"])
    scores = report_runs.read_csv(made["calibration.csv"])
    assert [row["n"] for row in scores] == ["41", "37"] * 3
    assert len(report_runs.read_csv(made["calibration_fits.csv"])) == 3


def test_bins_of_a_calibration_are_pooled_over_seeds(run):
    of_seeds = [entry["p_ik"] for entry in run.calibration]
    bins = calibration_sections._bins(of_seeds, "after")
    assert sum(one.count for one in bins) == 3 * 37
    right = sum(one["n"] * one["right"] for entry in of_seeds for one in entry["bins_after"])
    assert sum(one.count * one.share for one in bins) == pytest.approx(right)
    assert all(one.low <= one.score <= one.high for one in bins)


@pytest.mark.usefixtures("no_pictures", "nothing_drawn")
def test_runs_without_them_have_no_section(tmp_path, run):
    old = read(tmp_path / "old")
    assert old.disagreement == old.calibration == []
    assert disagreement_sections.sections([old]) == calibration_sections.sections([old]) == []
    made = document.files([old])
    assert "disagreement.csv" not in made and "calibration.csv" not in made
    # Beside others a run without them changes nothing.
    assert len(disagreement_sections.sections([old, run])) == 1


def test_students_that_made_their_own_labels_have_no_section(run):
    own = [entry | {"disagreeing": None, "auroc": None} for entry in run.disagreement]
    without = dataclasses.replace(run, disagreement=own)
    assert disagreement_sections.sections([without]) == []
    assert not [one for one in warnings.find(without) if one.observation.startswith((NO_SELECTION, LITTLE))]


@pytest.mark.usefixtures("nothing_drawn")
def test_several_runs_share_a_table_and_have_the_rest_folded(tmp_path, run):
    manifest = run.manifest | {"config": run.config | {"task": "boolq"}}
    runs = [run, dataclasses.replace(run, manifest=manifest)]
    first, *others = disagreement_sections.sections(runs)
    assert [row["run"].partition(":")[0] for row in first.tables[0].rows] == ["sciq"] * 2 + ["boolq"] * 2
    assert not first.is_folded and [one.is_folded for one in others] == [True, True] and not others[0].notes
    names = [table.name for one in others for table in one.tables]
    assert names == ["trained_labels", "labels_by_p_ik"] * 2
    assert [one.is_folded for one in calibration_sections.sections(runs)] == [True, True]


@pytest.mark.usefixtures("nothing_drawn")
def test_weak_labels_that_are_taken_as_they_are_have_no_calibration(run):
    entries = [report_runs.calibration_entry(with_weak=False)]
    (section,) = calibration_sections.sections([dataclasses.replace(run, calibration=entries)])
    assert [row["score"] for row in section.tables[1].rows] == ["P(IK) of self labels"]


@pytest.mark.slow
@pytest.mark.ci
def test_pictures_of_any_number_of_p_ik_and_of_empty_parts(run):
    one = disagreement_numbers.pooled_bins([report_runs.disagreement_entry(num_rows=3)], "all")
    parts = {"$x" * 30: {"all": one, "disagreeing": []}, "b": {"all": one[:1], "disagreeing": one[:1]}}
    made = disagreement_figures.draw_labels_by_p_ik(parts, title="t" * 200, gamma=0.8)
    assert made.svg.startswith(b"<?xml")
    many = [report_runs.disagreement_entry(p_ik_of=f"method {n}", method=f"method {n}") for n in range(5)]
    (section,) = disagreement_sections.sections([dataclasses.replace(run, disagreement=many)])
    assert section.pictures["labels_by_p_ik-1"][0].svg.startswith(b"<?xml")
    for entries in (run.calibration, [report_runs.calibration_entry(with_weak=False)]):
        (of_calibration,) = calibration_sections.sections([dataclasses.replace(run, calibration=entries)])
        assert of_calibration.pictures["calibration-1"][0].svg.startswith(b"<?xml")
    assert section.notes[-1] == "The picture has no room for P(IK) of method 4; the tables have it."


NO_SELECTION, LITTLE = "no selection can gain here", "no gain of selection over as many random rows"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"self_right": 0.4, "skill": 0.0}, NO_SELECTION),
        ({"self_right": 0.0}, NO_SELECTION),  # AUROC is undefined
        ({"self_right": 0.9, "skill": 0.0}, LITTLE),
        ({"self_right": 0.4, "skill": 1.5}, None),
        ({"self_right": 0.9, "skill": 1.5}, None),
        ({"self_right": 1.0}, None),
    ],
)
def test_warnings_where_selection_cannot_gain(run, changes, words):
    entry = report_runs.disagreement_entry(**{"num_rows": 901, **changes})
    run = dataclasses.replace(run, disagreement=[entry, entry | {"method": "random_selection"}])
    found = [one for one in warnings.find(run) if one.observation.startswith((NO_SELECTION, LITTLE))]
    if words is None:
        assert found == []
        return
    (one,) = found
    assert one.observation.startswith(words) and (one.method, one.seeds) == ("selective", "0")
    rows = entry["disagreeing"]
    numbers = f"{100 * rows['self_right']:.1f} % of self labels right on {rows['n']} of 901 rows"
    assert numbers in one.observation and "P(IK)" in one.remedy
    assert (
        "AUROC undefined" if entry["auroc"] is None else f"AUROC {entry['auroc']:.2f} ("
    ) in one.observation


def test_a_control_alone_is_not_warned_of(run):
    entry = report_runs.disagreement_entry("random_selection", self_right=0.4, skill=0.0)
    found = warnings.find(dataclasses.replace(run, disagreement=[entry]))
    assert not [one for one in found if one.observation.startswith((NO_SELECTION, LITTLE))]


def test_warnings_of_a_calibration_name_the_seeds(run):
    entries = [
        report_runs.calibration_entry(seed, slope=slope) for seed, slope in ((0, 0.4), (1, -0.25), (2, 0.0))
    ]
    entries[0]["weak_slope"] = -0.5
    found = warnings.find(dataclasses.replace(run, calibration=entries))
    found = [(one.seeds, one.observation) for one in found if one.method == "calibration"]
    assert [seeds for seeds, _ in found] == ["1, 2", "0"]
    assert "slope of its calibration is -0.25, 0.00" in found[0][1] and "-0.50" in found[1][1]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("disagreement", lambda entry: entry.pop("all")),
        ("disagreement", lambda entry: entry.pop("disagreeing")),
        ("disagreement", lambda entry: entry["disagreeing"].update(n=10_000)),
        ("disagreement", lambda entry: entry["disagreeing"].update(self_right=1.5)),
        ("disagreement", lambda entry: entry.update(auroc=2)),
        ("disagreement", lambda entry: entry.update(error_correlation=float("nan"))),
        ("disagreement", lambda entry: entry["bins"][0].update(high=entry["bins"][0]["low"])),
        ("disagreement", lambda entry: entry["bins"][0].update(low=0.123)),
        ("disagreement", lambda entry: entry["bins"][0]["all"].update(n=-1)),
        ("disagreement", lambda entry: entry["bins"].append(3)),
        ("calibration", lambda entry: entry.pop("weak")),
        ("calibration", lambda entry: entry.update(p_ik_slope=None)),
        ("calibration", lambda entry: entry["p_ik"]["bins_after"][0].update(right=12)),
        ("calibration", lambda entry: entry["weak"]["bins_before"][0].update(low=-0.2)),
    ],
)
def test_entries_that_are_none_are_refused(name, change):
    entry = {
        "disagreement": report_runs.disagreement_entry(),
        "calibration": report_runs.calibration_entry(),
    }[name]
    label_forms.checked(name, entry)
    change(entry)
    with pytest.raises((ValueError, KeyError, TypeError)):
        label_forms.checked(name, entry)


def test_a_run_with_such_an_entry_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"results.json cannot be read"):
        read(tmp_path / "run", of_labels={"calibration": [{"seed": 0}]})
