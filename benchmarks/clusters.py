"""Paired differences of methods over runs in clusters, such as the seeds of several pretrained worlds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

# Differences of accuracies nearer than this differ by rounding alone.
_ROUNDING = 1e-9


class Difference(NamedTuple):
    """A mean difference over clusters, with Student-t interval and p-value (None without spread to judge by).

    Attributes:
        by_cluster: the mean difference of each cluster.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    by_cluster: dict[str, float]


def difference(differences: Mapping[str, Sequence[float]], *, confidence: float = 0.95) -> Difference:
    """The mean over clusters of paired differences, tested over the clusters.

    Runs in a cluster (the seeds of one pretrained world) share what made it and are not independent: more seeds
    tell more about that world and nothing about the next. So a cluster counts once, with its mean, and the
    interval is that of a t-test over those means, wide where clusters are few.

    Args:
        differences: by cluster, first less second of each run.

    Returns:
        Interval and p-value are None with fewer than two clusters and where all differ by the same amount: the
        t-test would call any such difference certain.
    """
    if not differences or not all(map(len, differences.values())):
        raise ValueError("need one cluster or more, and no cluster without runs")
    by_cluster = {name: statistics.fmean(values) for name, values in differences.items()}
    means = np.array(list(by_cluster.values()), np.float64)
    mean = float(means.mean())
    if len(means) < 2 or np.ptp(means) < _ROUNDING:
        return Difference(mean, None, None, None, by_cluster)
    result = stats.ttest_1samp(means, 0.0)
    interval = result.confidence_interval(confidence)
    low, high = float(interval.low), float(interval.high)
    return Difference(mean, low, high, float(result.pvalue), by_cluster)
