"""What gains are made of, in reports: parts, controls, the sentence, labels, and runs without them."""

import dataclasses

import pytest
from support import report_runs

from selw2s_jax.errors import UserError
from selw2s_jax.report import audit_figures, audit_numbers, audit_sections, label_forms, numbers, stored

RIGHT = {
    "weak": (30, 25, 28),
    "ceiling": (55, 58, 57),
    "finetune": (33, 31, 30),
    "selective": (50, 49, 51),
    "random_selection": (42, 38, 45),
    "posterior": (48, 50, 44),
    "posterior_shuffled": (48, 51, 44),
    "self_training": (40, 40, 40),
}


def change(method="selective", seed=0, **changes):
    """An entry of `label_changes` of results.json."""
    found = {
        "n": 101,
        "choice_corrected": 30,
        "choice_spoiled": 6,
        "smoothing_corrected": 1,
        "smoothing_spoiled": 2,
    }
    return {"method": method, "seed": seed, **found, "random": 0.1, "random_deviation": 0.02} | changes


CHANGES = [change(), change(seed=1, n=77), change(seed=2), change("mine", random=None, random_deviation=None)]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> stored.Run:
    folder = tmp_path_factory.mktemp("audit") / "run"
    labels = {"label_changes": CHANGES}
    return stored.read_run(
        report_runs.write_run(folder, right=RIGHT, num_items=61, p_ik=(), of_labels=labels)
    )


def test_parts_are_those_of_the_difference_to_the_baseline(run):
    rows = {row["method"]: row for row in audit_numbers.gain_rows(run)}
    assert list(rows) == list(RIGHT)[3:]
    for method, row in rows.items():
        whole = numbers.difference(run, method, numbers.BASELINE)
        assert row["gain"] == pytest.approx(whole.mean)
        assert row["gain_interval"] == pytest.approx((whole.low, whole.high), abs=0.02)  # other draws
        assert row["weak_wrong"] + row["weak_right"] == pytest.approx(row["gain"])
        for area in audit_numbers.AREAS:
            assert row[f"{area}_gained"] - row[f"{area}_lost"] == pytest.approx(row[area])
    # The first items are the ones that every model gets right.
    assert rows["selective"]["weak_wrong_lost"] == rows["selective"]["weak_right_lost"] == 0


def test_control_and_choice_add_up_to_the_gain(run):
    rows = audit_numbers.chance_rows(run)
    assert [(row["method"], row["control"]) for row in rows] == [
        ("selective", "random_selection"),
        ("selective", "self_training"),
        ("posterior", "posterior_shuffled"),
        ("posterior", "self_training"),
    ]
    for row in rows:
        assert row["chance"] + row["own"] == pytest.approx(row["gain"])
        assert row["own_weak_wrong"] + row["own_weak_right"] == pytest.approx(row["own"])
        whole = numbers.difference(run, row["method"], row["control"])
        assert row["own"] == pytest.approx(whole.mean)
        assert row["own_interval"] == pytest.approx((whole.low, whole.high), abs=0.02)  # other draws


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (tuple(RIGHT), "its own choice gains."),
        (
            ("weak", "finetune", "posterior", "posterior_shuffled"),
            "no gain by its own choice is established.",
        ),
        (("weak", "finetune", "posterior"), "without a control nothing says"),
    ],
)
def test_the_finding_is_of_the_subject_or_the_first_student(run, methods, words):
    kept = {name: run.predictions[name] for name in methods}
    facts = {name: run.facts(name) for name in methods}
    found = audit_numbers.finding(dataclasses.replace(run, predictions=kept, methods=facts))
    subject = "selective" if "selective" in methods else "posterior"
    assert found.startswith(f"{subject} gains +") and words in found
    assert ("Among its training labels" in found) == (subject == "selective")


def test_labels_by_chance_choice_and_smoothing_add_up(run):
    row, without = audit_numbers.label_rows(run)
    assert row["random"] + row["own"] + row["smoothing"] == pytest.approx(row["gain"])
    assert row["choice_corrected"] == pytest.approx((30 / 101 + 30 / 77 + 30 / 101) / 3)
    assert row["own_interval"][0] < row["own"] < row["own_interval"][1]
    assert without["random"] is without["own"] is without["own_interval"] is None


def test_sections_have_tables_and_are_folded_where_there_are_several(run, no_pictures):
    (section,) = audit_sections.sections([run])
    assert [table.name for table in section.tables] == ["gain_parts", "gain_by_chance", "label_changes"]
    assert section.notes[0] == audit_numbers.finding(run) and not section.is_folded
    assert all(table.cells() for table in section.tables)
    manifest = run.manifest | {"config": run.config | {"task": "boolq"}}
    other = dataclasses.replace(run, manifest=manifest, label_changes=[])
    folded = audit_sections.sections([run, other])
    assert [one.is_folded for one in folded] == [True, True] and len(folded[1].tables) == 2
    assert audit_sections.sections([dataclasses.replace(run, predictions={})]) == []


@pytest.mark.slow
@pytest.mark.ci
def test_the_legend_of_a_single_panel_is_as_wide_as_its_picture():
    row = {"method": "selective", **dict.fromkeys(("gain", *(key for key, *_ in audit_figures._ITEMS)), 0.1)}
    drawn = audit_figures.draw([row | {"gain_interval": (0.0, 0.2)}], {}, title="sciq")._figure
    drawn.draw_without_rendering()
    (legend,) = drawn.legends
    place = legend.get_window_extent()
    assert place.x0 >= 0 and place.x1 <= drawn.bbox.x1


def test_the_picture_is_drawn_with_and_without_controls(run):
    alone = {name: run.predictions[name] for name in ("weak", "finetune", "posterior")}
    for one in (run, dataclasses.replace(run, predictions=alone, label_changes=[])):
        (section,) = audit_sections.sections([one])
        ((picture, _),) = section.pictures.values()
        assert picture.svg.startswith(b"<?xml")


@pytest.mark.parametrize(
    "changes",
    [
        {"n": -1},
        {"choice_corrected": 102},
        {"choice_spoiled": 90},
        {"random": None},
        {"random": 2.0},
        {"seed": "a"},
    ],
)
def test_entries_that_are_none_are_refused(tmp_path, changes):
    with pytest.raises(ValueError):
        label_forms.checked("label_changes", change(**changes))
    with pytest.raises(UserError, match=r"results.json cannot be read"):
        labels = {"label_changes": [change(**changes)]}
        stored.read_run(report_runs.write_run(tmp_path / "run", p_ik=(), of_labels=labels))
