"""The numbers of a report: accuracy, PGR, differences between methods, errors inherited from the weak model.

Every function takes a `stored.Run` and returns rows, a dict each, of what is finished.
"""

import collections
import functools
import statistics
from collections.abc import Sequence
from typing import Any

from selw2s_jax import config as config_lib
from selw2s_jax.analysis import comparisons, metrics, paper, paper_reliability
from selw2s_jax.method import registry
from selw2s_jax.report import stored

BASELINE = registry.BASELINE  # what every student is compared with
_CACHED = 4096  # bootstraps; several tables and pictures of a report show the same ones


def majority_class_accuracy(run: stored.Run) -> float:
    """Accuracy on the test set of always giving the commonest answer."""
    if not run.has_probabilities:
        return max(collections.Counter(run.truth.tolist()).values()) / len(run.truth)
    return metrics.majority_class_accuracy(run.truth.astype(int).tolist())


def main_results(run: stored.Run) -> list[dict[str, Any]]:
    """Per method: accuracy over seeds, PGR and difference to `BASELINE`, each with a 95 % interval.

    The interval of the accuracy is that of `metrics.accuracy_interval`, the others are bootstrapped over items and
    seeds. PGR and difference are over the seeds that are finished for all the methods they compare.
    """
    rows = []
    for method in run.predictions:
        seeds = run.common_seeds(method)
        counts = [int(right.sum()) for right in run.correct(method, seeds)]
        total = len(run.truth)
        row = {
            "method": method,
            "num_seeds": len(seeds),
            "n": total,
            "accuracy": statistics.fmean(counts) / total,
            "accuracy_interval": metrics.accuracy_interval(counts, total),
            "pgr": None,
            "pgr_interval": None,
            "difference": None,
            "difference_interval": None,
            "paper_accuracy": paper_accuracy(run, method),
            "printed_pgr": printed_pgr(run, method),
        }
        if method not in registry.REFERENCES and (recovered := gap_recovered(run, method)):
            row["pgr"] = recovered.value
            row["pgr_interval"] = interval(recovered)
        if method not in (*registry.REFERENCES, BASELINE) and (change := difference(run, method, BASELINE)):
            row["difference"], row["difference_interval"] = change.mean, interval(change)
        rows.append(row)
    return rows


def paper_accuracy(run: stored.Run, method: str) -> float | None:
    """The paper's accuracy of a method on the run's task, data, models and P(IK) task; None where it has none."""
    if not _may_stand_beside_the_papers(run):
        return None
    return paper.paper_accuracy(
        run.task, run.weak_model, run.strong_model, method, p_ik_task=run.config["p_ik"]["task"]
    )


def paper_pgr(run: stored.Run, method: str) -> float | None:
    """PGR as the paper prints it, or of its accuracies, which is the one it gives."""
    if (printed := printed_pgr(run, method)) is not None:
        return printed
    accuracies = [paper_accuracy(run, name) for name in ("weak", method, "ceiling")]
    if method in registry.REFERENCES or None in accuracies:
        return None
    return metrics.performance_gap_recovered(*accuracies)


def printed_pgr(run: stored.Run, method: str) -> float | None:
    """PGR as a table of the paper prints it beside accuracies, which the second paper's do."""
    if not _may_stand_beside_the_papers(run):
        return None
    return paper_reliability.pgr(run.task, run.weak_model, run.strong_model, method)


def _may_stand_beside_the_papers(run: stored.Run) -> bool:
    """Whether its data are the paper's, and what a sweep varied is as it is there; models and task remain."""
    varied = {key: value for key, value in run.settings.items() if key != "p_ik.task"}
    if not run.is_papers_data or not varied:
        return run.is_papers_data
    return all(config_lib.is_default(key, value) for key, value in varied.items())


@functools.lru_cache(_CACHED)
def gap_recovered(run: stored.Run, method: str) -> comparisons.GapRecovered | None:
    """PGR of a method; None where no seed has the method, the weak model and the ceiling."""
    seeds = run.common_seeds("weak", method, "ceiling")
    if not seeds:
        return None
    others = (run.correct(name, seeds) for name in (method, "ceiling"))
    return comparisons.bootstrap_pgr(run.weak_performance(seeds), *others)


@functools.lru_cache(_CACHED)
def difference(run: stored.Run, first: str, second: str) -> comparisons.Difference | None:
    """Accuracy of one method less that of another; None where no seed has both."""
    seeds = run.common_seeds(first, second)
    if not seeds:
        return None
    return comparisons.bootstrap_difference(run.correct(first, seeds), run.correct(second, seeds))


