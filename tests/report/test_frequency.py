"""Accuracy by frequency in reports: the mean over runs of a sweep over seeds, and what is no such count."""

import dataclasses
import json

import pytest
from support import report_runs

from selw2s_jax.analysis import methods
from selw2s_jax.errors import UserError
from selw2s_jax.report import frequency_sections, stored

COUNTS = {"n": [4, 4, 4, 4, 0], "correct": {"weak": [4, 3, 2.5, 1, 0], methods.FEW_SHOT: [4, 4, 4, 0, 0]}}


def run_of(folder, counts) -> stored.Run:
    workdir = report_runs.write_run(folder / "run")
    results = json.loads((workdir / "results.json").read_text())
    (workdir / "results.json").write_text(json.dumps(results | {"by_frequency": counts}))
    return stored.read_run(workdir)


def test_counts_are_read_and_those_of_several_runs_are_their_mean(tmp_path):
    run = run_of(tmp_path, COUNTS)
    assert run.by_frequency == [COUNTS]
    more = {"n": COUNTS["n"], "correct": {"weak": [2, 1, 0.5, 1, 0], "other": [0] * 5}}
    (section,) = frequency_sections.sections([dataclasses.replace(run, by_frequency=[COUNTS, more])])
    ((picture, _),) = section.pictures.values()
    assert b">weak</text>" in picture.svg and section.is_leading
    (table,) = section.tables
    (row,) = table.rows  # what both have
    assert row["most common"] == 0.75 and row["rarest"] is None and row["rarest_interval"] is None
    four = run_of(tmp_path / "four", COUNTS | {"chance": 0.25})
    assert four.by_frequency[0]["chance"] == 0.25 and frequency_sections.sections([four])
    assert frequency_sections.sections([dataclasses.replace(run, by_frequency=[])]) == []


@pytest.mark.parametrize(
    "counts",
    [
        COUNTS | {"n": [4, 4]},
        COUNTS | {"chance": 25},
        COUNTS | {"correct": {"weak": [5, 0, 0, 0, 0]}},
        COUNTS | {"correct": {"weak": [0, 0, 0, 0]}},
        COUNTS | {"correct": {"weak": "44440"}},
    ],
)
def test_counts_that_no_run_writes_are_refused(tmp_path, counts):
    with pytest.raises(UserError, match="cannot be read"):
        run_of(tmp_path, counts)
