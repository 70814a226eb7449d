"""Representation kernels of a run: the gap that the embeddings of both pretrained models predict, by seed."""

from typing import Any

import ml_collections
import numpy as np

from selw2s_jax.analysis import kernels
from selw2s_jax.data import by_id
from selw2s_jax.experiments import selective
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import embed

_ROLES = ("weak", "strong")


def describe(
    config: ml_collections.ConfigDict, experiment: selective.Experiment, store: artifacts.Store
) -> list[dict[str, Any]]:
    """What `analysis.kernels` says of rows of the student's half, where the run asks for it: an entry for each seed.

    `n` rows of them; `gap` with the truth and `weak_label_gap` with the weak labels in its place, as students see
    them; `operator_norm`, `effective_dimension_weak` and `effective_dimension_strong`, which are of no labels.
    """
    if not experiment.has_kernels:
        return []
    return [
        {"seed": seed, **_of_seed(config.analysis.num_rows, experiment, store, seed)} for seed in config.seeds
    ]


def choose_rows(example_ids: list[str], num_rows: int) -> np.ndarray:
    """The places of up to that many rows, by a draw for each example_id, in the order of example_id.

    What one run takes of its rows another takes too where it has them, whatever its seed, models and order of rows.
    """
    draws = [by_id.keyed_uniform(0, "kernels", name) for name in example_ids]
    chosen = np.argsort(draws, kind="stable")[:num_rows]
    return np.array(sorted(chosen, key=lambda row: example_ids[row]))


def _of_seed(
    num_rows: int, experiment: selective.Experiment, store: artifacts.Store, seed: int
) -> dict[str, Any]:
    half = experiment.inputs.by_seed[seed].student_half
    rows = choose_rows(half.ids, num_rows)
    weak, strong = (
        embed.read(store, [experiment.embeddings(role, seed, "student_half")], half)[rows] for role in _ROLES
    )
    # Ground truth of the half, after training and for this alone.
    targets = {"truth": half.labels, "weak labels": experiment.weak_column(seed).read(half, store)[:, 1]}
    found = kernels.predicted_gaps(weak, strong, {name: values[rows] for name, values in targets.items()})
    names = ("operator_norm", "effective_dimension_weak", "effective_dimension_strong")
    return {
        "n": len(rows),
        "gap": found["truth"]["gap"],
        "weak_label_gap": found["weak labels"]["gap"],
        **{name: found["truth"][name] for name in names},
    }
