"""Whether two measures order things alike."""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import distributions

_MOST_IN_FULL = 7  # whose 5,040 orders are all looked at
_NUM_DRAWS = 10_000


class RankCorrelation(NamedTuple):
    """Spearman's rank correlation, and how often as much would be seen if every order were as likely.

    Attributes:
        rho: in [-1, 1].
        p_value: two-sided: the share of orders whose correlation is as far from 0; never below 1/3 of three things.
    """

    rho: float
    p_value: float


def spearman(first: npt.ArrayLike, second: npt.ArrayLike, *, seed: int = 0) -> RankCorrelation | None:
    """Spearman's rank correlation of `[N]` and `[N]`, ties by mean ranks; the test is by permutation.

    Of up to seven values by all orders, of more by ten thousand drawn ones.

    Returns:
        None for fewer than three values, or where one side is the same everywhere.

    Raises:
        ValueError: they are not two vectors of one length.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"need two vectors of one length, got {first.shape} and {second.shape}")
    ranks = [distributions.average_ranks(values) - (len(values) + 1) / 2 for values in (first, second)]
    scale = np.sqrt(np.prod([of_one @ of_one for of_one in ranks]))
    if len(first) < 3 or not scale:
        return None
    rho = ranks[0] @ ranks[1] / scale
    if is_full := len(first) <= _MOST_IN_FULL:
        orders = np.array(list(itertools.permutations(ranks[1])))
    else:
        orders = np.random.default_rng(seed).permuted(np.tile(ranks[1], (_NUM_DRAWS, 1)), axis=1)
    as_far = np.sum(np.abs(orders @ ranks[0]) / scale >= abs(rho) - 1e-9)
    # The order that was found is one of all, and counts as one more of those drawn.
    p_value = as_far / len(orders) if is_full else (as_far + 1) / (len(orders) + 1)
    return RankCorrelation(float(np.clip(rho, -1, 1)), float(p_value))
