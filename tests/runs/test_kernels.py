"""Kernels of a run: which rows they are of, and that models, truth and weak labels stand in their places."""

import types

import numpy as np
import pytest

from selw2s_jax.analysis import kernels as analysis
from selw2s_jax.run import kernels
from selw2s_jax.stages import embed

IDS = [f"example-{number}" for number in (5, 3, 11, 2, 7, 13, 1)]


def test_rows_are_drawn_by_example_id_alone():
    chosen = {IDS[row] for row in kernels.choose_rows(IDS, 4)}
    assert [IDS[row] for row in kernels.choose_rows(IDS, 4)] == sorted(chosen) and len(chosen) == 4
    turned = IDS[::-1]
    assert [turned[row] for row in kernels.choose_rows(turned, 4)] == sorted(chosen)
    assert {IDS[row] for row in kernels.choose_rows(IDS, 3)} < chosen
    assert [IDS[row] for row in kernels.choose_rows(IDS, 100)] == sorted(IDS)
    fewer = sorted(chosen)
    assert [fewer[row] for row in kernels.choose_rows(fewer, 4)] == fewer


def test_numbers_are_of_both_models_and_both_labels(monkeypatch):
    rng = np.random.default_rng(0)
    values = {"weak": rng.normal(size=(7, 2)), "strong": rng.normal(size=(7, 5))}
    labels = np.array([0, 1, 1, 0, 1, 0, 0])
    weak_labels = rng.dirichlet((1, 1), 7)
    half = types.SimpleNamespace(ids=IDS, labels=labels)
    experiment = types.SimpleNamespace(
        has_kernels=True,
        inputs=types.SimpleNamespace(by_seed={3: types.SimpleNamespace(student_half=half)}),
        embeddings=lambda role, seed, split: (role, seed, split),
        weak_column=lambda seed: types.SimpleNamespace(read=lambda split, store: weak_labels),
    )

    def read(store, stages, split):
        ((role, *of),) = stages
        assert of == [3, "student_half"] and split is half
        return values[role]

    monkeypatch.setattr(embed, "read", read)
    config = types.SimpleNamespace(seeds=(3,), analysis=types.SimpleNamespace(num_rows=5))
    (entry,) = kernels.describe(config, experiment, None)
    rows = kernels.choose_rows(IDS, 5)
    sides = values["weak"][rows], values["strong"][rows]
    expected = analysis.predicted_gap(*sides, labels[rows])
    assert (entry["seed"], entry["n"], entry["gap"]) == (3, 5, pytest.approx(expected["gap"]))
    assert entry["effective_dimension_weak"] == pytest.approx(expected["effective_dimension_weak"])
    of_weak = analysis.predicted_gap(*sides, weak_labels[rows, 1])
    assert entry["weak_label_gap"] == pytest.approx(of_weak["gap"])
    experiment.has_kernels = False
    assert kernels.describe(config, experiment, None) == []
