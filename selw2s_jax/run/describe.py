"""The models of a run as its manifest has them, so that no data is needed to use them.

The weak model and the ceiling are listed as the methods "weak" and "ceiling".
"""

import dataclasses
import os
from typing import Any

import ml_collections
from etils import epath

from selw2s_jax.data import members, tasks
from selw2s_jax.experiments import selective
from selw2s_jax.hf import pretrained
from selw2s_jax.method import registry as method_registry


def describe_model(model: pretrained.Model, workdir: epath.PathLike) -> dict[str, Any]:
    """A model as the manifest has it. A folder in the workdir is given relative to it, so that it can be moved."""
    root = os.path.abspath(workdir)

    def describe(folder: os.PathLike) -> str:
        folder = os.path.abspath(folder)
        return os.path.relpath(folder, root) if folder.startswith(root + os.sep) else folder

    return {
        "name": model.name,
        "title": model.title,
        "folder": describe(model.folder),
        "fingerprint": model.fingerprint,
        "learning_rate": model.learning_rate,
        "max_length": model.max_length,
        "sizes": model.config.as_json(),
        "tokenizer": {
            "folder": describe(model.tokenizer.files[0].parent),
            "fingerprint": model.tokenizer.fingerprint,
            "bos_id": model.tokenizer.bos_id,
        },
    }


def list_embeddings(experiment: selective.Experiment) -> list[dict[str, Any]]:
    """The embeddings of an experiment, finished or not, as the manifest lists them."""
    return [
        {"model": role, "seed": seed, "split": split, "task": stage.split.task.name, "key": stage.key}
        for (role, seed, split), stage in experiment.all_embeddings().items()
    ]


def list_students(
    config: ml_collections.ConfigDict, experiment: selective.Experiment
) -> list[dict[str, Any]]:
    """The trained models of an experiment, finished or not, as the manifest lists them."""
    listed = []
    references = [name for name in ("weak", "ceiling") if name in experiment.classifiers()]
    # Several weak models are listed each; together they are none that was trained.
    if of_members := [experiment.name_of(number) for number in experiment.members]:
        references = [*of_members, *references[1:]]
    for seed in config.seeds:
        few_shot = experiment.inputs.by_seed[seed].test.few_shot
        for name in (*references, *config.methods):
            model = experiment.trained(seed, name).model
            role, test = model.role, experiment.split(model, seed, "test")
            reads_instruction, reads_shots = test.prompt != "bare", test.prompt == "fewshot"
            # Where several models have one role, which of the manifest's it is.
            which = {"model": model.slot} if model.slot != role else {}
            if role == "weak" and (learnt := members.of(config)[model.number].task) is not None:
                which["learnt"] = learnt
            listed.append(
                {
                    **which,
                    "task": config.task,
                    "method": name,
                    "seed": seed,
                    "key": experiment.trained(seed, name).key,
                    "role": role,
                    "has_class_head": name in references or method_registry.METHODS[name].task_weight > 0,
                    "prompt": test.prompt,
                    "instruction": test.task.instruction if reads_instruction else "",
                    "shots": [list(shot) for shot in few_shot.shots] if reads_shots else [],
                    "few_shot": dataclasses.asdict(few_shot),
                    "is_plain_text": test.task.format is tasks.format_text,
                }
            )
    return listed
