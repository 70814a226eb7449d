"""How far two labels can be trusted: their log-odds, and the logistic fits that turn these into probabilities.

All in float64 and on NumPy arrays: the fits are made once, before any student is trained.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

# How sure the strong model's own label may be taken to be, whatever P(IK) says: one label in fifty may be wrong.
LEAST, MOST = 0.02, 0.98
# P(IK) counts as at least this and at most 1 less this, so that its log-odds are finite; float32 holds both.
MARGIN = 1e-6
# Standard deviation of the normal prior on what is fitted, around numbers that leave a score as it is. It is felt where
# the data leave a number open, as where every answer is right, and nowhere else.
_SPREAD = 10.0
_MOST_ITERATIONS = 100


class Fitted(NamedTuple):
    """What labels are weighed by.

    Attributes:
        weak_slope: b of sigmoid(b w), w being the weak model's log-odds: below 1 it makes them less sure.
        p_ik_intercept, p_ik_slope: c_0, c_1 of sigmoid(c_0 + c_1 k), k being the log-odds of P(IK).
        constant_reliability: the share of the strong model's own labels that are right.
    """

    weak_slope: float
    p_ik_intercept: float
    p_ik_slope: float
    constant_reliability: float


def class_log_odds(probs: npt.ArrayLike) -> np.ndarray:
    """Log-odds of class 1, `[N]` float64, of class probabilities `[N, 2]`; finite where one of them is 0."""
    logs = np.log(np.maximum(np.asarray(probs, np.float64), np.finfo(np.float32).tiny))
    return logs[:, 1] - logs[:, 0]


def p_ik_log_odds(p_ik: npt.ArrayLike) -> np.ndarray:
    """Log-odds of P(IK) `[N]`, float64; finite where it is 0 or 1."""
    return special.logit(np.clip(np.asarray(p_ik, np.float64), MARGIN, 1 - MARGIN))


def reliability(p_ik: npt.ArrayLike, fitted: Fitted) -> np.ndarray:
    """How probable it is that the strong model's own label is right `[N]`, float64, of its P(IK) `[N]`."""
    return special.expit(fitted.p_ik_intercept + fitted.p_ik_slope * p_ik_log_odds(p_ik))


def fit_weak_slope(log_odds: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """b with the least log loss of sigmoid(b w).

    Args:
        log_odds: `[N]` w, of class 1, by a model that was not trained on these rows.
        labels: `[N]` 0 or 1.
    """
    (scale,) = _fit_logistic(np.asarray(log_odds, np.float64)[:, None], labels, centre=(1.0,))
    return float(scale)


def fit_p_ik(p_ik: npt.ArrayLike, right: npt.ArrayLike) -> tuple[float, float]:
    """c_0 and c_1 with the least log loss of sigmoid(c_0 + c_1 k).

    Args:
        p_ik: `[N]` of questions that it was not trained on.
        right: `[N]` bool, whether the strong model's answers are right.
    """
    log_odds = p_ik_log_odds(p_ik)
    features = np.stack([np.ones_like(log_odds), log_odds], axis=-1)
    intercept, slope = _fit_logistic(features, right, centre=(0.0, 1.0))
    return float(intercept), float(slope)


def _fit_logistic(features: np.ndarray, labels: npt.ArrayLike, *, centre: tuple[float, ...]) -> np.ndarray:
    """Coefficients `[D]` with the least log loss under a normal prior around `centre`, by Newton's method.

    The prior makes the problem strictly convex: there is one solution, and it is finite, also where a number can be had
    that is never wrong, or where all features or all labels are alike.
    """
    labels, start = np.asarray(labels, np.float64), np.asarray(centre, np.float64)

    def loss(coefficients: np.ndarray) -> float:
        logits = features @ coefficients
        penalty = np.sum((coefficients - start) ** 2) / (2 * _SPREAD**2)
        return float(np.sum(np.logaddexp(0, logits) - labels * logits) + penalty)

    coefficients = start
    for _ in range(_MOST_ITERATIONS):
        probs = special.expit(features @ coefficients)
        gradient = features.T @ (probs - labels) + (coefficients - start) / _SPREAD**2
        curvature = (features.T * (probs * (1 - probs))) @ features + np.eye(len(start)) / _SPREAD**2
        move = np.linalg.solve(curvature, gradient)
        # Far from the solution a whole step may overshoot: halved until it does not.
        while loss(coefficients - move) > loss(coefficients) and np.abs(move).max() > 1e-12:
            move = move / 2
        coefficients = coefficients - move
        if np.abs(move).max() <= 1e-10:
            break
    return coefficients
