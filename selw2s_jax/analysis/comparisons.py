"""Paired comparisons of methods on the same items, seeds and worlds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

# Differences of accuracies nearer than this differ by rounding alone.
_ROUNDING = 1e-9


class Difference(NamedTuple):
    """A mean difference with its Student-t interval and p-value (None where there is no spread to judge by)."""

    mean: float
    low: float | None
    high: float | None
    p_value: float | None


class ClusteredDifference(NamedTuple):
    """A `Difference` over clusters.

    Attributes:
        by_cluster: the mean difference of each cluster.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    by_cluster: dict[str, float]


class McNemar(NamedTuple):
    """Items that one of two classifiers alone gets right, and the p-value of equal chances of either."""

    only_first: int
    only_second: int
    p_value: float


def paired_difference(first, second, *, confidence: float = 0.95) -> Difference:
    """The mean difference of two methods over the same runs, with the paired t-test.

    Args:
        first, second: `[S]` accuracies; entry s of both is of the same run (seed, data and pretrained models).

    Returns:
        First less second. Interval and p-value are None with fewer than two runs and where all runs differ by
        the same amount: the t-test would call any such difference certain.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"need two non-empty arrays of one length, got {first.shape} and {second.shape}")
    return _t_test(first - second, confidence)


def clustered_difference(
    differences: Mapping[str, Sequence[float]], *, confidence: float = 0.95
) -> ClusteredDifference:
    """The mean over clusters of paired differences, tested over the clusters.

    Runs in a cluster (the seeds of one pretrained world) share what made it and are not independent: more seeds
    tell more about that world and nothing about the next. So a cluster counts once, with its mean, and the
    interval is that of a t-test over those means, wide where clusters are few.

    Args:
        differences: by cluster, first less second of each run.
    """
    if not differences or not all(map(len, differences.values())):
        raise ValueError("need one cluster or more, and no cluster without runs")
    by_cluster = {name: statistics.fmean(values) for name, values in differences.items()}
    means = np.array(list(by_cluster.values()), np.float64)
    return ClusteredDifference(*_t_test(means, confidence), by_cluster)


def mcnemar(first, second) -> McNemar:
    """McNemar's exact test (McNemar 1947) of two classifiers, one run of each, on the same independent items.

    Args:
        first, second: `[N]` bool, whether each classifier gets the item right.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"need two arrays of one length, got {first.shape} and {second.shape}")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return McNemar(0, 0, 1.0)
    result = stats.binomtest(only_first, only_first + only_second, 0.5)
    return McNemar(only_first, only_second, float(result.pvalue))


def _t_test(differences: np.ndarray, confidence: float) -> Difference:
    mean = float(differences.mean())
    if len(differences) < 2 or np.ptp(differences) < _ROUNDING:
        return Difference(mean, None, None, None)
    result = stats.ttest_1samp(differences, 0.0)
    interval = result.confidence_interval(confidence)
    return Difference(mean, float(interval.low), float(interval.high), float(result.pvalue))
