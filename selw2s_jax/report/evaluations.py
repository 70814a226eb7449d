"""Answers to the test items as runs store them: probabilities of two classes, or texts that were written.

The latter are parsed answers as text, "" where a model wrote none: `data.answers.to_text`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from selw2s_jax.runtime import artifacts

CLASSES, WRITTEN = "predictions", "written"  # stages that evaluate; a manifest names the second alone
_ORIGINAL = 0  # variation of a question that is its prompt as it is


def stage_of(entry: Mapping[str, Any]) -> str:
    """The stage of an evaluation that a manifest lists.

    Raises:
        ValueError: it is none that evaluates.
    """
    stage = entry.get("stage", CLASSES)
    if stage not in (CLASSES, WRITTEN):
        raise ValueError(f"{stage!r:.60} evaluates nothing")
    return stage


def read(store: artifacts.Store, stage: str, key: str) -> dict[str, Any] | None:
    """By example_id the probability of class 1, or what was written; None where the evaluation is not finished."""
    artifact = store.find_by_key(stage, key)
    if artifact is None:
        return None
    if stage == CLASSES:
        table = artifact.read_table("predictions.parquet")
        return dict(zip(table["example_id"], table["prob_1"], strict=True))
    table = artifact.read_table("answers.parquet")
    rows = table["variation"] == _ORIGINAL
    return dict(zip(table["example_id"][rows], map(str, table["prediction"][rows]), strict=True))


def parse_truth(table: Mapping[str, Any], stage: str) -> tuple[list[str], list[Any], np.ndarray]:
    """Ground truth of a workdir: example_ids and truths as they are written, and `[N]` truths as `stored.Run` has them.

    Raises:
        ValueError, KeyError: it is none of evaluations by that stage.
    """
    ids, truths = table["example_id"], table["label" if stage == CLASSES else "answer"]
    if stage == CLASSES:
        return ids, truths, np.array(truths, bool)
    if not all(isinstance(truth, str) and truth for truth in truths):
        raise ValueError("a right answer is no text")
    return ids, truths, np.array(truths, object)
