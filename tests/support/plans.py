"""What a plan must say of a run that is finished."""

import json
import pathlib

import jax

from selw2s_jax.plan import forms, planner, programs, workload

# Trainings by what they trained, as the plan calls them.
CLASS_HEADS = {
    "weak": "weak",
    "ceiling": "ceiling",
    "finetune": "students without P(IK)",
    "selective": "students with P(IK)",
}
# Of students that learn what is written no token can be known before it is.
COMPLETIONS = {"weak": "weak", "ceiling": "ceiling"}


def assert_counted(config, workdir: pathlib.Path, names: dict[str, str] = CLASS_HEADS) -> None:
    """The plan of a finished run finds it done, and counts the tokens of the named trainings as they were."""
    config = planner.cells(config)[0].config
    made = programs.Programs(config, jax.devices())
    found = workload.find(config, workdir, made.train_batches, forms.get(config).source)
    assert not found.missing and all(stage.is_done for stage in found.stages)
    done = {}
    for path in workdir.glob("artifacts/train/*/summary.json"):
        summary = json.loads(path.read_text())
        done[summary["label"].removesuffix(", seed 0")] = summary
    trainings = {one.label: one for one in found.trainings}
    assert {"weak", "ceiling"} < done.keys()
    for name in done.keys() & names.keys():
        planned, summary = trainings[names[name]], done[name]
        assert planned.num_steps == summary["num_steps"]
        assert list(map(list, planned.shapes)) == summary["shapes"]
        assert planned.num_tokens / planned.num_slots == summary["padding_efficiency"]
