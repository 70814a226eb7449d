"""The plan of a run as it is printed: every stage, or how many there are of each kind."""

import collections
from collections.abc import Collection, Mapping, Sequence

from selw2s_jax.stages import stage as stage_lib

# Of the kinds of stages, whose names are those of their artifacts' folders; another says it itself.
_KINDS = {
    "answers": "few-shot answers",
    "calibration": "calibrations",
    "columns": "label columns",
    "labels": "labels of a model",
    "pretrain": "pretraining",
    "reworded": "questions in other words",
    "rows": "rows to learn",
    "train": "training",
    "written": "written answers",
}
_STATES = ("to run", "others", "done")


def states(
    stages: Sequence[stage_lib.Stage], missing: Collection[str], ours: Collection[str]
) -> dict[str, str]:
    """By key of a stage: "to run", "done", or "others", which another shard has to run.

    Args:
        missing: keys of the stages that are not finished.
        ours: of those that this run makes.
    """
    return {
        stage.key: "to run" if stage.key in ours else "others" if stage.key in missing else "done"
        for stage in stages
    }


def whole(stages: Sequence[stage_lib.Stage], state: Mapping[str, str], cells: Mapping[str, str]) -> list[str]:
    """A line for each stage, with its key and size, below the name of the cell of a sweep that it is first made for.

    Args:
        state: of `states`.
        cells: names of the cells, "" without a sweep, by the stage's key.
    """
    width = max(len(stage.label) for stage in stages)
    lines, last = [], ""
    for stage in stages:
        if cells[stage.key] != last:
            last = cells[stage.key]
            lines.append(f"  {last}")
        lines.append(
            f"  {state[stage.key].ljust(6)}  {stage.label.ljust(width)}  {stage.key}  {stage.detail}"
        )
    return lines


def folded(stages: Sequence[stage_lib.Stage], state: Mapping[str, str]) -> list[str]:
    """A line for each kind of stage, with how many are to run and how many were found.

    Args:
        state: of `states`.
    """
    by_kind: dict[str, collections.Counter[str]] = {}
    for stage in stages:
        by_kind.setdefault(_KINDS.get(stage.name, stage.name), collections.Counter())[state[stage.key]] += 1
    width = max(map(len, by_kind))
    return [
        f"  {kind.ljust(width)}  " + ", ".join(f"{counts[one]} {one}" for one in _STATES if counts[one])
        for kind, counts in by_kind.items()
    ]
