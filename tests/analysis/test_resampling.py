"""The two-way bootstrap of means and AUROCs, against the one of accuracies and against items drawn one by one."""

import numpy as np
import pytest

from selw2s_jax.analysis import comparisons, metrics, resampling


def test_means_of_right_answers_spread_as_accuracies_do():
    correct = np.random.default_rng(0).uniform(size=(2, 3, 40)) < [[[0.6]], [[0.8]]]
    found = resampling.bootstrap_means(correct, num_draws=2000)
    expected = comparisons.bootstrap_accuracies(correct, num_draws=2000)
    assert found.shape == expected.shape and found.mean(0) == pytest.approx(expected.mean(0), abs=0.01)
    assert found.std(0) == pytest.approx(expected.std(0), rel=0.1)
    assert np.cov(found.T)[0, 1] == pytest.approx(np.cov(expected.T)[0, 1], abs=5e-4)


def test_equal_quantities_have_equal_draws_whatever_is_held_at_once(monkeypatch):
    values = np.random.default_rng(1).normal(size=(1, 2, 7))
    found = resampling.bootstrap_means(np.concatenate([values, 2 * values]), num_draws=50)
    assert found[:, 1] == pytest.approx(2 * found[:, 0])
    monkeypatch.setattr(resampling, "_CHUNK", 21)
    monkeypatch.setattr(resampling, "_KEPT", 0)
    again = resampling.bootstrap_means(np.concatenate([values, 2 * values]), num_draws=50)
    assert again == pytest.approx(found)


@pytest.mark.parametrize("num_values", [3, 1000])
def test_aurocs_of_draws_are_those_of_the_items_drawn(num_values):
    """With few values, scores are tied."""
    rng = np.random.default_rng(num_values)
    scores, labels = rng.integers(0, num_values, size=(2, 1, 9)).astype(float), np.arange(9) % 3 == 0
    draws = resampling.bootstrap_aurocs(scores, labels, num_draws=40, seed=5)
    random = np.random.default_rng(5)
    random.multinomial(1, [1.0], size=40)  # of the one seed
    counts = random.multinomial(9, np.full(9, 1 / 9), size=40)
    for of_draw, count in zip(draws, counts, strict=True):
        drawn = np.repeat(np.arange(9), count)
        for area, of_model in zip(of_draw, scores[:, 0], strict=True):
            expected = metrics.auroc(of_model[drawn], labels[drawn])
            assert np.isnan(area) if expected is None else area == pytest.approx(expected)


def test_the_spread_of_aurocs_is_delongs():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 300)
    scores = rng.normal(size=300) + labels
    low, high = metrics.auroc_interval(scores, labels)
    bounds = resampling.percentiles(resampling.bootstrap_aurocs(scores[None, None], labels)[:, 0])
    assert bounds == pytest.approx((low, high), abs=0.01)


def test_gap_recovered_has_no_interval_where_the_gap_touches_zero():
    rng = np.random.default_rng(3)
    draws = np.array([0.6, 0.7, 0.8]) + 0.01 * rng.normal(size=(500, 3))
    value, (low, high) = resampling.gap_recovered([0.6, 0.7, 0.8], draws)
    assert value == pytest.approx(0.5) and 0.3 < low < 0.5 < high < 0.7
    wide = np.array([0.6, 0.7, 0.8]) + 0.2 * rng.normal(size=(500, 3))
    assert resampling.gap_recovered([0.6, 0.7, 0.8], wide) == (pytest.approx(0.5), None)
    assert resampling.gap_recovered([0.8, 0.7, 0.6], draws) == (None, None)


def test_draws_that_are_mostly_undefined_have_no_interval():
    assert resampling.percentiles([np.nan] * 5 + [1.0] * 95) is None
    assert resampling.percentiles([np.nan] + [1.0] * 99) == (1.0, 1.0)
    with pytest.raises(ValueError, match=r"\[models, seeds, items\]"):
        resampling.bootstrap_means(np.ones((2, 3)))
