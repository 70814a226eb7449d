"""Intervals where observations come in groups, as several answers to one question do, and are not independent.

Sums are exact (`math.fsum`), so that the order of groups, and that within them, changes no bit.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import distributions, metrics


def share_interval(
    right: Sequence[int], total: Sequence[int], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Wilson's interval of a share, with the effective number of observations (Korn & Graubard 1998).

    That number is p (1 - p) over the variance of p between groups, at most the number of observations; where all are
    right or all wrong, which tells nothing of it, the number of groups. Groups of one give Wilson's interval itself.

    Args:
        right, total: `[G]` of each group; groups without observations are left out.

    Returns:
        The bounds; None without an observation.
    """
    groups = [(r, n) for r, n in zip(right, total, strict=True) if n]
    count = sum(n for _, n in groups)
    if not count:
        return None
    share = sum(r for r, _ in groups) / count
    variance = math.fsum((r - share * n) ** 2 for r, n in groups) / count**2
    effective = float(len(groups))
    if 0 < share < 1:
        effective = min(share * (1 - share) / variance, count) if variance else float(count)
    z = distributions.normal_quantile((1 + confidence) / 2)
    scale = 1 + z**2 / effective
    centre = (share + z**2 / (2 * effective)) / scale
    half = z * math.sqrt(share * (1 - share) / effective + (z / (2 * effective)) ** 2) / scale
    return (0.0 if share == 0 else centre - half), (1.0 if share == 1 else centre + half)


def mean_interval(
    values: Sequence[float], groups: Sequence[Hashable], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Student-t interval of a mean over all values, from the variance between groups; None for fewer than two groups.

    Args:
        values: `[N]`.
        groups: `[N]`, that of each.
    """
    by_group = _split(values, groups).values()
    if len(by_group) < 2:
        return None
    mean = math.fsum(values) / len(values)
    spread = math.fsum((math.fsum(own) - mean * len(own)) ** 2 for own in by_group)
    error = math.sqrt(spread * len(by_group) / (len(by_group) - 1)) / len(values)
    half = distributions.t_quantile((1 + confidence) / 2, len(by_group) - 1) * error
    return mean - half, mean + half


def auroc_interval(
    scores: npt.ArrayLike, labels: npt.ArrayLike, groups: Sequence[Hashable], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the AUROC of grouped observations (Obuchowski 1997), on the logit scale; of groups of one, DeLong's.

    Args:
        scores: `[N]` real scores, higher for positives.
        labels: `[N]` 0 or 1.
        groups: `[N]`, that of each; positives and negatives may share one.

    Returns:
        The bounds, or None where fewer than two groups have a positive, or a negative, or the variance is not positive.
    """
    area = metrics.auroc(scores, labels)
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    if area is None or not 0 < area < 1:
        return None
    # The share of the other class that each score is on the right side of, by ranks (Sun & Xu 2014), less the area.
    ranks, num_positive, num_negative = (
        distributions.average_ranks(scores),
        int(labels.sum()),
        int((~labels).sum()),
    )
    excess = np.zeros(len(scores))
    excess[labels] = (ranks[labels] - distributions.average_ranks(scores[labels])) / num_negative - area
    excess[~labels] = (
        1 - (ranks[~labels] - distributions.average_ranks(scores[~labels])) / num_positive - area
    )
    sums = []
    for of_class in (labels, ~labels):
        names = [group for group, is_own in zip(groups, of_class, strict=True) if is_own]
        by_group = _split(excess[of_class].tolist(), names)
        sums.append({group: math.fsum(own) for group, own in by_group.items()})
    counts = [len(of_class) for of_class in sums]
    if min(counts) < 2:
        return None
    within = [
        count / (count - 1) * math.fsum(value**2 for value in of_class.values())
        for count, of_class in zip(counts, sums, strict=True)
    ]
    shared = sums[0].keys() & sums[1].keys()
    num_groups = len(sums[0].keys() | sums[1].keys())
    between = num_groups / (num_groups - 1) * math.fsum(sums[0][group] * sums[1][group] for group in shared)
    variance = (
        within[0] / num_positive**2
        + within[1] / num_negative**2
        + 2 * between / (num_positive * num_negative)
    )
    if variance <= 0:
        return None
    logit = math.log(area / (1 - area))
    half = distributions.normal_quantile((1 + confidence) / 2) * math.sqrt(variance) / (area * (1 - area))
    return 1 / (1 + math.exp(half - logit)), 1 / (1 + math.exp(-half - logit))


def _split(values: Sequence[float], groups: Sequence[Hashable]) -> dict[Hashable, list[float]]:
    """Values by group."""
    found: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        found.setdefault(group, []).append(value)
    return found
