"""The numbers of a report on how models rank the test items: AUROC, and PGR of AUROCs in the place of accuracies."""

import statistics
from typing import Any

import numpy as np

from selw2s_jax.analysis import metrics, resampling
from selw2s_jax.method import registry
from selw2s_jax.report import numbers, probabilities, stored


def rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per method: AUROC over seeds and PGR on AUROC, with 95 % intervals, PGR on accuracy, accuracy at the base rate.

    The interval of the AUROC is DeLong's with the spread of the seeds, that of PGR is bootstrapped over items and
    seeds. No rows where the test set has one class.
    """
    found = {}
    for method in run.predictions:
        seeds = probabilities.common_seeds(run, method)
        if not seeds or run.truth.all() or not run.truth.any():
            continue
        scores = probabilities.of_method(run, method, seeds)
        area, interval = numbers.over_seeds(
            [metrics.auroc(of_seed, run.truth) for of_seed in scores],
            [metrics.auroc_interval(of_seed, run.truth) for of_seed in scores],
        )
        of_accuracy = None if method in registry.REFERENCES else numbers.gap_recovered(run, method)
        found[method] = {
            "method": method,
            "auroc": area,
            "auroc_interval": interval,
            "auroc_pgr": None,
            "auroc_pgr_interval": None,
            "pgr": None if of_accuracy is None else of_accuracy.value,
            "base_rate_accuracy": statistics.fmean(
                metrics.accuracy_at_base_rate(of_seed, run.truth) for of_seed in scores
            ),
            "num_seeds": len(seeds),
        }
    for method, recovered in _gaps_recovered(run, list(found)).items():
        found[method]["auroc_pgr"], found[method]["auroc_pgr_interval"] = recovered
    return list(found.values())


def _gaps_recovered(
    run: stored.Run, methods: list[str]
) -> dict[str, tuple[float | None, tuple[float, float] | None]]:
    """PGR on AUROC of each student, with its interval: the same items and seeds drawn for all of the same seeds.

    Of several weak models, as of accuracies, the mean of their own AUROCs is what a student has to be above.
    """
    found = {}
    students = [method for method in methods if method not in registry.REFERENCES]
    for seeds, of_seeds in probabilities.by_seeds(run, students, *registry.REFERENCES).items():
        names = [*(() if run.members else ("weak",)), "ceiling", *of_seeds]
        members = [[of_seed[seed] for seed in seeds] for of_seed in run.members.values()]
        scores = np.stack([*members, *(probabilities.of_method(run, name, seeds) for name in names)])
        areas = [[metrics.auroc(of_seed, run.truth) for of_seed in of_model] for of_model in scores]
        draws = resampling.bootstrap_aurocs(scores, run.truth).T
        means = dict(zip(names, map(statistics.fmean, areas[len(members) :]), strict=True))
        of_draws = dict(zip(names, draws[len(members) :], strict=True))
        if members:
            means["weak"] = statistics.fmean(map(statistics.fmean, areas[: len(members)]))
            of_draws["weak"] = draws[: len(members)].mean(0)
        for method in of_seeds:
            trio = ("weak", method, "ceiling")
            found[method] = resampling.gap_recovered(
                [means[name] for name in trio], np.stack([of_draws[name] for name in trio], axis=1)
            )
    return found
