"""Paired comparisons of methods on the same items and seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import metrics


class Difference(NamedTuple):
    """A mean difference with its 95 % bootstrap interval and two-sided p-value."""

    mean: float
    low: float
    high: float
    p_value: float


class Average(NamedTuple):
    """A mean accuracy with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class GapRecovered(NamedTuple):
    """PGR over seeds with its interval, and the gap that it is a share of.

    Attributes:
        value: None where the mean ceiling is not above the mean weak accuracy.
        low, high: None where the interval of the gap touches zero: the ratio then has no finite interval.
        gap, gap_low, gap_high: ceiling less weak, with its interval.
    """

    value: float | None
    low: float | None
    high: float | None
    gap: float
    gap_low: float
    gap_high: float


class McNemar(NamedTuple):
    """Items that one of two classifiers alone gets right, and the p-value of equal chances of either."""

    only_first: int
    only_second: int
    p_value: float


class Inheritance(NamedTuple):
    """What a student made of its teacher's answers; None where there are no such items.

    Attributes:
        agreement: share of items on which both answer the same.
        inherited: P(student wrong | weak wrong).
        corrected: P(student right | weak wrong).
        spoiled: P(student wrong | weak right).
    """

    agreement: float
    inherited: float | None
    corrected: float | None
    spoiled: float | None


def bootstrap_accuracies(correct: npt.ArrayLike, *, num_draws: int = 4000, seed: int = 0) -> np.ndarray:
    """Mean accuracies over seeds of models that share items and seeds, resampled over both.

    Items and seeds are drawn with replacement and independently (the two-way bootstrap of Owen 2007), the same
    ones for all models. Of S seeds S - 1 are drawn, so that the variance between seeds is not underestimated (Rao
    & Wu 1988); one seed stands for itself. Items on which all models agree in all seeds are interchangeable, so
    only the numbers of each pattern are drawn, and the order of the items does not matter.

    Args:
        correct: `[M, S, N]` bool, whether model m of seed s gets item n right.
        num_draws, seed: number of draws, and of their generator.

    Returns:
        `[num_draws, M]` float64.
    """
    correct = _as_right(correct)
    if correct.ndim != 3 or not correct.size:
        raise ValueError(f"need correct answers [models, seeds, items], got shape {correct.shape}")
    num_models, num_seeds, num_items = correct.shape
    patterns, counts = np.unique(correct.reshape(-1, num_items), axis=1, return_counts=True)
    random = np.random.default_rng(seed)
    items = random.multinomial(num_items, counts / num_items, size=num_draws)
    drawn_seeds = max(num_seeds - 1, 1)
    seeds = random.multinomial(drawn_seeds, np.full(num_seeds, 1 / num_seeds), size=num_draws)
    # Whole numbers in float64, where models are single ones: exact, so that equal models get equal accuracies.
    right = (items.astype(np.float64) @ patterns.T.astype(np.float64)).reshape(
        num_draws, num_models, num_seeds
    )
    return np.einsum("dms,ds->dm", right, seeds.astype(np.float64)) / (num_items * drawn_seeds)


def _as_right(values: npt.ArrayLike) -> np.ndarray:
    """Whether items are right, bool; of several models' mean the shares that are, as floats."""
    found = np.asarray(values)
    return found if found.dtype.kind == "f" else found.astype(bool)


def bootstrap_difference(
    first: npt.ArrayLike, second: npt.ArrayLike, *, num_draws: int = 4000, seed: int = 0
) -> Difference:
    """The mean difference of two methods' accuracies, first less second, by `bootstrap_accuracies`.

    Args:
        first, second: `[S, N]` bool, whether each gets item n right in seed s.
    """
    return pooled_difference([(first, second)], num_draws=num_draws, seed=seed)


def bootstrap_pgr(
    weak: npt.ArrayLike,
    student: npt.ArrayLike,
    ceiling: npt.ArrayLike,
    *,
    num_draws: int = 4000,
    seed: int = 0,
) -> GapRecovered:
    """PGR of the mean accuracies over seeds, by `bootstrap_accuracies`: the same draws for all three models.

    Args:
        weak, student, ceiling: `[S, N]` bool, whether each gets item n right in seed s; or float, where it stands for
            several models, the share of them that do.
    """
    return pooled_pgr([(weak, student, ceiling)], num_draws=num_draws, seed=seed)


