"""Paired comparisons: equal to scipy's paired test, antisymmetric, clusters counted once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from selw2s_jax.analysis import comparisons, metrics

ACCURACIES = st.lists(st.floats(0, 1, width=16), min_size=3, max_size=9)


@given(ACCURACIES, st.integers(0, 100))
def test_single_runs_as_clusters_are_the_paired_t_test(first, seed):
    second = np.random.default_rng(seed).random(len(first))
    difference = np.asarray(first) - second
    result = comparisons.clustered_difference({str(i): [d] for i, d in enumerate(difference)})
    expected = stats.ttest_rel(first, second)
    assert result.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))
    swapped = comparisons.clustered_difference({str(i): [-d] for i, d in enumerate(difference)})
    assert (swapped.mean, swapped.low, swapped.high) == pytest.approx(
        (-result.mean, -result.high, -result.low)
    )


def test_a_cluster_counts_once_however_many_runs_it_has():
    few = {"a": [0.1, 0.3], "b": [0.0, 0.2], "c": [0.4, 0.2]}
    many = {name: values * 50 for name, values in few.items()}
    once, often = comparisons.clustered_difference(few), comparisons.clustered_difference(many)
    assert often[:4] == pytest.approx(once[:4])
    assert once.by_cluster == pytest.approx({"a": 0.2, "b": 0.1, "c": 0.3})


def test_without_spread_there_is_no_test():
    assert comparisons.clustered_difference({"a": [0.25, 0.75]})[:4] == (0.5, None, None, None)
    assert comparisons.clustered_difference({"a": [0.25], "b": [0.25]})[:4] == (0.25, None, None, None)


def test_auroc_interval_is_delong_s_on_the_logit_scale():
    rng = np.random.default_rng(0)
    labels = rng.random(157) < 0.6
    scores = np.round(rng.normal(size=157) + labels, 1)  # with ties
    positive, negative = scores[labels], scores[~labels]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    area = wins.mean()
    variance = np.var(wins.mean(1), ddof=1) / len(positive) + np.var(wins.mean(0), ddof=1) / len(negative)
    half = 1.959964 * np.sqrt(variance) / (area * (1 - area))
    expected = stats.logistic.cdf(stats.logistic.ppf(area) + np.array([-half, half]))
    np.testing.assert_allclose(metrics.auroc_interval(scores, labels), expected, rtol=1e-6)
    assert metrics.auroc(scores, labels) == pytest.approx(area)
    bootstrap = [
        metrics.auroc(scores[rows], labels[rows]) for rows in rng.integers(0, len(labels), (2000, 157))
    ]
    np.testing.assert_allclose(np.quantile(bootstrap, [0.025, 0.975]), expected, atol=0.02)


def test_auroc_interval_needs_two_of_each_class_and_some_spread():
    assert metrics.auroc_interval([0.1, 0.4, 0.3], [1, 0, 0]) is None
    assert metrics.auroc_interval([0.1, 0.1, 0.1, 0.1], [1, 0, 1, 0]) is None
    assert metrics.auroc_interval([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) is None
