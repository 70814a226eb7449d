"""Several weak models that label together: what each is worth, and how far they agree."""

from typing import Any

import numpy as np
import numpy.typing as npt


def describe(labels: npt.ArrayLike, truth: npt.ArrayLike) -> list[dict[str, float]]:
    """For each model, what its labels are worth.

    Args:
        labels: `[N, K]` probabilities of class 1.
        truth: `[N]` 0 or 1; for analysis alone, as no student sees it.

    Returns:
        Of each, `accuracy`, the share of its classes (1 above a half) that are right; `entropy`, the mean entropy of
        its probabilities in nats, at most log 2; and `agreement`, the mean over the other models of the share of rows
        to which both give one class.

    Raises:
        ValueError: there are fewer than two models, or no rows.
    """
    labels, truth = np.asarray(labels, np.float64), np.asarray(truth, bool)
    if labels.ndim != 2 or labels.shape[1] < 2 or truth.shape != labels.shape[:1] or not len(truth):
        raise ValueError(
            f"need labels [N, K] of two models or more and truth [N], got {labels.shape}, {truth.shape}"
        )
    classes, count = labels > 0.5, labels.shape[1]
    agreeing = (classes[:, :, None] == classes[:, None, :]).mean(axis=0)
    return [
        {
            "accuracy": float((classes[:, number] == truth).mean()),
            "entropy": float(_entropy(labels[:, number]).mean()),
            "agreement": float((agreeing[number].sum() - 1) / (count - 1)),
        }
        for number in range(count)
    ]


def _entropy(probs: np.ndarray) -> np.ndarray:
    """In nats, of the two classes; 0 where one is sure."""
    both = np.stack([probs, 1 - probs])
    logs = np.log(both, out=np.zeros_like(both), where=both > 0)
    return -(both * logs).sum(axis=0)


def best(accuracies: npt.ArrayLike) -> int:
    """The number of the model that is right most often by the truth, the first of several: an oracle's choice."""
    return int(np.argmax(np.asarray(accuracies)))


def summarize(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per seed the test accuracy of the models' mean, of all together and of the best one, which an oracle chose.

    Args:
        entries: each with `seed`, `member`, `test_correct`, `test_n` and `together_correct`.
    """
    rows = []
    for seed in dict.fromkeys(entry["seed"] for entry in entries):
        mine = [entry for entry in entries if entry["seed"] == seed]
        correct, total = [entry["test_correct"] for entry in mine], mine[0]["test_n"]
        rows.append(
            {
                "seed": seed,
                "n": total,
                "mean_accuracy": float(np.mean(correct) / total),
                "together_accuracy": mine[0]["together_correct"] / total,
                "best_member": mine[best(correct)]["member"],
                "best_accuracy": max(correct) / total,
            }
        )
    return rows
