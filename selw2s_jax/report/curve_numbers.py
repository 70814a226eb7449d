"""Numbers of curves over training: accuracy and agreement by step; the last, the stopped and the best step.

Every function takes a `stored.Run` and returns rows, a dict each, of what is finished.
"""

import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from selw2s_jax.analysis import comparisons, metrics, training_curves
from selw2s_jax.method import registry
from selw2s_jax.report import curves, numbers, stored

# What a student is compared with besides the truth, over training: weak model's test answers, then rows of its half.
AGREEMENTS = ("agreement", "agreement_weak_right", "agreement_weak_wrong", *curves.OF_THE_HALF)
_CACHED = 4096


def step_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per method and step that all its seeds have: accuracy, and per student the `AGREEMENTS`, None where not known."""
    rows = []
    for method in run.curves:
        by_seed = seed_curves(run, method)
        for step in shared_steps(run, method):
            at = [next(one for one in of_seed if one["step"] == step) for of_seed in by_seed.values()]
            counts = [one["correct"] for one in at]
            rows.append(
                {
                    "method": method,
                    "step": step,
                    "accuracy": statistics.fmean(counts) / len(run.truth),
                    "accuracy_interval": metrics.accuracy_interval(counts, len(run.truth)),
                    **{name: numbers.mean([one[name] for one in at]) for name in AGREEMENTS},
                    "num_seeds": len(at),
                }
            )
    return rows


def shared_steps(run: stored.Run, method: str) -> list[int]:
    """The steps, in order, at which a method was asked in all of its seeds."""
    of_seeds = [set(curve.steps.tolist()) for curve in run.curves[method].values()]
    return sorted(set.intersection(*of_seeds))


@functools.lru_cache(_CACHED)
def seed_curves(run: stored.Run, method: str) -> dict[int, list[dict[str, Any]]]:
    """By seed and step: step, correct (a count), accuracy and `AGREEMENTS`."""
    found = {}
    for seed, curve in sorted(run.curves[method].items()):
        right = _correct(run, curve)
        columns: dict[str, np.ndarray] = {"correct": right.sum(axis=1), "accuracy": right.mean(axis=1)}
        columns |= _agreements(run, method, seed)
        found[seed] = [
            {
                "step": int(step),
                **{name: _value(columns, name, k) for name in ("correct", "accuracy", *AGREEMENTS)},
            }
            for k, step in enumerate(curve.steps)
        ]
    return found


def _value(columns: Mapping[str, np.ndarray], name: str, place: int) -> float | int | None:
    if name not in columns or np.isnan(columns[name][place]):
        return None
    return columns[name][place].item()


def _agreements(run: stored.Run, method: str, seed: int) -> dict[str, np.ndarray]:
    """By name in `AGREEMENTS`, `[K]`; nothing of weak model and ceiling, which learn from the truth."""
    if method in registry.REFERENCES:
        return {}
    curve, found = run.curves[method][seed], {}
    if seed in run.common_seeds("weak"):
        weak = run.answers("weak", seed)
        rows = {"agreement": slice(None), "agreement_weak_right": weak == run.truth}
        rows["agreement_weak_wrong"] = ~rows["agreement_weak_right"]
        found = {
            name: training_curves.agreement(curve.test[:, which], weak[which]) for name, which in rows.items()
        }
    of_half = {name: training_curves.agreement(*compared) for name, compared in curve.of_half.items()}
    return found | of_half


def _correct(run: stored.Run, curve: curves.Curve) -> np.ndarray:
    """Whether each test item is right at each step, `[K, N]` bool."""
    return (curve.test > 0.5) == run.truth


class _Stops(NamedTuple):
    """A method's seeds at some steps of their curves: `[S, N]` bool, whether a test item is right; steps `[S]`.

    Attributes:
        last: at the end of training.
        oracle: at the step that is best on the test set.
        crossed: each half of the test items at the step that is best on the other half.
        stopped: at the step of highest agreement with the weak labels of held-out rows; None where there are none.
    """

    last: np.ndarray
    oracle: np.ndarray
    crossed: np.ndarray
    stopped: np.ndarray | None
    last_steps: list[int]
    oracle_steps: list[int]
    stopped_steps: list[int] | None
    crossed_places: list[np.ndarray]


@functools.lru_cache(_CACHED)
def _stops(run: stored.Run, method: str) -> _Stops:
    by_seed = [curve for _, curve in sorted(run.curves[method].items())]
    correct = [_correct(run, curve) for curve in by_seed]
    pairs = list(zip(by_seed, correct, strict=True))
    oracle = [training_curves.best_place(curve.steps, right.mean(axis=1)) for curve, right in pairs]
    crossed = [training_curves.crossed_places(curve.steps, right) for curve, right in pairs]
    stopped = None
    if all("held_out" in curve.of_half for curve in by_seed):
        agreements = [training_curves.agreement(*curve.of_half["held_out"]) for curve in by_seed]
        stopped = [
            training_curves.best_place(curve.steps, agreed)
            for curve, agreed in zip(by_seed, agreements, strict=True)
        ]

    def at(places: Sequence[int]) -> np.ndarray:
        return np.stack([right[place] for right, place in zip(correct, places, strict=True)])

    def steps(places: Sequence[int]) -> list[int]:
        return [int(curve.steps[place]) for curve, place in zip(by_seed, places, strict=True)]

    ends = [-1] * len(by_seed)
    items = np.arange(len(run.truth))
    return _Stops(
        last=at(ends),
        oracle=at(oracle),
        crossed=np.stack([right[places, items] for right, places in zip(correct, crossed, strict=True)]),
        stopped=None if stopped is None else at(stopped),
        last_steps=steps(ends),
        oracle_steps=steps(oracle),
        stopped_steps=None if stopped is None else steps(stopped),
        crossed_places=crossed,
    )


def stop_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per method: accuracy at the last step, where held-out weak labels stop it, and at the oracle's best step.

    Each seed has steps of its own. Differences are bootstrapped over items and seeds with the chosen steps as they are.
    """
    rows = []
    for method in run.curves:
        stops = _stops(run, method)
        row = {
            "method": method,
            "num_seeds": len(stops.last),
            "last_step": statistics.fmean(stops.last_steps),
            **_accuracy("last", stops.last),
            "oracle_step": statistics.fmean(stops.oracle_steps),
            **_accuracy("oracle", stops.oracle),
            "oracle_gain": float(stops.oracle.mean() - stops.last.mean()),
            **_change("crossed_gain", stops.crossed, stops.last),
            **dict.fromkeys(("stopped_step", "stopped", "stopped_interval", "missed")),
            **_change("stopped_gain", stops.stopped, stops.last),
            "stopped_pgr": _gap_recovered(run, method, stops.stopped),
            "oracle_pgr": _gap_recovered(run, method, stops.oracle),
        }
        if stops.stopped is not None:
            row |= _accuracy("stopped", stops.stopped)
            row |= {
                "stopped_step": statistics.fmean(stops.stopped_steps),
                "missed": float(stops.stopped.mean() - stops.oracle.mean()),
            }
        rows.append(row)
    return rows


