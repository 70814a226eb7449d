"""Where a user's own labels of the strong model come from, by name: `self_label.source` of a config."""

from collections.abc import Callable, Sequence

import numpy as np

from selw2s_jax.method import factories

# (example_ids, classifier inputs, seed) -> probabilities of class 1 [N]; never ground truth.
LabelSource = Callable[[Sequence[str], Sequence[str], int], np.ndarray]
BUILT_IN = ("fewshot", "class_head", "file")  # what else `self_label.source` may be; a run makes these itself
LABEL_SOURCES = factories.Registry("label source")
register = LABEL_SOURCES.register


def read(name: str, ids: Sequence[str], texts: Sequence[str], seed: int) -> np.ndarray:
    """The labels of a source, checked: `[N]` float32 in [0, 1].

    Raises:
        ValueError: the source fails, or returns something else.
    """
    try:
        labels = np.asarray(LABEL_SOURCES.make(name)(ids, texts, seed), np.float32)
    except Exception as error:
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise ValueError(
            f"label source {name!r} fails on {len(ids)} examples: {type(error).__name__}: {reason}"
        ) from error
    if labels.shape != (len(ids),):
        raise ValueError(
            f"label source {name!r} returns shape {labels.shape} for {len(ids)} examples: return one probability each"
        )
    wrong = np.flatnonzero(~((labels >= 0) & (labels <= 1)))
    if wrong.size:
        raise ValueError(
            f"label source {name!r} gives {labels[wrong[0]]} to {ids[wrong[0]]}: return probabilities in [0, 1]"
        )
    return labels
