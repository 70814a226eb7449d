"""What all answers to a file of questions say together, in a few lines."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import formats, metrics

Records = Sequence[dict[str, Any]]


def of_classes(records: Records, labels: Sequence[int | None], *, gamma: float) -> list[str]:
    """Of a model with heads.

    Args:
        labels: of the questions, 0 or 1, None where none is given; what is measured is measured on those that have one.
        gamma: `p_ik.gamma`.
    """
    lines = []
    if records[0]["p_ik"] is not None:
        known = sum(record["p_ik"] > gamma for record in records)
        lines.append(f"P(IK) above gamma={gamma:g}: {_share(known, len(records))}")
    if records[0]["class"] is not None:
        lines.append(f"class 1: {_share(sum(record['class'] for record in records), len(records))}")
    labelled = [i for i, label in enumerate(labels) if label is not None]
    if not labelled:
        return lines
    truth, kept = np.array([labels[i] for i in labelled]), [records[i] for i in labelled]
    for name, probs in _judges(kept).items():
        right = int(((probs > 0.5) == truth).sum())
        lines.append(f"{name}: accuracy {_share(right, len(truth))}{_auroc(probs, truth)}")
    few_shot = [(record["few_shot"] or {}).get("prob_1") for record in kept]
    if kept[0]["p_ik"] is not None and None not in few_shot:
        known = (np.array(few_shot) > 0.5) == truth
        if area := _auroc(np.array([record["p_ik"] for record in kept]), known):
            lines.append(f"P(IK) of whether the few-shot answer is right{area}")
    return lines


def _judges(records: Records) -> dict[str, np.ndarray]:
    """Probabilities of class 1, by whose they are."""
    found = {"student": [record["prob_1"] for record in records]}
    for name, field in (("weak model", "weak"), ("few-shot answers", "few_shot")):
        found[name] = [(record[field] or {}).get("prob_1") for record in records]
    return {name: np.array(values) for name, values in found.items() if None not in values}


def of_written(records: Records) -> list[str]:
    """Of a model that writes."""
    lines = [
        f"an answer was read of {_share(sum(one['answer'] is not None for one in records), len(records))}"
    ]
    agreeing = [
        one["agreeing"] / one["variations"]
        for one in records
        if one["variations"] and one["agreeing"] is not None
    ]
    if agreeing:
        lines.append(
            f"variations that agree with it: {formats.percent(statistics.fmean(agreeing))} % on average"
        )
    return lines


def _auroc(scores: np.ndarray, truth: np.ndarray) -> str:
    area = metrics.auroc(scores, truth)
    return "" if area is None else f", AUROC {area:.3f}"


def _share(count: int, total: int) -> str:
    return f"{count} of {total} ({formats.percent(count / total)} %)"
