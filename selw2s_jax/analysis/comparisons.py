"""Paired comparisons of methods on the same items, seeds and worlds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Difference(NamedTuple):
    """A mean difference with its Student-t interval and p-value (None where there is no spread to judge by).

    Attributes:
        by_cluster: the mean difference of each cluster.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    by_cluster: dict[str, float]


def clustered_difference(
    differences: Mapping[str, Sequence[float]], *, confidence: float = 0.95
) -> Difference:
    """The mean over clusters of paired differences, tested over the clusters.

    Runs in a cluster (the seeds of one pretrained world) share what made it and are not independent, so a
    cluster counts once, with its mean; the interval is that of a t-test over those means. With single runs as
    clusters it is the paired t-test over runs.

    Args:
        differences: by cluster, first less second of each run.
    """
    by_cluster = {name: statistics.fmean(values) for name, values in differences.items()}
    means = np.array(list(by_cluster.values()), np.float64)
    if len(means) < 2 or np.ptp(means) == 0:
        return Difference(float(means.mean()), None, None, None, by_cluster)
    result = stats.ttest_1samp(means, 0.0)
    interval = result.confidence_interval(confidence)
    return Difference(
        float(means.mean()), float(interval.low), float(interval.high), float(result.pvalue), by_cluster
    )
