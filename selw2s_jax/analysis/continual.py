"""What a model keeps of tasks that it learns one after the other, from its accuracy on all of them after each.

`accuracy[t, j]` is that on the test of task j after task t, both counted in the order of learning.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def summary(accuracy: np.ndarray) -> dict[str, float | None]:
    """Numbers of one sequence.

    Args:
        accuracy: `[T, T]` fractions.

    Returns:
        average: over all tasks after the last (ACC of Lopez-Paz & Ranzato 2017, arXiv 1706.08840).
        learning: of each task right after it was learnt.
        backward_transfer: what learning later tasks did to earlier ones, mean of `accuracy[-1, j] - accuracy[j, j]`
            over all j but the last (BWT, same paper); None of one task.
        forgetting: mean over the same tasks of the best that it was before the last task less what it is after
            (Chaudhry et al. 2018, arXiv 1801.10112, Eq. 3); negative where the last task helped. None of one task.
        before_learning: of each task but the first, just before it is learnt; None of one task.

    Raises:
        ValueError: it is no square.
    """
    accuracy = np.asarray(accuracy, np.float64)
    if accuracy.ndim != 2 or accuracy.shape[0] != accuracy.shape[1] or not accuracy.size:
        raise ValueError(f"accuracy of shape {accuracy.shape}: give one of each task after each, [T, T]")
    own, last = np.diag(accuracy), accuracy[-1]
    found: dict[str, float | None] = {"average": float(last.mean()), "learning": float(own.mean())}
    if len(accuracy) == 1:
        return found | dict.fromkeys(("backward_transfer", "forgetting", "before_learning"))
    # Of task j, its best after j up to the one before the last.
    best = np.array([accuracy[task:-1, task].max() for task in range(len(accuracy) - 1)])
    return found | {
        "backward_transfer": float((last - own)[:-1].mean()),
        "forgetting": float((best - last[:-1]).mean()),
        "before_learning": float(np.diag(accuracy, 1).mean()),
    }


def matrix(entries: list[Mapping[str, Any]], tasks: tuple[str, ...]) -> np.ndarray | None:
    """`[T, T]` accuracy of one method and seed from entries with learnt, tested, correct and n; None if one lacks."""
    found = {(entry["learnt"], entry["tested"]): entry["correct"] / entry["n"] for entry in entries}
    if any((first, second) not in found for first in tasks for second in tasks):
        return None
    return np.array([[found[first, second] for second in tasks] for first in tasks])
