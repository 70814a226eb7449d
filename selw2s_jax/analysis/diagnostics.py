"""What selection and smoothing did to the labels, from a student's trace and the ground truth.

Ground truth is joined after training, by example_id, for analysis alone.
"""

from collections.abc import Mapping

import numpy as np

from selw2s_jax.analysis import metrics


def label_diagnostics(
    trace: Mapping[str, np.ndarray],
    weak_prob_1: Mapping[str, float],
    self_labels: Mapping[str, float],
    truth: Mapping[str, int],
) -> dict[str, dict[str, float | int | None]]:
    """Label quality in the first half, the second half and the whole of training.

    Args:
        trace: one entry per task example and step: `step`, `example_id`, `p_ik`, `ik_mask`, and the
            probability of class 1 of the `prior` and of the `target` label.
        weak_prob_1, self_labels, truth: by example_id; self labels as probabilities of class 1.

    Returns:
        For "first_half", "second_half" and "all": rows, IK rate, accuracy of self and of weak labels on IK
        rows, of self labels on all rows, of the weak labels, the prior and the target, mean absolute move
        and share of labels flipped by smoothing, and AUROC of P(IK) for "the self label is right". None
        where there is nothing to average.
    """
    ids = trace["example_id"]
    columns = {
        "ik": trace["ik_mask"].astype(bool),
        "p_ik": trace["p_ik"],
        "prior": trace["prior"],
        "target": trace["target"],
        "weak": np.array([weak_prob_1[name] for name in ids]),
        "self": np.array([self_labels[name] for name in ids]),
        "truth": np.array([truth[name] for name in ids]).astype(bool),
    }
    middle = (int(trace["step"].max()) + 1) / 2
    early = trace["step"] < middle
    parts = {"first_half": early, "second_half": ~early, "all": np.ones_like(early)}
    return {
        name: _summary({column: values[rows] for column, values in columns.items()})
        for name, rows in parts.items()
    }


def _summary(rows: dict[str, np.ndarray]) -> dict[str, float | int | None]:
    right = {name: (rows[name] > 0.5) == rows["truth"] for name in ("weak", "self", "prior", "target")}
    known = rows["ik"]
    move = np.abs(rows["target"] - rows["prior"])
    return {
        "rows": len(known),
        "ik_rate": _mean(known),
        "self_accuracy_on_ik": _mean(right["self"][known]),
        "weak_accuracy_on_ik": _mean(right["weak"][known]),
        "self_accuracy": _mean(right["self"]),
        "weak_accuracy": _mean(right["weak"]),
        "prior_accuracy": _mean(right["prior"]),
        "target_accuracy": _mean(right["target"]),
        "smoothing_move": _mean(move),
        "smoothing_flips": _mean((rows["prior"] > 0.5) != (rows["target"] > 0.5)),
        "p_ik_auroc": metrics.auroc(rows["p_ik"], right["self"]) if len(known) else None,
    }


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None
