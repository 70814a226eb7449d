"""Metrics of predictions, on NumPy arrays."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import distributions


@dataclasses.dataclass(frozen=True)
class Bin:
    """Rows of similar scores.

    Attributes:
        low, high: bounds of the score.
        count: number of rows, one at least.
        score: their mean, or where they stand for a picture.
        share: of them that are right, known or positive.
    """

    low: float
    high: float
    count: int
    score: float
    share: float

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        return wilson_interval(round(self.share * self.count), self.count)


def auroc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float | None:
    """Area under the ROC curve; a tie between a positive and a negative counts half.

    Args:
        scores: `[N]` real scores, higher for positives.
        labels: `[N]` 0 or 1.

    Returns:
        The area, or None where only one class is present.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    _check_same_length(scores, labels)
    num_positive, num_negative = int(labels.sum()), int((~labels).sum())
    if num_positive == 0 or num_negative == 0:
        return None
    rank_sum = distributions.average_ranks(scores)[labels].sum()
    return float((rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def auroc_interval(
    scores: npt.ArrayLike, labels: npt.ArrayLike, confidence: float = 0.95
) -> tuple[float, float] | None:
    """DeLong's interval of the AUROC (DeLong et al. 1988), on the logit scale, so that it stays within [0, 1].

    Args:
        scores, labels: as for `auroc`.

    Returns:
        The bounds, or None where a class has fewer than two members or the variance is zero.
    """
    area = auroc(scores, labels)
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    positive, negative = scores[labels], scores[~labels]
    if area is None or min(len(positive), len(negative)) < 2:
        return None
    # The share of the other class that each score is on the right side of, by ranks (Sun & Xu 2014).
    ranks = distributions.average_ranks(scores)
    above = (ranks[labels] - distributions.average_ranks(positive)) / len(negative)
    below = 1 - (ranks[~labels] - distributions.average_ranks(negative)) / len(positive)
    variance = np.var(above, ddof=1) / len(positive) + np.var(below, ddof=1) / len(negative)
    if variance == 0 or not 0 < area < 1:
        return None
    logit = np.log(area / (1 - area))
    half = distributions.normal_quantile((1 + confidence) / 2) * np.sqrt(variance) / (area * (1 - area))
    low, high = 1 / (1 + np.exp(-(logit - half))), 1 / (1 + np.exp(-(logit + half)))
    return float(low), float(high)


def accuracy_at_base_rate(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Accuracy where as many items are called class 1 as are of it, those of the highest scores.

    So it has no part in it that is due to a threshold, which for that needs no label but their number. Of items with
    the score at which it lies as many as are wanted, at random: in expectation.

    Args:
        scores, labels: as for `auroc`.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    _check_same_length(scores, labels)
    count = int(labels.sum())
    threshold = np.sort(scores)[len(scores) - count] if count else np.inf
    called, tied = (scores > threshold).astype(np.float64), scores == threshold
    if count:
        called[tied] = (count - called.sum()) / tied.sum()
    return float(np.mean(np.where(labels, called, 1 - called)))


def brier_score(probs: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean squared difference of the probability of class 1 `[N]` and the label `[N]`."""
    probs, labels = np.asarray(probs, np.float64), np.asarray(labels, np.float64)
    _check_same_length(probs, labels)
    return float(np.mean((probs - labels) ** 2))


def expected_calibration_error(probs: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017) over equal-width bins of the probability of class 1.

    Args:
        probs: `[N]` probabilities of class 1; a value on an inner edge belongs to the bin above it.
        labels: `[N]` 0 or 1.
        num_bins: number of bins on [0, 1].

    Returns:
        sum over bins of (rows in bin / N) |mean probability - mean label|.
    """
    probs, labels = np.asarray(probs, np.float64), np.asarray(labels, np.float64)
    _check_same_length(probs, labels)
    gaps = np.bincount(probability_bins(probs, num_bins), weights=probs - labels, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(probs))


def probability_bins(probs: npt.ArrayLike, num_bins: int = 15) -> np.ndarray:
    """The equal-width bin of each probability `[N]`, counted from 0; one on an inner edge is of the bin above it."""
    return np.clip((np.asarray(probs, np.float64) * num_bins).astype(int), 0, num_bins - 1)


def performance_gap_recovered(weak: float, student: float, ceiling: float) -> float | None:
    """PGR = (student - weak) / (ceiling - weak) of accuracies (Burns et al. 2023).

    None where ceiling <= weak, and the ratio has no meaning.
    """
    return None if ceiling <= weak else float((student - weak) / (ceiling - weak))


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of an accuracy."""
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"{correct} of {total} items cannot be right")
    share, z = correct / total, distributions.normal_quantile(0.5 + 0.5 * confidence)
    scale = 2 * (total + z**2)
    center = (2 * total * share + z**2) / scale
    half = z / scale * math.sqrt(4 * total * share * (1 - share) + z**2)
    return (0.0 if correct == 0 else center - half), (1.0 if correct == total else center + half)


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float] | None:
    """Student-t interval of the mean of independent runs; None for fewer than two."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return None
    half = distributions.t_quantile((1 + confidence) / 2, len(values) - 1) * distributions.standard_error(
        values
    )
    return float(values.mean() - half), float(values.mean() + half)


def seeds_interval(
    values: Sequence[float], intervals: Sequence[tuple[float, float] | None]
) -> tuple[float, float] | None:
    """Interval of the mean over seeds, in [0, 1], of a value that has an interval over items in each.

    The seeds share their items: the mean half-width over items and that of `mean_interval` over seeds add in squares.

    Args:
        values: one for each seed.
        intervals: of each; None where it is not defined, and is left out of the mean half-width.

    Returns:
        The bounds, or None where one seed alone has no interval.
    """
    mean = float(np.mean(values))
    pairs = zip(values, intervals, strict=True)
    halves = [(value - bounds[0], bounds[1] - value) for value, bounds in pairs if bounds is not None]
    over_seeds = mean_interval(values)
    if over_seeds is None and not halves:
        return None
    spread = 0.0 if over_seeds is None else over_seeds[1] - mean
    below, above = np.mean(halves, axis=0) if halves else (0.0, 0.0)
    return max(mean - float(np.hypot(below, spread)), 0.0), min(mean + float(np.hypot(above, spread)), 1.0)


def _check_same_length(scores: np.ndarray, labels: np.ndarray) -> None:
    if scores.shape != labels.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"need two non-empty arrays of one length, got {scores.shape} and {labels.shape}")


def accuracy_interval(correct: Sequence[int], total: int) -> tuple[float, float]:
    """The 95 % interval of `results.summarize`, from the numbers of right items of each seed."""
    mean = statistics.fmean(correct) / total
    low, high = wilson_interval(round(statistics.fmean(correct)), total)
    over_seeds = mean_interval([count / total for count in correct])
    if over_seeds is None:
        return low, high
    spread = over_seeds[1] - mean
    return max(mean - math.hypot(mean - low, spread), 0.0), min(mean + math.hypot(high - mean, spread), 1.0)


def majority_class_accuracy(labels: Sequence[int]) -> float:
    """Accuracy of always giving the more frequent of the labels 0 and 1."""
    if not len(labels):
        raise ValueError("no labels")
    share = sum(int(label) for label in labels) / len(labels)
    return max(share, 1 - share)
