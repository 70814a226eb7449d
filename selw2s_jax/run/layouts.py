"""How the trainings of a run are laid out: what its plan says, and what its manifest keeps."""

from collections.abc import Iterable
from typing import Any

from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import layouts, training, workbench
from selw2s_jax.stages import stage as stage_lib


def expected(stages: Iterable[stage_lib.Stage], bench: workbench.Workbench) -> list[str]:
    """A line for each layout that trainings are expected to have, with the models that are trained so.

    Raises:
        UserError: the state of one fits on no mesh of the devices.
    """
    slots: dict[str, dict[str, None]] = {}
    for stage in stages:
        if isinstance(stage, training.Training) and not stage.is_probe:
            text = layouts.expected(stage, bench) or "chosen once its rows are known"
            slots.setdefault(text, {})[stage.model.slot] = None
    return [f"layout of the {' and '.join(named)} model in training: {text}" for text, named in slots.items()]


def of_finished(stages: Iterable[stage_lib.Stage], store: artifacts.Store) -> dict[str, Any]:
    """By label of a training that is finished, its layout, how it was chosen and what was tried."""
    found = {}
    for stage in stages:
        if isinstance(stage, training.Training):
            artifact = stage_lib.find(store, stage)
            record = None if artifact is None else artifact.read_json("summary.json").get("layout")
            if record is not None:
                found[stage.label] = record
    return found
