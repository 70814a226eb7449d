"""How often each row of the student's half was chosen over training, by its weak label, from a student's trace.

Ground truth is joined after training, by example_id, for analysis alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_BINS = 5  # of equal width on [0.5, 1] of the weak label's confidence


def frequencies(trace: Mapping[str, np.ndarray], example_ids: Sequence[str]) -> np.ndarray:
    """The share of the steps that each row was in, in which it got the strong model's own label.

    Args:
        trace: an entry per task example and step, with `example_id` and `ik_mask`.
        example_ids: `[N]`.

    Returns:
        `[N]` float64, NaN for a row that no step had.
    """
    names, place = np.unique(np.asarray(trace["example_id"]).astype(str), return_inverse=True)
    seen = np.bincount(place, minlength=len(names))
    chosen = np.bincount(place, np.asarray(trace["ik_mask"], np.float64), len(names))
    of_name = dict(zip(names.tolist(), (chosen / seen).tolist(), strict=True))
    return np.array([of_name.get(name, np.nan) for name in example_ids], np.float64)


def describe(frequency: npt.ArrayLike, truth: npt.ArrayLike, weak: npt.ArrayLike) -> dict[str, Any]:
    """The frequencies by weak confidence and by whether the weak label is right.

    Args:
        frequency: `[N]` of `frequencies`; a row with NaN counts nowhere.
        truth: `[N]` 0 or 1.
        weak: `[N]` weak labels as probabilities of class 1. Their confidence is that of the class they name.

    Returns:
        A JSON value: `unseen`, the number of rows with NaN, and `groups`, those with a row, in order: `low` and `high`
        bounds of the confidence, one on an inner edge being of the bin above it, `weak_right`, the number of rows `n`,
        the `mean` frequency, and the shares of rows that were `never` and `always` chosen.
    """
    frequency, weak = np.asarray(frequency, np.float64), np.asarray(weak, np.float64)
    truth = np.asarray(truth).astype(bool)
    if not frequency.shape == weak.shape == truth.shape or frequency.ndim != 1:
        raise ValueError(
            f"need three arrays of one length, got {frequency.shape}, {truth.shape} and {weak.shape}"
        )
    right, seen = (weak > 0.5) == truth, ~np.isnan(frequency)
    confidence = np.maximum(weak, 1 - weak)
    # Float32 probabilities such as 0.7 lie a little below the edge that they stand for.
    bins = np.clip(((confidence - 0.5) * 2 * NUM_BINS + 1e-6).astype(int), 0, NUM_BINS - 1)
    groups = []
    for place in range(NUM_BINS):
        for is_right in (True, False):
            own = frequency[seen & (bins == place) & (right == is_right)]
            if len(own):
                groups.append(
                    {
                        "low": (NUM_BINS + place) / (2 * NUM_BINS),
                        "high": (NUM_BINS + place + 1) / (2 * NUM_BINS),
                        "weak_right": is_right,
                        "n": len(own),
                        "mean": float(own.mean()),
                        "never": float((own == 0).mean()),
                        "always": float((own == 1).mean()),
                    }
                )
    return {"unseen": int((~seen).sum()), "groups": groups}
