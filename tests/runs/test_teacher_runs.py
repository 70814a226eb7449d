"""Whole runs of students that earlier students teach: what they learn, what a report says of it."""

import json
import pathlib

import numpy as np
import pytest
from support import tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.experiments import inputs, selective
from selw2s_jax.method import stages_of_labels
from selw2s_jax.report import stored, taught_label_sections
from selw2s_jax.run import forms, pipeline
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import stage as stage_lib

pytestmark = pytest.mark.slow
METHODS = ("finetune", "two_stage", "two_stage_random", "chain", "iterate")


def make_config(**overrides):
    return tiny_config.make_config(
        methods=METHODS,
        strong__model="random-tiny-gpt2",
        chain__models=("random-tiny-gpt2",),
        iterate__rounds=1,
        **overrides,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
    """The workdir of a finished run."""
    workdir = tmp_path_factory.mktemp("teachers")
    pipeline.run(make_config(), workdir)
    return workdir


@pytest.fixture(scope="module")
def experiment(finished) -> selective.Experiment:
    config = config_lib.normalize(make_config())
    return selective.Experiment(config, inputs.prepare(config, finished))


def prob_1(stage, store) -> dict[str, float]:
    table = stage_lib.find(store, stage).read_table("predictions.parquet")
    return dict(zip(table["example_id"], table["prob_1"].tolist(), strict=True))


@pytest.mark.ci
def test_students_learn_the_surest_labels_of_each_stage(finished, experiment):
    store, half = artifacts.Store(finished), experiment.inputs.by_seed[0].student_half
    student = experiment.student(0, "two_stage")
    weak = prob_1(experiment.weak_labels(0), store)
    (labels,) = (one for one in stage_lib.in_order([student]) if one.label == "labels of two_stage 1, seed 0")
    relabelled = prob_1(labels, store)
    first = stages_of_labels.most_confident(half.ids, [weak[name] for name in half.ids], 0.5)
    others = [name for name in half.ids if name not in first]
    second = stages_of_labels.most_confident(others, [relabelled[name] for name in others], 0.5)
    assert (len(first), len(second)) == (16, 8)

    read = student.task.read(student.model, store)
    assert read.example_ids == [name for name in half.ids if name in {*first, *second}]
    expected = [weak[name] if name in first else relabelled[name] for name in read.example_ids]
    np.testing.assert_array_equal(read.columns["weak_probs"][:, 1], np.float32(expected))
    assert all(np.array_equal(*pair) for pair in zip(read.tokens, _tokens(half, student, read), strict=True))


def _tokens(half, student, read):
    by_id = dict(zip(half.ids, half.tokens(student.model), strict=True))
    return [by_id[name] for name in read.example_ids]


@pytest.mark.ci
def test_results_say_how_many_labels_are_right_on_the_way(finished, experiment):
    report = json.loads((finished / "results.json").read_text())
    entries = {(one["method"], one["of"], one["by"]): one for one in report["taught_labels"]}
    half = experiment.inputs.by_seed[0].student_half
    truth = dict(zip(half.ids, half.labels, strict=True))
    weak = prob_1(experiment.weak_labels(0), artifacts.Store(finished))
    right = [(weak[name] > 0.5) == truth[name] for name in truth]
    for name in ("chain", "iterate"):
        entry = entries[name, "all", "weak model"]
        assert entry["n"] == 32 and entry["right"] == pytest.approx(np.mean(right))
        assert entries[name, "all", "student 1, random-tiny-gpt2"]["is_taught"]
    for name in ("two_stage", "two_stage_random"):
        parts = [entries[name, of, "weak model"] for of in ("A", "B", "dropped")]
        assert [part["n"] for part in parts] == [16, 8, 8]
        assert sum(part["n"] * part["right"] for part in parts) / 32 == pytest.approx(np.mean(right))
    # A chain of one model that is the strong one is a round.
    students = {entry["method"]: entry["key"] for entry in report["manifest"]["students"]}
    assert students["chain"] == students["iterate"]
    labels = {stage["label"] for stage in report["manifest"]["stages"]}
    assert {"two_stage 1, seed 0", "labels of two_stage_random 1, seed 0"} <= labels

    (section,) = taught_label_sections.sections([stored.read_run(finished)])
    (table,) = section.tables
    assert len(table.rows) == len(entries) and table.rows[0]["n"] == 16
    assert table.rows[0]["right"] == entries["two_stage", "A", "weak model"]["right"]


def test_ground_truth_of_the_half_changes_no_bit_of_a_student(finished, tmp_path, monkeypatch):
    def poisoned_prepare(*arguments, **options):
        found = inputs.prepare(*arguments, **options)
        for data in found.by_seed.values():
            data.student_half.labels[:] = 1 - data.student_half.labels
        return found

    poisoned = forms.FORMS["class_head"]._replace(prepare=poisoned_prepare)
    monkeypatch.setitem(forms.FORMS, "class_head", poisoned)
    pipeline.run(make_config(), tmp_path)
    made, expected = (
        {
            entry["method"]: entry["key"]
            for entry in json.loads((folder / "results.json").read_text())["manifest"]["test"]["evaluations"]
        }
        for folder in (tmp_path, finished)
    )
    for name in ("weak", *METHODS):
        tables = [
            artifacts.Store(folder)
            .find_by_key("predictions", key)
            .read_table("predictions.parquet")["prob_1"]
            for folder, key in ((tmp_path, made[name]), (finished, expected[name]))
        ]
        assert made[name] == expected[name] and tables[0].tobytes() == tables[1].tobytes()
    assert made["ceiling"] != expected["ceiling"]
