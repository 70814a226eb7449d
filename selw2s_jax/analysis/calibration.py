"""How far probabilities of being right can be taken at their word, before and after they were calibrated."""

from typing import Any

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import metrics, p_ik

_LEAST = 1e-12  # what a probability of 0 counts as in a log loss


def log_loss(probs: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Mean negative log-likelihood, in nats, of probabilities of being right `[N]`; right `[N]` bool."""
    probs = np.clip(np.asarray(probs, np.float64), _LEAST, 1 - _LEAST)
    return float(-np.mean(np.log(np.where(np.asarray(right, bool), probs, 1 - probs))))


def describe(before: npt.ArrayLike, after: npt.ArrayLike, right: npt.ArrayLike) -> dict[str, Any]:
    """Scores of the same answers before and after calibration.

    Args:
        before, after: `[N]` probabilities of being right.
        right: `[N]` bool.

    Returns:
        `n`, and of both, by the suffixes _before and _after: `log_loss`, `brier`, `ece` (15 bins) and `bins`, those of
        the ECE with `low`, `high`, `n`, `mean_score` and `right`, the share that is.
    """
    described: dict[str, Any] = {"n": len(np.asarray(right))}
    for which, probs in (("before", before), ("after", after)):
        described |= {
            f"log_loss_{which}": log_loss(probs, right),
            f"brier_{which}": metrics.brier_score(probs, right),
            f"ece_{which}": metrics.expected_calibration_error(probs, right),
            f"bins_{which}": [
                {
                    "low": one.low,
                    "high": one.high,
                    "n": one.count,
                    "mean_score": one.score,
                    "right": one.share,
                }
                for one in p_ik.reliability_bins(probs, right)
            ],
        }
    return described
