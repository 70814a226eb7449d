"""Which rows are handed on from one student to the next: the most confident share, by rank.

By rank and not above a threshold, as the number of rows, and so of a training's steps, is then known before any label
is. Confidence is that of a label of two classes, max(p, 1 - p); the two-stage method (arXiv 2503.04249) takes the share
of sampled answers that agree, of which this is the like for models that say a probability.
"""

import fractions
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def num_kept(num_rows: int, share: float) -> int:
    """floor(share * num_rows), of the share as it is written: 0.29 of 100 rows is 29, which floats say is less.

    Raises:
        ValueError: the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share} of rows must lie in [0, 1]")
    return math.floor(fractions.Fraction(repr(float(share))) * num_rows)


def most_confident(example_ids: Sequence[str], probs: npt.ArrayLike, share: float) -> list[str]:
    """The share of rows whose labels are the surest, most confident first, ties by example_id.

    Args:
        example_ids: `[N]`, all different.
        probs: `[N]` probabilities of class 1.
        share: of the rows, in [0, 1].

    Returns:
        `num_kept(N, share)` ids.

    Raises:
        ValueError: the share is out of range, a probability is none, or there are more or fewer of them than ids.
    """
    probs = np.asarray(probs, np.float64)
    if not np.all((probs >= 0) & (probs <= 1)):
        raise ValueError("probabilities of class 1 must lie in [0, 1]")
    return highest(example_ids, np.maximum(probs, 1 - probs), share)


def highest(example_ids: Sequence[str], scores: npt.ArrayLike, share: float) -> list[str]:
    """The share of rows with the highest scores `[N]`, highest first, ties by example_id.

    Raises:
        ValueError: as `most_confident`.
    """
    scores = np.asarray(scores, np.float64)
    if scores.shape != (len(example_ids),):
        raise ValueError(f"scores of shape {scores.shape} for {len(example_ids)} examples: give one for each")
    # Not by numpy: its order of text is that of code points too, but its arrays of text drop NULs at the end.
    ranked = sorted(zip((-scores).tolist(), example_ids, strict=True))
    return [name for _, name in ranked[: num_kept(len(ranked), share)]]
