"""Numbers over the runs of a sequence of tasks: each model on the test of every task after each, what it forgot."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import continual, metrics
from selw2s_jax.report import numbers, stored

SUMMARY = ("average", "learning", "backward_transfer", "forgetting", "before_learning")
_CHANGES = ("backward_transfer", "forgetting")
_OF_SELECTION = ("ik_rate", "p_ik_auroc")


def sequences(runs: Sequence[stored.Run]) -> list[list[stored.Run]]:
    """The runs of each sequence that is finished, in the order of its tasks."""
    found: dict[str, list[stored.Run]] = {}
    for run in runs:
        if run.continual:
            key = json.dumps([run.weak, run.strong, run.settings, tasks(run)])
            found.setdefault(key, []).append(run)
    whole = [members for members in found.values() if {one.task for one in members} == set(tasks(members[0]))]
    return [sorted(members, key=lambda run: tasks(run).index(run.task)) for members in whole]


def tasks(run: stored.Run) -> tuple[str, ...]:
    """Of its sequence, in the order of learning."""
    return tuple(dict.fromkeys(entry["tested"] for entry in run.continual))


def matrices(members: Sequence[stored.Run]) -> dict[str, dict[int, np.ndarray]]:
    """By method and seed, `[T, T]` accuracy: after each task, on each task."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for run in members:
        for entry in run.continual:
            found.setdefault(entry["method"], {}).setdefault(entry["seed"], []).append(entry)
    in_turn = tasks(members[0])
    of_methods = {
        method: {seed: continual.matrix(entries, in_turn) for seed, entries in of_seed.items()}
        for method, of_seed in found.items()
    }
    return {
        method: there
        for method, of_seed in of_methods.items()
        if (there := {seed: one for seed, one in of_seed.items() if one is not None})
    }


def accuracy_rows(members: Sequence[stored.Run]) -> list[dict[str, Any]]:
    """Per method and task learnt, the mean accuracy over seeds on every task, and the interval as of a single run."""
    in_turn, counts = tasks(members[0]), {}
    for entry in members[0].continual:
        counts[entry["tested"]] = entry["n"]
    rows = []
    for method, of_seed in matrices(members).items():
        for place, learnt in enumerate(in_turn):
            row: dict[str, Any] = {"method": method, "learnt": learnt, "num_seeds": len(of_seed)}
            for column, tested in enumerate(in_turn):
                values = [one[place, column] for one in of_seed.values()]
                correct = [round(value * counts[tested]) for value in values]
                row[tested] = float(np.mean(values))
                row[f"{tested} interval"] = metrics.accuracy_interval(correct, counts[tested])
            rows.append(row)
    return rows


def summary_rows(members: Sequence[stored.Run]) -> list[dict[str, Any]]:
    """Per method, the numbers of `continual.summary` as means over seeds, with Student's interval of several seeds."""
    rows = []
    for method, of_seed in matrices(members).items():
        found = [continual.summary(one) for one in of_seed.values()]
        row: dict[str, Any] = {"method": method, "num_seeds": len(found)}
        for name in SUMMARY:
            values = [one[name] for one in found]
            row[name] = numbers.mean(values)
            bounds = None if None in values else metrics.mean_interval(values)
            low = -1.0 if name in _CHANGES else 0.0  # what the number can be, of few seeds too
            row[f"{name}_interval"] = bounds and (max(bounds[0], low), min(bounds[1], 1.0))
        rows.append(row)
    return rows


def selection_rows(members: Sequence[stored.Run]) -> list[dict[str, Any]]:
    """Per method that selects and task, after that task: means over seeds of the IK rate and of P(IK)'s AUROCs.

    `ik_rate` and `p_ik_auroc` are of the labels of the student's half in the second half of training, `in_auroc` of the
    held-out questions that P(IK) was trained on the like of.
    """
    rows = []
    for run in members:
        of_methods: dict[str, list[Mapping[str, Any]]] = {}
        for entry in run.diagnostics:
            of_methods.setdefault(entry["method"], []).append(entry)
        for method, entries in of_methods.items():
            tested = [
                one["auroc"] for one in run.p_ik if one["method"] == method and one["distribution"] == "in"
            ]
            rows.append(
                {
                    "method": method,
                    "learnt": run.task,
                    "num_seeds": len(entries),
                    **{name: numbers.mean([entry[name] for entry in entries]) for name in _OF_SELECTION},
                    "in_auroc": numbers.mean(tested),
                }
            )
    order = list(dict.fromkeys(row["method"] for row in rows))
    return sorted(rows, key=lambda row: order.index(row["method"]))
