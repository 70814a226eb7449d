"""The numbers of a report: accuracy, PGR, differences between methods, errors inherited from the weak model.

Every function takes a `run_results.Run` and returns rows, a dict each, of what is finished.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from selw2s_jax import results, run_results
from selw2s_jax.analysis import comparisons, metrics
from selw2s_jax.data import splits

BASELINE = "finetune"  # what every student is compared with
# Students that a gain of selection must also be a gain over.
CONTROLS = ("self_training", "random_selection")


def majority_class_accuracy(run: run_results.Run) -> float:
    """Accuracy on the test set of answering the more common label always."""
    return splits.majority_class_accuracy(run.truth.astype(int).tolist())


def main_results(run: run_results.Run) -> list[dict[str, Any]]:
    """Per method: accuracy over seeds, PGR and difference to `BASELINE`, each with a 95 % interval.

    The interval of the accuracy is that of `results.accuracy_interval`, the others are bootstrapped over items and
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
            "accuracy_interval": results.accuracy_interval(counts, total),
            "pgr": None,
            "pgr_interval": None,
            "difference": None,
            "difference_interval": None,
            "paper_accuracy": results.paper_accuracy(run.task, run.weak, run.strong, method)
            if run.is_papers_data
            else None,
        }
        if method not in results.REFERENCES and (recovered := gap_recovered(run, method)):
            row["pgr"] = recovered.value
            row["pgr_interval"] = _interval(recovered)
        if method not in (*results.REFERENCES, BASELINE) and (change := difference(run, method, BASELINE)):
            row["difference"], row["difference_interval"] = change.mean, _interval(change)
        rows.append(row)
    return rows


def gap_recovered(run: run_results.Run, method: str) -> comparisons.GapRecovered | None:
    """PGR of a method; None where no seed has the method, the weak model and the ceiling."""
    seeds = run.common_seeds("weak", method, "ceiling")
    if not seeds:
        return None
    return comparisons.bootstrap_pgr(*(run.correct(name, seeds) for name in ("weak", method, "ceiling")))


def difference(run: run_results.Run, first: str, second: str) -> comparisons.Difference | None:
    """Accuracy of one method less that of another; None where no seed has both."""
    seeds = run.common_seeds(first, second)
    if not seeds:
        return None
    return comparisons.bootstrap_difference(run.correct(first, seeds), run.correct(second, seeds))


def by_seed(run: run_results.Run) -> list[dict[str, Any]]:
    """Per method and seed: accuracy with its Wilson interval, PGR, Brier score and calibration error."""
    rows = []
    for method, of_seed in run.predictions.items():
        for seed in sorted(of_seed):
            right = int(run.correct(method, [seed]).sum())
            pgr = None
            if method not in results.REFERENCES and seed in run.common_seeds("weak", "ceiling"):
                weak, ceiling = (run.correct(name, [seed]).mean() for name in results.REFERENCES)
                pgr = metrics.performance_gap_recovered(weak, right / len(run.truth), ceiling)
            rows.append(
                {
                    "method": method,
                    "seed": seed,
                    "n": len(run.truth),
                    "correct": right,
                    "accuracy": right / len(run.truth),
                    "accuracy_interval": metrics.wilson_interval(right, len(run.truth)),
                    "pgr": pgr,
                    "brier": metrics.brier_score(of_seed[seed], run.truth),
                    "calibration_error": metrics.expected_calibration_error(of_seed[seed], run.truth),
                }
            )
    return rows


def compared_pairs(methods: Iterable[str]) -> list[tuple[str, str]]:
    """Each student with `BASELINE` and with the controls."""
    students = [method for method in methods if method not in results.REFERENCES]
    return [
        (first, second)
        for second in (BASELINE, *CONTROLS)
        if second in students
        for first in students
        if first not in (second, BASELINE) and not (first in CONTROLS and second in CONTROLS)
    ]


def comparison_rows(run: run_results.Run) -> list[dict[str, Any]]:
    """Per pair of methods: mean difference by bootstrap, and McNemar's exact test of each seed."""
    rows = []
    for first, second in compared_pairs(run.predictions):
        change = difference(run, first, second)
        if change is None:
            continue
        seeds = run.common_seeds(first, second)
        tests = [
            comparisons.mcnemar(run.correct(first, [seed])[0], run.correct(second, [seed])[0])
            for seed in seeds
        ]
        rows.append(
            {
                "first": first,
                "second": second,
                "num_seeds": len(seeds),
                "difference": change.mean,
                "difference_interval": _interval(change),
                "p_value": change.p_value,
                "mcnemar": "; ".join(
                    f"seed {seed}: {test.only_first}/{test.only_second}, p = {_p_value(test.p_value)}"
                    for seed, test in zip(seeds, tests, strict=True)
                ),
            }
        )
    return rows


def inheritance(run: run_results.Run) -> list[dict[str, Any]]:
    """Per model but the weak one, means over seeds: agreement with the weak model, and what became of its errors."""
    rows = []
    for method in run.predictions:
        seeds = run.common_seeds("weak", method)
        if method == "weak" or not seeds:
            continue
        found = [
            comparisons.error_inheritance(
                run.predictions["weak"][seed] > 0.5, run.predictions[method][seed] > 0.5, run.truth
            )
            for seed in seeds
        ]
        means = {
            name: mean([getattr(one, name) for one in found]) for name in comparisons.Inheritance._fields
        }
        rows.append({"method": method, "num_seeds": len(seeds), **means})
    return rows


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are there; None where none is."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def _interval(found: comparisons.Difference | comparisons.GapRecovered) -> tuple[float, float] | None:
    return None if found.low is None else (found.low, found.high)


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
