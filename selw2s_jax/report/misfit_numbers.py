"""The numbers of a report on misfit: what the distance of students from their weak labels predicts of their gain.

Of test sets whose models give probabilities; means are over seeds, intervals bootstrapped over items and seeds.
"""

import functools
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import misfit, resampling
from selw2s_jax.method import registry
from selw2s_jax.report import probabilities, stored, sweep_numbers

KINDS = {"squared": "squared", "kl": "KL"}  # as they are written
TARGETS = {"truth": "ground truth", "ceiling": "ceiling"}
_CACHED = 256


@functools.lru_cache(_CACHED)
def rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per target, kind of error and student: `misfit.misfit_gain` over seeds, gain, misfit and slack with intervals."""
    found = {
        (row["target"], row["error"], row["method"]): row for target in TARGETS for row in _rows(run, target)
    }
    places = itertools.product(TARGETS.values(), KINDS.values(), run.predictions)
    return [found[place] for place in places if place in found]


def _rows(run: stored.Run, target: str) -> Iterator[dict[str, Any]]:
    for seeds, methods in _students(run, target).items():
        pairs = list(itertools.product(methods, KINDS))
        items = [
            [misfit.item_errors(*arrays, kind=kind) for arrays in _arrays(run, method, target, seeds)]
            for method, kind in pairs
        ]
        # Of each quantity; of a draw, as of the whole, gain and slack are differences of these.
        values = np.swapaxes(np.array(items), 1, 2)
        draws = resampling.bootstrap_means(values.reshape(-1, *values.shape[2:]))
        draws = np.moveaxis(draws.reshape(len(draws), len(pairs), -1), 0, -1)
        for (method, kind), (weak, student, distance) in zip(pairs, draws, strict=True):
            intervals = {"gain": weak - student, "misfit": distance, "slack": weak - student - distance}
            yield {
                "method": method,
                "target": TARGETS[target],
                "error": KINDS[kind],
                "num_seeds": len(seeds),
                **_means(run, method, target, kind, seeds),
                **{f"{name}_interval": resampling.percentiles(one) for name, one in intervals.items()},
            }


def _means(run: stored.Run, method: str, target: str, kind: str, seeds: Sequence[int]) -> dict[str, float]:
    of_seeds = [misfit.misfit_gain(*arrays, kind=kind) for arrays in _arrays(run, method, target, seeds)]
    return {name: statistics.fmean(one[name] for one in of_seeds) for name in of_seeds[0]}


def seed_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per target, kind of error, student and seed: `misfit.misfit_gain`."""
    return [
        {
            "method": method,
            "seed": seed,
            "target": TARGETS[target],
            "error": KINDS[kind],
            **misfit.misfit_gain(*arrays, kind=kind),
        }
        for target in TARGETS
        for kind in KINDS
        for seeds, methods in _students(run, target).items()
        for method in methods
        for seed, arrays in zip(seeds, _arrays(run, method, target, seeds), strict=True)
    ]


def _students(run: stored.Run, target: str) -> dict[tuple[int, ...], list[str]]:
    """Students by the seeds in which they, their teacher and the target are finished."""
    students = [method for method in run.predictions if method not in registry.REFERENCES]
    return probabilities.by_seeds(run, students, "weak", *(["ceiling"] if target == "ceiling" else []))


def _arrays(
    run: stored.Run, method: str, target: str, seeds: Sequence[int]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each seed, the probabilities of weak model, student and target."""
    weak, student = (probabilities.of_method(run, name, seeds) for name in ("weak", method))
    if target == "ceiling":
        targets = probabilities.of_method(run, "ceiling", seeds)
    else:
        targets = np.broadcast_to(run.truth.astype(np.float64), weak.shape)
    return zip(weak, student, targets, strict=True)


def choice_sets(runs: Sequence[stored.Run]) -> dict[str, list[stored.Run]]:
    """By title, runs that differ in their models, among which a pair may be chosen."""
    with_classes = [run for run in runs if run.has_classifiers and run.has_probabilities]
    return sweep_numbers.transfer_sets(with_classes)


def choice_rows(runs: Sequence[stored.Run]) -> list[dict[str, Any]]:
    """Per choice, student and kind of error: the pair of least predicted error beside the truly best, against truth.

    The weak models of each strong model that has several are a choice, and all pairs are where these are more than
    one strong model's.
    """
    choices = {
        f"weak model for {strong}": [run for run in runs if run.strong == strong]
        for strong in dict.fromkeys(run.strong for run in runs)
    }
    if len(choices) > 1:
        choices["any pair"] = list(runs)
    return [
        {"choice": name, "method": method, "error": KINDS[kind], **chosen}
        for name, of_choice in choices.items()
        for kind in KINDS
        for method in dict.fromkeys(method for run in of_choice for method in run.predictions)
        if (chosen := _choose(of_choice, method, kind)) is not None
    ]


def _choose(runs: Sequence[stored.Run], method: str, kind: str) -> dict[str, Any] | None:
    """The pair that is predicted to be best, and what it costs; None where fewer than two have the method."""
    found: dict[str, Mapping[str, float]] = {}
    for run in runs:
        seeds = probabilities.common_seeds(run, "weak", method)
        if seeds and method not in registry.REFERENCES:
            found[f"{run.weak} teaches {run.strong}"] = _means(run, method, "truth", kind, seeds)
    if len(found) < 2:
        return None
    chosen = min(found, key=lambda pair: found[pair]["predicted_error"])
    best = min(found, key=lambda pair: found[pair]["error_student"])
    predicted, real = ([one[name] for one in found.values()] for name in ("predicted_error", "error_student"))
    from scipy import stats  # slow to import

    is_ranked = len(found) > 2 and len(set(predicted)) > 1 and len(set(real)) > 1
    return {
        "chosen": chosen,
        "predicted_error": found[chosen]["predicted_error"],
        "chosen_error": found[chosen]["error_student"],
        "best": best,
        "best_error": found[best]["error_student"],
        "regret": found[chosen]["error_student"] - found[best]["error_student"],
        "rank_correlation": float(stats.spearmanr(predicted, real).statistic) if is_ranked else None,
        "num_pairs": len(found),
    }
