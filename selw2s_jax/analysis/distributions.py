"""Ranks, quantiles and tails as `scipy.stats` has them, to the bit, without its import, which takes half a second."""

import numpy as np
import numpy.typing as npt
from scipy import special


def average_ranks(values: npt.ArrayLike) -> np.ndarray:
    """Ranks `[N]` float64 from 1, of equal values their mean; all NaN where a value is (`scipy.stats.rankdata`)."""
    values = np.asarray(values)
    if np.isnan(values).any():
        return np.full(values.shape, np.nan)
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    firsts = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1])[: len(values)])
    counts = np.diff(firsts, append=len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(firsts + 1 + (counts - 1) / 2, counts)
    return ranks


def normal_quantile(probability: float) -> float:
    """Of the standard normal distribution (`scipy.stats.norm.ppf`)."""
    return float(special.ndtri(probability))


def t_quantile(probability: float, degrees: float) -> float:
    """Of Student's t distribution (`scipy.stats.t.ppf`)."""
    return float(special.stdtrit(degrees, probability))


def chi_square_tail(value: float, degrees: float) -> float:
    """The probability of more than `value` (`scipy.stats.chi2.sf`)."""
    return float(special.chdtrc(degrees, value))


def chi_square_quantile(probability: float, degrees: float) -> float:
    """Of the chi-square distribution (`scipy.stats.chi2.ppf`)."""
    return float(2 * special.gammaincinv(degrees / 2, probability))


def standard_error(values: npt.ArrayLike) -> float:
    """Of the mean of independent values `[N]` (`scipy.stats.sem`)."""
    values = np.asarray(values, np.float64)
    return float(np.std(values, ddof=1) / len(values) ** 0.5)
