"""The numbers of a report on the labels of the student's half: where weak and self label differ, and what P(IK) tells.

Every function takes a `stored.Run`; means are over seeds.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import disagreement, metrics
from selw2s_jax.report import numbers, stored

LABELS = {"weak": "weak labels", "self": "self labels"}  # what the labels of students are made of
PARTS = ("all", "disagreeing")
_MEASURES = tuple(f"{label}_{measure}" for label in (*LABELS, "target") for measure in ("right", "brier"))


def by_p_ik(run: stored.Run) -> dict[str | None, list[dict[str, Any]]]:
    """An entry for each seed by whose P(IK) it has; those without any, by None, where there are no others."""
    found: dict[str | None, dict[int, dict[str, Any]]] = {}
    for entry in run.disagreement:
        if entry["disagreeing"] is not None:
            found.setdefault(entry["p_ik_of"], {}).setdefault(entry["seed"], entry)
    if len(found) > 1:
        found.pop(None, None)
    return {whose: list(of_seeds.values()) for whose, of_seeds in found.items()}


def overview_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per P(IK): how often the labels differ, which is then right, and AUROC of P(IK) there."""
    rows = []
    for whose, entries in by_p_ik(run).items():
        area, area_interval = _mean_auroc(entries)
        there, there_interval = _mean_share(entries)
        correlation, correlation_interval = _mean_correlation(entries)
        row = {
            "p_ik_of": whose,
            "num_seeds": len(entries),
            "n": round(statistics.fmean(entry["all"]["n"] for entry in entries)),
            "share": statistics.fmean(_share(entry) for entry in entries),
            "self_right_there": there,
            "self_right_there_interval": there_interval,
            "weak_right_there": numbers.mean([entry["disagreeing"]["weak_right"] for entry in entries]),
            "auroc": area,
            "auroc_interval": area_interval,
            "auroc_all": numbers.mean([entry["auroc_all"] for entry in entries]),
            "error_correlation": correlation,
            "error_correlation_interval": correlation_interval,
        }
        for label in LABELS:
            row[f"{label}_right"] = numbers.mean([entry["all"][f"{label}_right"] for entry in entries])
        rows.append(row)
    return rows


def _share(entry: Mapping[str, Any]) -> float:
    """Of the rows on which the labels differ."""
    return entry["disagreeing"]["n"] / max(entry["all"]["n"], 1)


def _mean_auroc(entries: Sequence[Mapping[str, Any]]) -> tuple[float | None, tuple[float, float] | None]:
    there = [entry for entry in entries if entry["auroc"] is not None]
    bounds = [
        None
        if None in (entry["auroc_low"], entry["auroc_high"])
        else (entry["auroc_low"], entry["auroc_high"])
        for entry in there
    ]
    return numbers.over_seeds([entry["auroc"] for entry in there], bounds)


def _mean_share(entries: Sequence[Mapping[str, Any]]) -> tuple[float | None, tuple[float, float] | None]:
    """Of the self labels that are right where the labels differ."""
    parts = [entry["disagreeing"] for entry in entries]
    there = [part for part in parts if part["n"] and part["self_right"] is not None]
    shares = [part["self_right"] for part in there]
    return numbers.over_seeds(
        shares, [metrics.wilson_interval(round(part["self_right"] * part["n"]), part["n"]) for part in there]
    )


def _mean_correlation(
    entries: Sequence[Mapping[str, Any]],
) -> tuple[float | None, tuple[float, float] | None]:
    names = tuple(f"error_correlation{end}" for end in ("", "_low", "_high"))
    there = [[entry[name] for name in names] for entry in entries if entry[names[0]] is not None]
    # From [-1, 1] to [0, 1] and back, where the interval over seeds ends.
    halved = [[None if value is None else (value + 1) / 2 for value in values] for values in there]
    bounds = [None if None in values else (values[1], values[2]) for values in halved]
    _, interval = numbers.over_seeds([values[0] for values in halved], bounds)
    mean = numbers.mean([values[0] for values in there])
    return mean, None if interval is None else (2 * interval[0] - 1, 2 * interval[1] - 1)


def label_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Weak labels, self labels and what each method was trained on: share right and Brier by part of the rows."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for entry in run.disagreement:
        by_method.setdefault(entry["method"], []).append(entry)
    if not by_method:
        return []
    first = next(iter(by_method.values()))
    kinds = [(name, label, first) for label, name in LABELS.items()]
    kinds += [(method, "target", entries) for method, entries in by_method.items()]
    rows = []
    for name, label, entries in kinds:
        row = {"labels": name, "num_seeds": len(entries)}
        for part in PARTS:
            there = [entry[part] for entry in entries if entry[part] is not None]
            for measure in ("right", "brier"):
                row[f"{measure}_{part}"] = numbers.mean([one[f"{label}_{measure}"] for one in there])
        if row["right_all"] is not None:
            rows.append(row)
    return rows


def bin_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per method that has a P(IK), bin of it, and part of the rows: the labels, over the rows of all seeds."""
    rows = []
    for method in dict.fromkeys(entry["method"] for entry in run.disagreement):
        entries = [entry for entry in run.disagreement if entry["method"] == method]
        pooled = {part: {one["low"]: one for one in pooled_bins(entries, part)} for part in PARTS}
        for low, of_all in pooled["all"].items():
            row = {"method": method, "p_ik_of": entries[0]["p_ik_of"], "p_ik": (low, of_all["high"])}
            for part in PARTS:
                of_part = pooled[part].get(low, {})
                row |= {f"{name}_{part}": of_part.get(name) for name in ("n", *_MEASURES)}
            rows.append(row)
    return rows


def pooled_bins(entries: Sequence[Mapping[str, Any]], part: str) -> list[dict[str, Any]]:
    """The bins of P(IK) over the rows of several seeds.

    Args:
        part: "all" rows, or the "disagreeing" ones.

    Returns:
        `low`, `high`, `n`, and the shares right and Brier scores of the labels; bins without a row are left out.
    """
    found: dict[int, list[Mapping[str, Any]]] = {}
    for entry in entries:
        for one in entry["bins"]:
            if one[part] is not None and one[part]["n"]:
                found.setdefault(round(one["low"] * disagreement.NUM_BINS), []).append(one)
    return [
        {"low": of_bin[0]["low"], "high": of_bin[0]["high"], **_pool([one[part] for one in of_bin])}
        for _, of_bin in sorted(found.items())
    ]


def _pool(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    pooled: dict[str, Any] = {"n": sum(part["n"] for part in parts)}
    for name in _MEASURES:
        there = [part for part in parts if part[name] is not None]
        weights = [part["n"] for part in there]
        pooled[name] = statistics.fmean([part[name] for part in there], weights) if there else None
    return pooled
