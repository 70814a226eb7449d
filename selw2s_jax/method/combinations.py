"""How the labels of several weak models become one, by name: `weak.combine` of a config."""

from collections.abc import Callable

import numpy as np

from selw2s_jax.method import factories

# Class probabilities of N examples by K models [N, K, 2] -> labels [N, 2]; never ground truth. All rows of a split
# are given at once, so what a combination estimates of the models it may estimate of their labels there.
Combination = Callable[[np.ndarray], np.ndarray]
COMBINATIONS = factories.Registry("combination of weak labels")
register = COMBINATIONS.register

_ROUNDING = 1e-3  # of two probabilities that add up to 1


@register("mean")
def make_mean() -> Combination:
    """The mean of the probabilities, of which each model has an equal part: the naive ensemble."""
    return lambda probs: probs.astype(np.float64).mean(axis=1)


@register("votes")
def make_votes() -> Combination:
    """The shares of the models that vote for each class: for class 1 above a half."""

    def vote(probs: np.ndarray) -> np.ndarray:
        for_one = (probs[..., 1] > 0.5).mean(axis=1)
        return np.stack([1 - for_one, for_one], axis=-1)

    return vote


def combine(name: str, probs: np.ndarray) -> np.ndarray:
    """The labels of a combination, checked: `[N, 2]` float32 probabilities.

    Args:
        probs: `[N, K, 2]`.

    Raises:
        ValueError: the combination fails, or returns something else.
    """
    try:
        labels = np.asarray(COMBINATIONS.make(name)(probs), np.float32)
    except Exception as error:
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise ValueError(
            f"combination {name!r} fails on labels of shape {probs.shape}: {type(error).__name__}: {reason}"
        ) from error
    if labels.shape != (len(probs), 2):
        raise ValueError(
            f"combination {name!r} returns shape {labels.shape} for labels of shape {probs.shape}: return "
            f"{(len(probs), 2)}"
        )
    # Written so that what is not a number is wrong too.
    sound = (labels >= 0).all(axis=1) & (np.abs(labels.sum(axis=1) - 1) <= _ROUNDING)
    if not sound.all():
        row = int(np.flatnonzero(~sound)[0])
        raise ValueError(
            f"combination {name!r} makes {labels[row].tolist()} of row {row}: return two probabilities that add up to 1"
        )
    return labels