def _accuracy(name: str, correct: np.ndarray) -> dict[str, Any]:
    counts, total = correct.sum(axis=1).tolist(), correct.shape[1]
    return {
        name: statistics.fmean(counts) / total,
        f"{name}_interval": metrics.accuracy_interval(counts, total),
    }


def _change(name: str, correct: np.ndarray | None, last: np.ndarray) -> dict[str, Any]:
    if correct is None:
        return {name: None, f"{name}_interval": None}
    change = comparisons.bootstrap_difference(correct, last)
    return {name: change.mean, f"{name}_interval": numbers.interval(change)}


def _gap_recovered(run: stored.Run, method: str, correct: np.ndarray | None) -> float | None:
    """PGR of a student at some steps, of weak model and ceiling as they are at the end."""
    seeds = sorted(run.curves[method])
    is_student = method not in (*registry.REFERENCES, *run.members)
    if not is_student or correct is None or not set(seeds) <= set(run.common_seeds("weak", "ceiling")):
        return None
    weak, ceiling = run.weak_performance(seeds).mean(), run.correct("ceiling", seeds).mean()
    return metrics.performance_gap_recovered(float(weak), float(correct.mean()), float(ceiling))


class Overfitting(NamedTuple):
    """What a student loses from its best step to its last, on items that the step was not chosen on.

    Attributes:
        fall: in accuracy, with its interval.
        rise: in agreement with the weak model, mean over the same items.
        first, last: mean of the best steps, and of the last.
    """

    fall: comparisons.Difference
    rise: float
    first: float
    last: float


def overfitting(run: stored.Run, method: str) -> Overfitting | None:
    """What a student loses while it agrees more with its teacher; None where it does not beyond chance."""
    seeds = sorted(run.curves[method])
    if method in registry.REFERENCES or not set(seeds) <= set(run.common_seeds("weak")):
        return None
    stops = _stops(run, method)
    fall = comparisons.bootstrap_difference(stops.crossed, stops.last)
    rises, firsts = [], []
    for seed, places in zip(seeds, stops.crossed_places, strict=True):
        curve, weak = run.curves[method][seed], run.answers("weak", seed)
        agreed = (curve.test > 0.5) == weak
        rises.append(float(agreed[-1].mean() - agreed[places, np.arange(len(weak))].mean()))
        firsts.append(float(curve.steps[places].mean()))
    rise = statistics.fmean(rises)
    if fall.low <= 0 or rise <= 0:
        return None
    return Overfitting(fall, rise, statistics.fmean(firsts), statistics.fmean(stops.last_steps))
