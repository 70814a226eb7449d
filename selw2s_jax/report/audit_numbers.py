"""The numbers of a report on what gains over `finetune` are made of.

Every function takes a `stored.Run` and returns what is finished.
"""

import functools
from collections.abc import Sequence
from typing import Any

from selw2s_jax.analysis import audit
from selw2s_jax.method import registry
from selw2s_jax.report import numbers, stored

AREAS = ("weak_wrong", "weak_right")
_CACHED = 1024


def audited(run: stored.Run) -> list[str]:
    """The students that a gain over `numbers.BASELINE` can be told of."""
    if not {"weak", numbers.BASELINE} <= run.predictions.keys():
        return []
    return [
        method
        for method in run.predictions
        if method not in (*registry.REFERENCES, numbers.BASELINE)
        and run.common_seeds("weak", numbers.BASELINE, method)
    ]


@functools.lru_cache(_CACHED)
def steps(run: stored.Run, seeds: tuple[int, ...], *path: str) -> list[audit.Step]:
    """`audit.steps` from one method to the next, over seeds that all have."""
    return audit.steps(run.correct("weak", seeds), *(run.correct(name, seeds) for name in path))


def _seeds(run: stored.Run, *path: str) -> tuple[int, ...]:
    return tuple(run.common_seeds("weak", *path))


def gain_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per student: the gain over `numbers.BASELINE`, and its parts by whether the weak model is right on an item."""
    rows = []
    for method in audited(run):
        seeds = _seeds(run, numbers.BASELINE, method)
        (step,) = steps(run, seeds, numbers.BASELINE, method)
        row = {"method": method, "num_seeds": len(seeds)}
        row |= {"gain": step.all.mean, "gain_interval": step.all.interval}
        for area in AREAS:
            change: audit.Change = getattr(step, area)
            row |= {
                area: change.mean,
                f"{area}_interval": change.interval,
                f"{area}_gained": change.gained / change.total,
                f"{area}_lost": change.lost / change.total,
            }
        rows.append(row)
    return rows


def chance_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per student and control of it: the gain, what of it the control has too, and what is the student's own."""
    rows = []
    for method in audited(run):
        for control in numbers.controls(run, method):
            seeds = _seeds(run, numbers.BASELINE, control, method)
            if not seeds:
                continue
            (whole,) = steps(run, seeds, numbers.BASELINE, method)
            chance, own = steps(run, seeds, numbers.BASELINE, control, method)
            row = {"method": method, "control": control, "num_seeds": len(seeds)}
            named = {"gain": whole.all, "chance": chance.all, "own": own.all}
            named |= {f"own_{area}": getattr(own, area) for area in AREAS}
            for name, change in named.items():
                row |= {name: change.mean, f"{name}_interval": change.interval}
            rows.append(row)
    return rows


def label_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per method that chose among labels: what became of the weak labels of the student's half, means over seeds."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for entry in run.label_changes:
        if entry["n"]:
            by_method.setdefault(entry["method"], []).append(entry)
    return [
        {"method": method, "num_seeds": len(entries)} | _label_row(entries)
        for method, entries in by_method.items()
    ]


def _label_row(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for step in ("choice", "smoothing"):
        for kind in ("corrected", "spoiled"):
            row[f"{step}_{kind}"] = numbers.mean([one[f"{step}_{kind}"] / one["n"] for one in entries])
    nets = {
        step: [(one[f"{step}_corrected"] - one[f"{step}_spoiled"]) / one["n"] for one in entries]
        for step in ("choice", "smoothing")
    }
    row["gain"] = numbers.mean([sum(pair) for pair in zip(*nets.values(), strict=True)])
    bounds = [
        audit.net_interval(one["smoothing_corrected"], one["smoothing_spoiled"], one["n"]) for one in entries
    ]
    row["smoothing"], row["smoothing_interval"] = _over_seeds(nets["smoothing"], bounds)
    row |= dict.fromkeys(("random", "own", "own_interval"))
    if all(one["random"] is not None for one in entries):
        row["random"] = numbers.mean([one["random"] for one in entries])
        own = [net - one["random"] for net, one in zip(nets["choice"], entries, strict=True)]
        reach = [1.96 * one["random_deviation"] for one in entries]
        row["own"], row["own_interval"] = _over_seeds(
            own, [(value - half, value + half) for value, half in zip(own, reach, strict=True)]
        )
    return row


def _over_seeds(
    values: Sequence[float], bounds: Sequence[tuple[float, float]]
) -> tuple[float | None, tuple[float, float] | None]:
    """`numbers.over_seeds` of differences of shares: from [-1, 1] to [0, 1] and back, where its interval ends."""
    halved = [(value + 1) / 2 for value in values]
    _, interval = numbers.over_seeds(halved, [((low + 1) / 2, (high + 1) / 2) for low, high in bounds])
    return numbers.mean(values), None if interval is None else (2 * interval[0] - 1, 2 * interval[1] - 1)


def finding(run: stored.Run) -> str | None:
    """What the audit found for the subject of the run, in a sentence; for its first student where it has no subject."""
    methods = [name for name in run.of_role("subject") if name in audited(run)] or [
        name for name in audited(run) if run.facts(name).role != "control"
    ]
    methods = [name for name in methods if numbers.own_controls(run, name)] or methods
    if not methods:
        return None
    method = methods[0]
    rows = [row for row in chance_rows(run) if row["method"] == method]
    (gain,) = (row for row in gain_rows(run) if row["method"] == method)
    text = (
        f"{method} gains {_points(gain, 'gain')} over {numbers.BASELINE}: {_points(gain, 'weak_wrong')} where the weak "
        f"model is wrong and {_points(gain, 'weak_right')} where it is right"
    )
    if not rows:
        return f"{text}; without a control nothing says whether its choice of labels did it."
    row = rows[0]
    low, high = row["own_interval"]
    verdict = "no gain by its own choice is established"
    if low > 0:
        verdict = "its own choice gains"
    elif high < 0:
        verdict = "its own choice loses"
    return (
        f"{text}; the control {row['control']} has {_points(row, 'chance')} of it, {_points(row, 'own')} are of its "
        f"own choice: {verdict}.{_of_labels(run, method)}"
    )


def _of_labels(run: stored.Run, method: str) -> str:
    """What the choice did among the training labels, as another sentence; nothing where it is not known."""
    rows = [row for row in label_rows(run) if row["method"] == method and row["own_interval"] is not None]
    if not rows:
        return ""
    return f" Among its training labels the choice makes {_points(rows[0], 'own')} more right than random rows would."


def _points(row: dict[str, Any], name: str) -> str:
    return numbers.points(row[name], row[f"{name}_interval"])
