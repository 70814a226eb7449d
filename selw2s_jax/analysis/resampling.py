"""The two-way bootstrap of `comparisons`, over items and seeds, for what is no share of right answers."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import metrics

_CHUNK = 1 << 22  # numbers held at once
_KEPT = 1 << 25  # counts of items that are kept for the next call


def bootstrap_means(values: npt.ArrayLike, *, num_draws: int = 4000, seed: int = 0) -> np.ndarray:
    """Means over items and seeds of several quantities, resampled over both; the same draws for all quantities.

    As in `comparisons.bootstrap_accuracies`, of S seeds S - 1 are drawn, and one seed stands for itself.

    Args:
        values: `[M, S, N]` real, quantity m of item n in seed s.
        num_draws, seed: number of draws, and of their generator.

    Returns:
        `[num_draws, M]` float64.
    """
    values = np.asarray(values, np.float64)
    _check(values)

    def weighted(items: np.ndarray) -> np.ndarray:
        return np.einsum("dn,msn->dms", items, values, optimize=True) / values.shape[2]

    return _draw(values, weighted, num_draws, seed)


def bootstrap_aurocs(
    scores: npt.ArrayLike, labels: npt.ArrayLike, *, num_draws: int = 1000, seed: int = 0
) -> np.ndarray:
    """Mean AUROCs over seeds of several models, resampled over items and seeds; the same draws for all models.

    As `bootstrap_means`. A tie between a positive and a negative counts half; draws without one of the classes, which
    a few items can give, are NaN.

    Args:
        scores: `[M, S, N]` real, of model m in seed s, higher for positives.
        labels: `[N]` 0 or 1.

    Returns:
        `[num_draws, M]` float64.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    _check(scores)
    num_models, num_seeds, num_items = scores.shape

    rows = scores.reshape(-1, num_items)

    def areas(items: np.ndarray) -> np.ndarray:
        # Item by draw, so that sums over items are of whole rows.
        positive, negative = (
            np.ascontiguousarray(items[:, labels].T),
            np.ascontiguousarray(items[:, ~labels].T),
        )
        pairs = positive.sum(0) * negative.sum(0)
        won = [_pairs_won(positive, negative, row[labels], row[~labels]) for row in rows]
        with np.errstate(invalid="ignore"):
            return (np.stack(won) / pairs).T.reshape(-1, num_models, num_seeds)

    return _draw(scores, areas, num_draws, seed)


def _pairs_won(positive: np.ndarray, negative: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Pairs of a positive and a negative whose scores are in order, ties as half, of each draw: `[D]`.

    Args:
        positive, negative: `[P, D]` and `[Q, D]`, how often each is drawn.
        high, low: `[P]` and `[Q]`, their scores.
    """
    order = np.argsort(low, kind="stable")
    below = np.zeros((len(low) + 1, negative.shape[1]))
    np.cumsum(negative[order], axis=0, out=below[1:])
    ranked = low[order]
    first, last = (np.searchsorted(ranked, high, side) for side in ("left", "right"))
    won = np.einsum("pd,pd->d", positive, below[first])
    tied = np.flatnonzero(first < last)
    won += np.einsum("pd,pd->d", positive[tied], below[last[tied]] - below[first[tied]]) / 2
    return won


def _draw(
    values: np.ndarray, measure: Callable[[np.ndarray], np.ndarray], num_draws: int, seed: int
) -> np.ndarray:
    """Means over drawn seeds of what `measure` makes of counts of items `[D, N]`: `[D, M, S]`."""
    _, num_seeds, num_items = values.shape
    # Of one test set several quantities are asked for in turn, and drawing the items takes longer than the rest.
    counts = _kept_counts if num_draws * num_items <= _KEPT else _counts
    seeds, chunks = counts(num_seeds, num_items, num_draws, seed)
    measured = [measure(items.astype(np.float64)) for items in chunks]
    return np.einsum("dms,ds->dm", np.concatenate(measured), seeds)


@functools.lru_cache(maxsize=2)  # means and AUROCs have numbers of draws of their own
def _kept_counts(*of_draws: int) -> tuple[np.ndarray, Iterable[np.ndarray]]:
    seeds, chunks = _counts(*of_draws)
    return seeds, tuple(chunks)


def _counts(
    num_seeds: int, num_items: int, num_draws: int, seed: int
) -> tuple[np.ndarray, Iterable[np.ndarray]]:
    """How often each draw has each seed, `[num_draws, S]` as shares, and each item, whole numbers by parts `[D, N]`."""
    random = np.random.default_rng(seed)
    drawn_seeds = max(num_seeds - 1, 1)
    seeds = random.multinomial(drawn_seeds, np.full(num_seeds, 1 / num_seeds), size=num_draws) / drawn_seeds

    def items() -> Iterator[np.ndarray]:
        at_once = max(_CHUNK // num_items, 1)
        for start in range(0, num_draws, at_once):
            size = min(at_once, num_draws - start)
            counts = random.multinomial(num_items, np.full(num_items, 1 / num_items), size=size)
            yield counts.astype(np.min_scalar_type(num_items))

    return seeds, items()


def percentiles(draws: npt.ArrayLike) -> tuple[float, float] | None:
    """The 95 % interval of draws, those that are not finite left aside; None where more than one in forty is not."""
    draws = np.asarray(draws, np.float64)
    there = draws[np.isfinite(draws)]
    if len(there) < 0.975 * len(draws) or not len(there):
        return None
    low, high = np.quantile(there, (0.025, 0.975))
    return float(low), float(high)


def gap_recovered(
    means: Sequence[float], draws: np.ndarray
) -> tuple[float | None, tuple[float, float] | None]:
    """PGR of the means of weak model, student and ceiling, with its interval from their draws `[D, 3]`.

    As `comparisons.bootstrap_pgr` has it: no value where the ceiling is not above the weak model, no interval where
    that of their gap touches zero.
    """
    value = metrics.performance_gap_recovered(*means)
    gaps = draws[:, 2] - draws[:, 0]
    bounds = percentiles(gaps)
    if value is None or bounds is None or bounds[0] <= 0:
        return value, None
    return value, percentiles(((draws[:, 1] - draws[:, 0])[gaps > 0]) / gaps[gaps > 0])


def _check(values: np.ndarray) -> None:
    if values.ndim != 3 or not values.size:
        raise ValueError(f"need values [models, seeds, items], got shape {values.shape}")
