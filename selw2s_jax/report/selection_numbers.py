"""The numbers of a report on how often rows of the student's half were chosen over training; means are over seeds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import metrics
from selw2s_jax.report import numbers, stored

MEASURES = ("mean", "never", "always")


def overview_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per method: `MEASURES` of all rows, the mean where the weak label is right and wrong, and their difference."""
    rows = []
    for method, entries in _by_method(run).items():
        row: dict[str, Any] = {"method": method, "num_seeds": len(entries)}
        for measure in MEASURES:
            row[measure] = numbers.mean([_pool(entry["groups"], measure) for entry in entries])
        of_seeds = {
            is_right: [_pool(_of_label(entry, is_right), "mean") for entry in entries]
            for is_right in (True, False)
        }
        differences = [
            wrong - right
            for right, wrong in zip(of_seeds[True], of_seeds[False], strict=True)
            if None not in (right, wrong)
        ]
        row["right"], row["wrong"] = numbers.mean(of_seeds[True]), numbers.mean(of_seeds[False])
        row["difference"] = numbers.mean(differences)
        row["difference_interval"] = metrics.mean_interval(differences)
        row["unseen"] = statistics.fmean(entry["unseen"] for entry in entries)
        rows.append(row)
    return rows


def group_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per method, bin of weak confidence, and whether the weak label is right: `n` and `MEASURES`.

    A share is the mean over the seeds that have such rows, `n` over all.
    """
    rows = []
    for method, entries in _by_method(run).items():
        groups: dict[tuple[float, float, bool], list[Mapping[str, Any]]] = {}
        for entry in entries:
            for one in entry["groups"]:
                groups.setdefault((one["low"], one["high"], not one["weak_right"]), []).append(one)
        for (low, high, is_wrong), of_seeds in sorted(groups.items()):
            row = {"method": method, "confidence": (low, high), "label": "wrong" if is_wrong else "right"}
            row["n"] = round(sum(one["n"] for one in of_seeds) / len(entries))
            row |= {measure: numbers.mean([one[measure] for one in of_seeds]) for measure in MEASURES}
            rows.append(row | {"num_seeds": len(of_seeds)})
    return rows


def _by_method(run: stored.Run) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in run.selection_frequency:
        found.setdefault(entry["method"], []).append(entry)
    return found


def _of_label(entry: Mapping[str, Any], is_right: bool) -> list[Mapping[str, Any]]:
    return [one for one in entry["groups"] if one["weak_right"] == is_right]


def _pool(groups: Sequence[Mapping[str, Any]], measure: str) -> float | None:
    """Of all rows of some groups; None without any."""
    weights = [one["n"] for one in groups]
    return statistics.fmean([one[measure] for one in groups], weights) if groups else None
