"""What a run could have seen, and how many test items and seeds a gain of a given size needs.

The paired difference of two methods on item n in seed s, D[s, n] in {-1, 0, 1}, is read as a two-way crossed layout
with random effects, as the two-way bootstrap of `comparisons` reads it:

    D[s, n] = gain + seed[s] + item[n] + residual[s, n]

with variances seeds, items and residual, of uncorrelated effects. A mean over S seeds and N items then has the variance

    seeds / S + items / N + residual / (S N).

Method of moments (Searle, Casella & McCulloch 1992, ch. 4), with the mean squares of the layout:

    MS_seeds = N sum_s (D[s, .] - D[., .])^2 / (S - 1)                           expectation N seeds + residual
    MS_items = S sum_n (D[., n] - D[., .])^2 / (N - 1)                           expectation S items + residual
    MS_residual = sum (D[s, n] - D[s, .] - D[., n] + D[., .])^2 / (S - 1)(N - 1)   expectation residual

    seeds = (MS_seeds - MS_residual) / N      items = (MS_items - MS_residual) / S      residual = MS_residual

Expectations of mean squares need no normal distribution, so these are unbiased for differences of right answers too; a
negative one is set to 0, which makes it a little too large on average. The variance of `comparisons`' bootstrap is, but
for its draws, (MS_seeds + (MS_items + MS_residual) (N - 1) / N) / (S N): it counts the residual three times (Owen
2007), and is the safer for it. Power is that of its test: the difference spreads by the first of the two variances, and
is held against the second.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from selw2s_jax.analysis import distributions

LEVEL = 0.05
POWER = 0.8
_MOST = 10_000_000  # items or seeds; who needs more needs another design
_BOOTSTRAP_RESIDUALS = 3  # how often the two-way bootstrap counts the residual


class Components(NamedTuple):
    """Variance components of a paired difference.

    Attributes:
        seeds: None of one seed, which says nothing of the spread between seeds.
        items: of one seed with what is left over in it.
        residual: what is neither an item's nor a seed's own; 0 of one seed.
        num_seeds, num_items: that they were estimated from.
        clipped: names of those whose estimate was negative, and is set to 0.
        degrees: of freedom of the variance of the run's own mean (Satterthwaite 1946); few where it is mostly one of
            few seeds, and every number here then uncertain.
    """

    seeds: float | None
    items: float
    residual: float
    num_seeds: int
    num_items: int
    clipped: tuple[str, ...]
    degrees: float

    @property
    def total(self) -> float:
        """Variance of the difference on one item in one seed."""
        return (self.seeds or 0.0) + self.items + self.residual


class Test(NamedTuple):
    """A two-sided test of a difference.

    Attributes:
        level: familywise error.
        num_tests: hypotheses that Holm's correction is over. The power is that of Holm's first step, level / num_tests,
            a lower bound of that of the whole.
        power: that is wanted.
    """

    level: float = LEVEL
    num_tests: int = 1
    power: float = POWER

    @property
    def critical(self) -> float:
        """How many standard errors of the test a difference has to be from 0."""
        return float(-special.ndtri(self.level / self.num_tests / 2))


DEFAULT = Test()


def components(first: npt.ArrayLike, second: npt.ArrayLike) -> Components:
    """Variance components of the difference of two methods, first less second.

    Args:
        first, second: `[S, N]` bool, whether each gets item n right in seed s.

    Raises:
        ValueError: shapes differ, or there are fewer than two items.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape or first.ndim != 2 or not first.shape[0] or first.shape[1] < 2:
        raise ValueError(
            f"need two arrays [seeds, items], items 2 or more, got {first.shape}, {second.shape}"
        )
    return of_differences(first.astype(np.float64) - second)


def of_differences(differences: np.ndarray) -> Components:
    """As `components`, of the differences `[S, N]` themselves."""
    num_seeds, num_items = differences.shape
    of_seeds, of_items = differences.mean(1, keepdims=True), differences.mean(0, keepdims=True)
    mean = differences.mean()
    ms_items = num_seeds * np.sum((of_items - mean) ** 2) / (num_items - 1)
    if num_seeds == 1:
        return Components(None, float(ms_items), 0.0, 1, num_items, (), num_items - 1.0)
    ms_seeds = num_items * np.sum((of_seeds - mean) ** 2) / (num_seeds - 1)
    rest = differences - of_seeds - of_items + mean
    ms_residual = np.sum(rest**2) / ((num_seeds - 1) * (num_items - 1))
    found = {
        "seeds": float(ms_seeds - ms_residual) / num_items,
        "items": float(ms_items - ms_residual) / num_seeds,
    }
    # Rounding leaves a little of what is 0.
    tiny = 1e-12 * float(np.mean(differences**2))
    kept = {name: value if value > tiny else 0.0 for name, value in found.items()}
    clipped = tuple(name for name, value in found.items() if value < -tiny)
    spread = (ms_seeds**2 / (num_seeds - 1)) + (ms_items**2 / (num_items - 1))
    spread += ms_residual**2 / ((num_seeds - 1) * (num_items - 1))
    variance = num_items * kept["seeds"] + num_seeds * kept["items"] + ms_residual
    degrees = max(float(variance**2 / spread), 1.0) if spread else 1.0
    return Components(**kept, residual=float(ms_residual), num_seeds=num_seeds, num_items=num_items,
                      clipped=clipped, degrees=degrees)  # fmt: skip


