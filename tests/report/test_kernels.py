"""Representation kernels in reports: one pair, pairs of a sweep with their ranks, refused entries."""

import dataclasses

import numpy as np
import pytest
from support import report_runs

from selw2s_jax.errors import UserError
from selw2s_jax.report import document, kernel_figures, kernel_forms, kernel_numbers, kernel_sections, stored

GAPS = {"gpt2": 0.08, "gpt2-medium": 0.05, "gpt2-large": 0.02, "$a_b": 0.01}


def read(folder, **changes) -> stored.Run:
    return stored.read_run(report_runs.write_run(folder, p_ik=(), **changes))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> list[stored.Run]:
    """Four weak models of one strong one; the fourth has no students that are finished."""
    cells = {}
    for number, (weak, gap) in enumerate(GAPS.items()):
        entries = [report_runs.kernel_entry(seed, gap=gap * (1 + seed / 10)) for seed in (0, 1)]
        right = report_runs.RIGHT | {"finetune": (6 + number, 6 + number)}
        cells[f"weak.model={weak}"] = {
            "weak": weak,
            "right": right,
            "of_labels": {"kernels": entries},
            "unfinished": ("finetune",) if number == 3 else (),
        }
    workdir = tmp_path_factory.mktemp("kernels") / "sweep"
    return stored.read(report_runs.write_sweep(workdir, cells, p_ik=())).runs


def test_realised_gap_is_that_of_the_predictions(sweep):
    run = sweep[0]
    ceiling, student = run.predictions["ceiling"][1], run.predictions["finetune"][1]
    # Of ten items four differ, 0.8 and 0.2.
    assert kernel_numbers.realised_gap(run, 1) == pytest.approx(4 * 0.36 / 10)
    assert kernel_numbers.realised_gap(run, 1) == pytest.approx(np.mean((ceiling - student) ** 2))
    assert kernel_numbers.realised_gap(sweep[3], 1) is None


def test_pairs_are_means_over_seeds_and_ordered_by_rank(sweep):
    rows = [kernel_numbers.pair_row(run) for run in sweep]
    assert [row["gap"] for row in rows] == pytest.approx([1.05 * gap for gap in GAPS.values()])
    low, high = rows[0]["gap_interval"]
    assert 0 <= low < rows[0]["gap"] < high and rows[3]["realised_gap"] is None
    assert rows[3]["realised_gap_interval"] is None
    ranked = {row["predictor"]: row for row in kernel_numbers.rank_rows(rows)}
    found = ranked["predicted gap, with truth"]
    assert (found["rho"], found["num_pairs"]) == (1, 3) and found["p_value"] == pytest.approx(1 / 3)
    assert ranked["operator norm"]["rho"] is None  # the same of all pairs


def test_pairs_of_a_sweep_stand_in_one_section(sweep, monkeypatch):
    monkeypatch.setattr(kernel_figures, "draw_gaps", lambda *_, **__: b"png")
    (section,) = kernel_sections.sections(sweep)
    assert section.title == "Representation kernels: sciq" and list(section.pictures) == ["kernels-1"]
    assert [table.name for table in section.tables] == ["kernels", "kernel_ranks", "kernel_seeds"]
    assert [len(table.rows) for table in section.tables] == [4, 3, 8] and len(section.notes) == 1
    manifest = sweep[1].manifest | {"config": sweep[1].config | {"ceiling": {"split": "both"}}}
    (section,) = kernel_sections.sections([sweep[0], dataclasses.replace(sweep[1], manifest=manifest)])
    assert "gpt2-medium and qwen-14b is trained on other rows" in section.notes[1]


@pytest.mark.usefixtures("no_pictures")
def test_one_pair_is_numbers_alone(tmp_path):
    run = read(tmp_path / "run", of_labels={"kernels": [report_runs.kernel_entry(gap=0.000123)]})
    (section,) = kernel_sections.sections([run])
    assert not section.pictures and [table.name for table in section.tables] == ["kernels", "kernel_seeds"]
    files = document.files([run])
    (row,) = report_runs.read_csv(files["kernels.csv"])
    assert (row["task"], row["weak"], row["strong"]) == ("sciq", "gpt2", "qwen-14b")
    assert float(row["gap"]) == 0.000123 and "0.000123" in files["kernels.md"].decode()
    assert kernel_sections.sections([read(tmp_path / "old")]) == []


@pytest.mark.slow
def test_picture_of_pairs(sweep):
    (section,) = kernel_sections.sections(sweep)
    assert section.pictures["kernels-1"][0].svg.startswith(b"<?xml")


@pytest.mark.parametrize(
    "change",
    [{"gap": -0.1}, {"gap": 0.3}, {"weak_label_gap": None}, {"operator_norm": 1.5}, {"seed": "0"},
     {"effective_dimension_weak": 42.0}, {"effective_dimension_strong": float("nan")}, {"n": -1}],
)  # fmt: skip
def test_entries_that_are_none_are_refused(change, tmp_path):
    entry = report_runs.kernel_entry()
    assert kernel_forms.checked(entry) == entry
    with pytest.raises(ValueError):
        kernel_forms.checked(entry | change)
    with pytest.raises(UserError, match=r"results.json cannot be read"):
        read(tmp_path / "run", of_labels={"kernels": [entry | change]})