def pooled_accuracy(correct_by_task: Sequence, *, num_draws: int = 4000, seed: int = 0) -> Average:
    """The mean over tasks of a method's accuracy: each task counts once, whatever its number of items.

    Args:
        correct_by_task: of each task `[S, N]` bool, whether the method gets item n right in seed s.
    """
    (mean,), draws = _pool([(correct,) for correct in correct_by_task], num_draws, seed)
    return Average(float(mean), *_percentiles(draws[:, 0]))


def pooled_difference(correct_by_task: Sequence, *, num_draws: int = 4000, seed: int = 0) -> Difference:
    """The mean over tasks of the difference of two methods' accuracies, first less second.

    Args:
        correct_by_task: of each task the pair of methods, each `[S, N]` bool, whether it gets item n right in seed s.
    """
    (first, second), draws = _pool(correct_by_task, num_draws, seed)
    changes = draws[:, 0] - draws[:, 1]
    tail = min(np.sum(changes < 0), np.sum(changes > 0)) + np.sum(changes == 0) / 2
    p_value = min(2 * (tail + 1) / (num_draws + 1), 1.0)
    return Difference(float(first - second), *_percentiles(changes), float(p_value))


def pooled_pgr(correct_by_task: Sequence, *, num_draws: int = 4000, seed: int = 0) -> GapRecovered:
    """PGR of the mean accuracies over tasks and seeds. A mean of PGRs would be ruled by the task with the least gap.

    Args:
        correct_by_task: of each task weak model, student and ceiling, each `[S, N]` bool, whether it gets item n
            right in seed s.
    """
    (weak, student, ceiling), draws = _pool(correct_by_task, num_draws, seed)
    value = metrics.performance_gap_recovered(float(weak), float(student), float(ceiling))
    gaps, gains = draws[:, 2] - draws[:, 0], draws[:, 1] - draws[:, 0]
    gap_low, gap_high = _percentiles(gaps)
    low = high = None
    if value is not None and gap_low > 0:
        # At most one draw in forty has no gap, and therefore no PGR.
        low, high = _percentiles(gains[gaps > 0] / gaps[gaps > 0])
    return GapRecovered(value, low, high, float(ceiling - weak), gap_low, gap_high)


def _pool(correct_by_task: Sequence, num_draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies of models, means over tasks: `[M]`, and `[num_draws, M]` as `bootstrap_accuracies` draws them.

    Items and seeds are drawn within each task, for each task anew: tasks share neither. A seed's number is no more
    than a name, as the data that it halves are others.
    """
    means, draws = [], []
    for place, models in enumerate(correct_by_task):
        correct = np.stack([_as_right(values) for values in models])
        means.append(correct.mean((1, 2)))
        draws.append(bootstrap_accuracies(correct, num_draws=num_draws, seed=seed + place))
    if not means:
        raise ValueError("need the answers of one task or more")
    return np.mean(means, axis=0), np.mean(draws, axis=0)


def error_inheritance(weak: npt.ArrayLike, student: npt.ArrayLike, truth: npt.ArrayLike) -> Inheritance:
    """How a student's answers on the same items relate to those of the weak model.

    Args:
        weak, student, truth: `[N]` answers of both models and the right ones, as labels or texts.
    """
    weak, student, truth = (np.asarray(values) for values in (weak, student, truth))
    if not weak.shape == student.shape == truth.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(
            f"need three non-empty arrays of one length, got {weak.shape}, {student.shape} and {truth.shape}"
        )
    wrong, weak_wrong = student != truth, weak != truth
    inherited = float(wrong[weak_wrong].mean()) if weak_wrong.any() else None
    return Inheritance(
        agreement=float((weak == student).mean()),
        inherited=inherited,
        corrected=None if inherited is None else 1 - inherited,
        spoiled=None if weak_wrong.all() else float(wrong[~weak_wrong].mean()),
    )


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> McNemar:
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
    from scipy import stats  # slow to import

    result = stats.binomtest(only_first, only_first + only_second, 0.5)
    return McNemar(only_first, only_second, float(result.pvalue))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values (1979): below alpha for each hypothesis that is rejected at a familywise error of alpha.

    Args:
        p_values: None where there was no test, which then is none of the family.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for number, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - number) * p))
        adjusted[place] = largest
    return adjusted


def _percentiles(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)
