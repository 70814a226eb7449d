"""What a plan must say of a run that is finished."""

import json
import pathlib

import jax

from selw2s_jax.plan import planner, programs, workload


def assert_counted(config, workdir: pathlib.Path) -> None:
    """The plan of a finished run finds it done, and counts the tokens of every training as it was."""
    config = planner.cells(config)[0].config
    made = programs.Programs(config, jax.devices())
    found = workload.find(config, workdir, made.train_batches)
    assert not found.missing and all(stage.is_done for stage in found.stages)
    done = {}
    for path in workdir.glob("artifacts/train/*/summary.json"):
        summary = json.loads(path.read_text())
        done[summary["label"]] = summary
    names = {
        "weak": "weak",
        "ceiling": "ceiling",
        "finetune": "students without P(IK)",
        "selective": "students with P(IK)",
    }
    trainings = {one.label: one for one in found.trainings}
    assert {names[label.removesuffix(", seed 0")] for label in done} <= set(trainings)
    for label, summary in done.items():
        planned = trainings[names[label.removesuffix(", seed 0")]]
        assert planned.num_steps == summary["num_steps"]
        assert list(map(list, planned.shapes)) == summary["shapes"]
        assert planned.num_tokens / planned.num_slots == summary["padding_efficiency"]
