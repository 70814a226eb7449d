"""What selection and smoothing did to the labels, from a student's trace and the ground truth.

Ground truth is joined after training, by example_id, for analysis alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from selw2s_jax.analysis import metrics


def label_diagnostics(
    trace: Mapping[str, np.ndarray],
    example_ids: Sequence[str],
    *,
    truth: np.ndarray,
    weak: np.ndarray,
    own: np.ndarray | None,
) -> dict[str, dict[str, float | int | None]]:
    """Label quality in the first half, the second half and the whole of training.

    Args:
        trace: one entry per task example and step: `step`, `example_id`, `p_ik`, `ik_mask`, and the
            probability of class 1 of the `prior` and of the `target` label.
        example_ids: `[N]`, what the other arrays are ordered by.
        truth: `[N]` ground truth.
        weak, own: `[N]` weak labels and self labels, as probabilities of class 1; `own` is None where the
            student made its labels as it went.

    Returns:
        For "first_half", "second_half" and "all": rows, IK rate, accuracy of self and of weak labels on IK
        rows, of self and of weak labels on all rows, of the prior and of the target labels, mean absolute
        move and share of labels flipped by smoothing, and AUROC of P(IK) for "the self label is right". None
        where there is nothing to average.
    """
    place = {name: index for index, name in enumerate(example_ids)}
    index = np.array([place[name] for name in trace["example_id"]])
    columns = {
        "ik": trace["ik_mask"].astype(bool),
        "p_ik": trace["p_ik"],
        "prior": trace["prior"],
        "target": trace["target"],
        "weak": weak[index],
        "truth": truth[index].astype(bool),
    }
    if own is not None:
        columns["own"] = own[index]
    middle = (int(trace["step"].max()) + 1) / 2
    early = trace["step"] < middle
    parts = {"first_half": early, "second_half": ~early, "all": np.ones_like(early)}
    return {
        name: _summary({column: values[rows] for column, values in columns.items()})
        for name, rows in parts.items()
    }


def _summary(rows: dict[str, np.ndarray]) -> dict[str, float | int | None]:
    names = [name for name in ("weak", "own", "prior", "target") if name in rows]
    right = {name: (rows[name] > 0.5) == rows["truth"] for name in names}
    known = rows["ik"]
    return {
        "rows": len(known),
        "ik_rate": _mean(known),
        # On IK rows the prior label is the self label.
        "self_accuracy_on_ik": _mean(right["prior"][known]),
        "weak_accuracy_on_ik": _mean(right["weak"][known]),
        "self_accuracy": _mean(right["own"]) if "own" in right else None,
        "weak_accuracy": _mean(right["weak"]),
        "prior_accuracy": _mean(right["prior"]),
        "target_accuracy": _mean(right["target"]),
        "smoothing_move": _mean(np.abs(rows["target"] - rows["prior"])),
        "smoothing_flips": _mean((rows["prior"] > 0.5) != (rows["target"] > 0.5)),
        "p_ik_auroc": metrics.auroc(rows["p_ik"], right["own"]) if "own" in right and len(known) else None,
    }


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None
