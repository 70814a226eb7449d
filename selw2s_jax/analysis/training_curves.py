"""Curves over training: where a student is best, and where one would stop who sees the weak labels alone.

Students of weak labels can get worse while they learn them better (Burns et al. 2023, arXiv 2312.09390; 2503.04249).
Who has no ground truth can stop where a student agrees most with weak labels that it is not trained on; who looks at
the truth of the test set, an oracle, finds out what there was to gain.
"""

import numpy as np
import numpy.typing as npt


def agreement(probs: npt.ArrayLike, labels: npt.ArrayLike) -> np.ndarray:
    """The share of examples on which a model and labels name the same class, at each step.

    Args:
        probs: `[K, N]` probabilities of class 1.
        labels: `[N]` the same of labels, or 0 and 1.

    Returns:
        `[K]` float64, NaN where there is no example.
    """
    same = (np.asarray(probs) > 0.5) == (np.asarray(labels) > 0.5)
    return same.mean(axis=1) if same.shape[1] else np.full(len(same), np.nan)


def best_place(steps: npt.ArrayLike, scores: npt.ArrayLike) -> int:
    """The place of the highest score, of equals the earliest; of a model that no step has trained it is never.

    Args:
        steps: `[K]` in order, the last one above 0.
        scores: `[K]`.
    """
    steps, scores = np.asarray(steps), np.asarray(scores, np.float64)
    if not len(steps) or steps[-1] <= 0 or steps.shape != scores.shape:
        raise ValueError(f"no trained step, or {steps.shape} steps for {scores.shape} scores")
    return int(np.argmax(np.where(steps > 0, scores, -np.inf)))


def crossed_places(steps: npt.ArrayLike, correct: npt.ArrayLike) -> np.ndarray:
    """For each item the place of the step that is best on the other half of the items.

    The best of many steps looks better than it is on the items that it was chosen on; on others it does not.

    Args:
        steps: `[K]` as for `best_place`.
        correct: `[K, N]` bool, N at least 2.

    Returns:
        `[N]` int.
    """
    correct = np.asarray(correct, bool)
    is_second = second_half(correct.shape[1])
    on_first, on_second = (
        best_place(steps, correct[:, half].mean(axis=1)) for half in (~is_second, is_second)
    )
    return np.where(is_second, on_first, on_second)


def second_half(num_items: int) -> np.ndarray:
    """Half of the items, `[N]` bool, the same at every call.

    Drawn, as every other item would be the wrong answers where a right and a wrong one of each question stand in turn.
    """
    chosen = np.zeros(num_items, bool)
    chosen[np.random.default_rng(0).permutation(num_items)[: num_items // 2]] = True
    return chosen
