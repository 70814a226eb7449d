"""Curves of P(IK): how far a probability of knowing can be trusted, and what is gained by acting on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import metrics


def reliability_bins(p_ik: npt.ArrayLike, known: npt.ArrayLike, num_bins: int = 15) -> list[metrics.Bin]:
    """The bins of `metrics.expected_calibration_error` that have questions in them.

    Args:
        p_ik: `[N]` probabilities of knowing.
        known: `[N]` bool, whether the answer is right.
    """
    p_ik, known = np.asarray(p_ik, np.float64), np.asarray(known, bool)
    places = metrics.probability_bins(p_ik, num_bins)
    bins = []
    for place in np.unique(places).tolist():
        inside = places == place
        count, right = int(inside.sum()), int(known[inside].sum())
        bounds = place / num_bins, (place + 1) / num_bins
        bins.append(metrics.Bin(*bounds, count, float(p_ik[inside].mean()), right / count))
    return bins


def risk_coverage(p_ik: npt.ArrayLike, known: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Share of wrong answers among the questions answered, as ever more are (El-Yaniv & Wiener 2010).

    Questions are answered in the order of P(IK), highest first. Those of equal P(IK) are answered in an order that
    says nothing: the risk within them is the expected one.

    Args:
        p_ik, known: as for `reliability_bins`.

    Returns:
        coverage: `[N]` share of the questions that are answered: 1/N, 2/N, ..., 1.
        risk: `[N]` share of the answers that are wrong.
    """
    p_ik, wrong = np.asarray(p_ik, np.float64), ~np.asarray(known, bool)
    _, group, count = np.unique(-p_ik, return_inverse=True, return_counts=True)
    share_wrong = np.bincount(group, weights=wrong) / count
    answered = np.arange(1, len(p_ik) + 1)
    return answered / len(p_ik), np.cumsum(np.repeat(share_wrong, count)) / answered


def ideal_risk(coverage: npt.ArrayLike, accuracy: float) -> np.ndarray:
    """The lowest risk at each coverage: all known questions are answered before the first unknown one."""
    coverage = np.asarray(coverage, np.float64)
    return np.maximum(0.0, 1 - accuracy / coverage)


def mean_risk_coverage(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of several curves of `risk_coverage` at 200 coverages; with fewer questions, as many."""
    smallest = min(len(coverage) for coverage, _ in curves)
    grid = np.arange(1, min(smallest, 200) + 1) / min(smallest, 200)
    return grid, np.mean([np.interp(grid, *curve) for curve in curves], axis=0)


def area_under_risk_coverage(p_ik: npt.ArrayLike, known: npt.ArrayLike) -> float:
    """Mean of the risk over all coverages; lower is better, and without skill it is the share of wrong answers."""
    return float(risk_coverage(p_ik, known)[1].mean())


def selection_curve(
    p_ik: npt.ArrayLike, known: npt.ArrayLike, gammas: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """What is selected where P(IK) has to exceed gamma.

    Args:
        p_ik, known: as for `reliability_bins`.
        gammas: `[G]` thresholds, compared in float32 as in training.

    Returns:
        ik_rate: `[G]` share of the questions that are selected.
        ik_precision: `[G]` share of those that are known; NaN where none is selected.
    """
    p_ik, known = np.asarray(p_ik, np.float32), np.asarray(known, bool)
    selected = p_ik > np.asarray(gammas, np.float32)[:, None]
    counts = selected.sum(1)
    right = (selected & known).sum(1)
    precision = np.divide(right, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return counts / len(p_ik), precision


def difficulty_bands(
    confidence: npt.ArrayLike, p_ik: npt.ArrayLike, known: npt.ArrayLike, num_bands: int = 4
) -> list[dict[str, Any]]:
    """P(IK) on questions that are about equally hard for the model, as its few-shot answers tell.

    Args:
        confidence: `[N]` probability of the few-shot answer that was given; NaN where answers are generated.
        p_ik, known: as for `reliability_bins`.

    Returns:
        For each band, least confident first, all of about as many questions: `low` and `high` confidence, `n`,
        `accuracy` (share that is known), `auroc` (None where it is undefined) and `ece` of P(IK). No bands where a
        confidence is NaN.
    """
    confidence, known = np.asarray(confidence, np.float64), np.asarray(known, bool)
    p_ik = np.asarray(p_ik, np.float64)
    if np.isnan(confidence).any():
        return []
    bands = []
    for rows in np.array_split(np.argsort(confidence, kind="stable"), num_bands):
        if len(rows):
            bands.append(
                {
                    "low": float(confidence[rows].min()),
                    "high": float(confidence[rows].max()),
                    "n": len(rows),
                    "accuracy": float(known[rows].mean()),
                    "auroc": metrics.auroc(p_ik[rows], known[rows]),
                    "ece": metrics.expected_calibration_error(p_ik[rows], known[rows]),
                }
            )
    return bands
