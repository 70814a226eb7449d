"""Intervals of grouped observations: equal to the plain ones for groups of one, near the bootstrap's for others."""

import numpy as np
import pytest
from scipy import stats

from selw2s_jax.analysis import grouped, metrics


@pytest.mark.parametrize(("right", "total"), [(0, 7), (7, 7), (3, 11), (250, 999)])
def test_groups_of_one_have_wilson_s_interval(right, total):
    found = grouped.share_interval([1] * right + [0] * (total - right), [1] * total)
    assert found == pytest.approx(metrics.wilson_interval(right, total), abs=1e-12)


def test_answers_that_agree_count_once_and_empty_groups_not_at_all():
    once = grouped.share_interval([1, 0, 0, 1, 1], [1] * 5)
    assert grouped.share_interval([3, 0, 0, 3, 3], [3] * 5) == pytest.approx(once)
    assert grouped.share_interval([3, 0, 0, 0, 3, 3], [3, 3, 0, 3, 3, 3]) == pytest.approx(once)
    assert grouped.share_interval([5, 5], [5, 5]) == pytest.approx(metrics.wilson_interval(2, 2))
    # Half of each group: no spread between groups, and never more than all observations.
    assert grouped.share_interval([1, 1, 1], [2, 2, 2]) == pytest.approx(metrics.wilson_interval(3, 6))
    assert grouped.share_interval([0], [0]) is None


def test_mean_of_single_values_is_the_t_interval_and_groups_widen_it():
    values = [0.2, 0.4, 0.9, 0.3]
    found = grouped.mean_interval(values, [0, 1, 2, 3])
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found == pytest.approx(expected)
    copied = grouped.mean_interval(values * 3, [0, 1, 2, 3] * 3)
    assert copied == pytest.approx(expected)
    assert grouped.mean_interval([0.1, 0.2], [5, 5]) is None


def _grouped_rows(rng, num_groups, size):
    level = rng.normal(size=num_groups)
    groups = np.repeat(np.arange(num_groups), size)
    labels = rng.uniform(size=len(groups)) < 1 / (1 + np.exp(-1.5 * level[groups]))
    return np.round(level[groups] + rng.normal(size=len(groups)), 1), labels, groups


def test_auroc_of_groups_of_one_is_delong_s():
    scores, labels, groups = _grouped_rows(np.random.default_rng(0), 60, 1)
    expected = metrics.auroc_interval(scores, labels)
    assert grouped.auroc_interval(scores, labels, groups.tolist()) == pytest.approx(expected, abs=1e-12)
    copied = grouped.auroc_interval(np.tile(scores, 4), np.tile(labels, 4), np.tile(groups, 4).tolist())
    assert np.diff(copied) == pytest.approx(np.diff(expected), rel=0.03)


def test_auroc_is_near_the_bootstrap_of_groups_and_order_changes_no_bit():
    rng = np.random.default_rng(3)
    scores, labels, groups = _grouped_rows(rng, 120, 5)
    found = grouped.auroc_interval(scores, labels, groups.tolist())
    members = [np.flatnonzero(groups == group) for group in range(120)]
    drawn = []
    for _ in range(300):
        rows = np.concatenate([members[group] for group in rng.integers(0, 120, 120)])
        drawn.append(metrics.auroc(scores[rows], labels[rows]))
    assert found == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.02)
    plain = metrics.auroc_interval(scores, labels)
    assert np.diff(found) > 1.1 * np.diff(plain)
    order = rng.permutation(len(scores))
    assert grouped.auroc_interval(scores[order], labels[order], groups[order].tolist()) == found


def test_auroc_needs_two_groups_of_each_class():
    assert grouped.auroc_interval([1, 2, 3], [0, 1, 1], [0, 1, 1]) is None
    assert grouped.auroc_interval([1, 2], [1, 1], [0, 1]) is None