def by_seed(run: stored.Run) -> list[dict[str, Any]]:
    """Per method and seed: accuracy with its Wilson interval, PGR, and of probabilities AUROC, Brier and ECE."""
    rows = []
    for method, of_seed in run.predictions.items():
        for seed in sorted(of_seed):
            right = int(run.correct(method, [seed]).sum())
            pgr = None
            if method not in registry.REFERENCES and seed in run.common_seeds("weak", "ceiling"):
                weak, ceiling = run.weak_performance([seed]).mean(), run.correct("ceiling", [seed]).mean()
                pgr = metrics.performance_gap_recovered(weak, right / len(run.truth), ceiling)
            probs = run.probabilities(method, seed)
            rows.append(
                {
                    "method": method,
                    "seed": seed,
                    "n": len(run.truth),
                    "correct": right,
                    "accuracy": right / len(run.truth),
                    "accuracy_interval": metrics.wilson_interval(right, len(run.truth)),
                    "pgr": pgr,
                    "auroc": None if probs is None else metrics.auroc(probs, run.truth),
                    "auroc_interval": None if probs is None else metrics.auroc_interval(probs, run.truth),
                    "brier": None if probs is None else metrics.brier_score(probs, run.truth),
                    "calibration_error": None
                    if probs is None
                    else metrics.expected_calibration_error(probs, run.truth),
                }
            )
    return rows


def compared_pairs(run: stored.Run) -> list[tuple[str, str]]:
    """Each student with `BASELINE`, and each method with its controls."""
    students = [method for method in run.predictions if method not in registry.REFERENCES]
    pairs = [(method, BASELINE) for method in students if method != BASELINE and BASELINE in students]
    of_methods = [(method, control) for method in students for control in controls(run, method)]
    order = run.of_role("control")
    return pairs + sorted(of_methods, key=lambda pair: order.index(pair[1]))


def own_controls(run: stored.Run, method: str) -> list[str]:
    """The controls in the run of this method and no other: what does the same by chance."""
    return [name for name in _tested_controls(run) if method == _controls_for(run, name)]


def controls(run: stored.Run, method: str) -> list[str]:
    """The controls in the run that a method is compared with: its own first, then those of every method.

    The latter are of methods that choose among labels. One that has no control of its own is also compared with
    random rows of another's number.
    """
    if method == BASELINE or run.facts(method).role == "control":
        return []
    own = own_controls(run, method)
    if not run.facts(method).selects:
        return own
    of_all = [name for name in _tested_controls(run) if _control_of(run, name) is None]
    return own + [name for name in of_all if name not in own and (not own or not _controls_for(run, name))]


def _tested_controls(run: stored.Run) -> list[str]:
    return [name for name in run.of_role("control") if name in run.predictions]


def _control_of(run: stored.Run, control: str) -> str | None:
    known = registry.METHODS.get(control)  # manifests of earlier versions do not say it
    return run.facts(control).control_of or (known.control_of if known else None)


def _controls_for(run: stored.Run, control: str) -> str | None:
    """The one method that it is for; also where another may be compared with it for want of its own."""
    known = registry.METHODS.get(control)
    return _control_of(run, control) or (known.mask_of if known else None)


def comparison_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per pair of methods, the mean difference by bootstrap."""
    rows = []
    for first, second in compared_pairs(run):
        change = difference(run, first, second)
        if change is None:
            continue
        rows.append(
            {
                "first": first,
                "second": second,
                "num_seeds": len(run.common_seeds(first, second)),
                "difference": change.mean,
                "difference_interval": interval(change),
                "p_value": change.p_value,
            }
        )
    return rows


def mcnemar_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per pair of methods and seed, McNemar's exact test: items that one of the two alone gets right."""
    rows = []
    for first, second in compared_pairs(run):
        for seed in run.common_seeds(first, second):
            test = comparisons.mcnemar(run.correct(first, [seed])[0], run.correct(second, [seed])[0])
            rows.append({"first": first, "second": second, "seed": seed, **test._asdict()})
    return rows


def inheritance(run: stored.Run) -> list[dict[str, Any]]:
    """Per model but the weak one, means over seeds: agreement with the weak model, and what became of its errors."""
    rows = []
    for method in run.predictions:
        seeds = run.common_seeds("weak", method)
        if method == "weak" or not seeds:
            continue
        of_seeds = [
            comparisons.error_inheritance(run.answers("weak", seed), run.answers(method, seed), run.truth)
            for seed in seeds
        ]
        means = {
            name: mean([getattr(one, name) for one in of_seeds]) for name in comparisons.Inheritance._fields
        }
        rows.append({"method": method, "num_seeds": len(seeds), **means})
    return rows


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are there; None where none is."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def over_seeds(
    values: Sequence[float], bounds: Sequence[tuple[float, float] | None]
) -> tuple[float | None, tuple[float, float] | None]:
    """Their mean with the interval of `metrics.seeds_interval`; None without values."""
    return (statistics.fmean(values), metrics.seeds_interval(values, bounds)) if values else (None, None)


def interval(
    estimate: comparisons.Average | comparisons.Difference | comparisons.GapRecovered,
) -> tuple[float, float] | None:
    """Its ends; None where it is not finite."""
    return None if estimate.low is None else (estimate.low, estimate.high)


def points(mean: float, bounds: tuple[float, float]) -> str:
    """A difference of shares with its interval, as text."""
    low, high = bounds
    return f"{100 * mean:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def verdict(change: comparisons.Difference) -> str:
    """What a difference by itself shows at a level of 0.05, uncorrected."""
    if change.p_value >= 0.05 or change.mean == 0:
        return "no difference shown"
    return "a gain" if change.mean > 0 else "a loss"


def p_value(value: float) -> str:
    """A p-value as text, with its sign of relation."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