def standard_error(found: Components, *, seeds: int | None = None, items: int | None = None) -> float:
    """Standard deviation of the mean difference over so many seeds and items; by default the run's own.

    Raises:
        ValueError: seeds are asked for of which one says nothing.
    """
    return math.sqrt(_variance(found, seeds, items, residuals=1))


def bootstrap_error(found: Components, *, seeds: int | None = None, items: int | None = None) -> float:
    """What `comparisons.bootstrap_difference` takes for the standard error, in expectation. Args as above."""
    return math.sqrt(_variance(found, seeds, items, residuals=_BOOTSTRAP_RESIDUALS))


def _variance(found: Components, seeds: int | None, items: int | None, *, residuals: int) -> float:
    seeds = found.num_seeds if seeds is None else seeds
    items = found.num_items if items is None else items
    if found.seeds is None and seeds != 1:
        raise ValueError("one seed says nothing of the spread between seeds")
    of_seeds = (found.seeds or 0.0) / seeds
    return of_seeds + found.items / items + residuals * found.residual / (seeds * items)


def error_interval(found: Components, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the run's own standard error, by chi-squared with `degrees` degrees of freedom."""
    tails = (1 + confidence) / 2, (1 - confidence) / 2
    low, high = (
        math.sqrt(found.degrees / distributions.chi_square_quantile(tail, found.degrees)) for tail in tails
    )
    return standard_error(found) * low, standard_error(found) * high


def power(
    found: Components,
    gain: float,
    *,
    seeds: int | None = None,
    items: int | None = None,
    test: Test = DEFAULT,
) -> float:
    """Probability that a gain of this size is found: rejected, and with the right sign.

    A mean of gain needs that share of answers to differ: where two methods differ on fewer, the variances of items and
    residual are taken to be as much larger as a gain of that size makes them at least, gain (1 - gain).

    Args:
        gain: as a fraction, above 0.
        seeds, items: as of `standard_error`.
    """
    at_gain = _for_gain(found, gain)
    error = standard_error(at_gain, seeds=seeds, items=items)
    if error == 0:
        return 1.0
    threshold = test.critical * bootstrap_error(at_gain, seeds=seeds, items=items)
    return float(special.ndtr((gain - threshold) / error))


def _for_gain(found: Components, gain: float) -> Components:
    least, within = gain * (1 - gain) - (found.seeds or 0.0), found.items + found.residual
    if within >= least:
        return found
    if within == 0:  # nothing says whether items or chance would differ
        return found._replace(items=least)
    return found._replace(items=found.items * least / within, residual=found.residual * least / within)


def detectable_gain(
    found: Components, *, seeds: int | None = None, items: int | None = None, test: Test = DEFAULT
) -> float | None:
    """The least gain, as a fraction, that is found with `test.power`; None where no gain below 1 is."""

    def excess(gain: float) -> float:
        return power(found, gain, seeds=seeds, items=items, test=test) - test.power

    if found.total == 0 or excess(1.0) < 0:
        return None
    from scipy import optimize  # slow to import

    return float(optimize.brentq(excess, 1e-9, 1.0, xtol=1e-9))


def smallest_items(found: Components, gain: float, *, seeds: int, test: Test = DEFAULT) -> int | None:
    """Items that a gain needs with so many seeds; None where none are enough, as the spread of seeds is too large."""
    return _smallest(lambda items: power(found, gain, seeds=seeds, items=items, test=test), test.power)


def smallest_seeds(found: Components, gain: float, *, items: int, test: Test = DEFAULT) -> int | None:
    """Seeds that a gain needs with so many items; None where none are enough, as the spread of items is too large."""
    return _smallest(lambda seeds: power(found, gain, seeds=seeds, items=items, test=test), test.power)


def _smallest(power_of: Callable[[int], float], wanted: float) -> int | None:
    """The least number with that power, which grows with it; None above `_MOST`."""
    low, high = 1, 2
    while power_of(high) < wanted:
        low, high = high, 2 * high
        if high > 2 * _MOST:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= wanted else (middle + 1, high)
    return low if low <= _MOST else None
