"""How the trainings of a run are laid out: what its plan says, and what its manifest keeps."""

from collections.abc import Iterable
from typing import Any

from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import layouts, training, workbench
from selw2s_jax.stages import stage as stage_lib


def expected(stages: Iterable[stage_lib.Stage], bench: workbench.Workbench) -> list[str]:
    """A line for each layout that trainings of a model are expected to have.

    Raises:
        UserError: the state of one fits on no mesh of the devices.
    """
    by_model: dict[tuple[str, str], layouts.Expected] = {}  # of each layout the one that needs the most
    for stage in stages:
        if isinstance(stage, training.Training) and not stage.is_probe:
            one = layouts.expected(stage, bench)
            place = (stage.model.slot, one.described)
            known = by_model.get(place)
            if known is None or (one.num_bytes or 0) > (known.num_bytes or 0):
                by_model[place] = one
    return [f"layout of the {slot} model in training: {one}" for (slot, _), one in by_model.items()]


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
