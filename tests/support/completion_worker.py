"""Trains models that write on several layouts of 8 devices; run by tests/stages/test_complete.py with FOLDER.

FOLDER/found.json: by method and layout, the losses and gradient norms of all steps, and the trained weights by path.
"""

import json
import pathlib
import sys

import jax
import numpy as np
from support import written_stages

from selw2s_jax.stages import workbench

# A step of Adam is a gradient over its own size, rounding and all; so large an eps keeps it in proportion.
STEADY = {"training__eps": 1.0, "learning_rate": 0.3, "num_questions": 4, "training__batch_size": 4}
LAYOUTS = {
    "one device": {"mesh__shape": (1, 1, 1)},
    "2 x 2 x 2": {"mesh__shape": (2, 2, 2)},
    "micro-batches": {"mesh__shape": (1, 1, 1), "training__micro_batch_size": 1},
    "2 x 2 x 2, micro-batches": {"mesh__shape": (2, 2, 2), "training__micro_batch_size": 2},
}


def train(answers, method: str, folder: pathlib.Path, **changes) -> dict[str, list[float]]:
    training = written_stages.make_student(answers[0], method, **STEADY, **changes)
    # One device where the mesh has one.
    devices = jax.devices()[: int(np.prod(changes["mesh__shape"]))]
    bench = workbench.Workbench(written_stages.copy_of(answers, folder), folder, devices)
    bench.make(training)
    (log,) = folder.glob("logs/*.jsonl")
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    found = {
        name: [step[f"train/{name}"] for step in steps] for name in ("loss", "loss_unweighted", "grad_norm")
    }
    adapters = training.hold(bench).adapters
    for name in adapters.names:
        for part in ("a", "b"):
            found[f"{name}.{part}"] = (
                np.asarray(getattr(adapters[name], part)[...], np.float64).ravel().tolist()
            )
    return found


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    answers = written_stages.answered(folder, vocab_size=304)  # which a mesh divides
    found = {
        method: {
            layout: train(answers, method, folder / method / layout, **changes)
            for layout, changes in LAYOUTS.items()
        }
        for method in ("reweighted", "all_variations")
    }
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
