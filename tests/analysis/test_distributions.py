import numpy as np
import pytest
from scipy import stats

from selw2s_jax.analysis import distributions, metrics

PROBABILITIES = (0.005, 0.025, 0.5, 0.975, 0.9995)


def test_ranks_are_those_of_scipy():
    generator = np.random.default_rng(0)
    for values in ([], [3.0], [1, 2, 2, 0, 2], generator.integers(0, 5, 37), generator.normal(size=41)):
        np.testing.assert_array_equal(distributions.average_ranks(values), stats.rankdata(values))
    np.testing.assert_array_equal(distributions.average_ranks([1.0, np.nan]), stats.rankdata([1.0, np.nan]))


@pytest.mark.parametrize("probability", PROBABILITIES)
def test_quantiles_and_tails_are_those_of_scipy_to_the_bit(probability):
    assert distributions.normal_quantile(probability) == stats.norm.ppf(probability)
    for degrees in (1, 4, 99):
        assert distributions.t_quantile(probability, degrees) == stats.t.ppf(probability, degrees)
        quantile = distributions.chi_square_quantile(probability, degrees)
        assert quantile == stats.chi2.ppf(probability, degrees)
        assert distributions.chi_square_tail(quantile, degrees) == stats.chi2.sf(quantile, degrees)


def test_the_standard_error_is_that_of_scipy():
    values = np.random.default_rng(1).normal(size=7)
    assert distributions.standard_error(values) == stats.sem(values)


@pytest.mark.parametrize(("correct", "total"), [(0, 7), (3, 7), (7, 7), (1, 1), (617, 1000)])
def test_wilsons_interval_is_that_of_scipy_to_the_bit(correct, total):
    interval = stats.binomtest(correct, total).proportion_ci(0.95, method="wilson")
    assert metrics.wilson_interval(correct, total) == (interval.low, interval.high)


def test_an_interval_of_more_items_than_there_are_is_refused():
    for correct, total in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="cannot be right"):
            metrics.wilson_interval(correct, total)
