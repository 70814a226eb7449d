"""Training stages of a method, to be looked at and not made."""

import pathlib

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches, splits, tasks
from selw2s_jax.hf import pretrained
from selw2s_jax.method import objectives, registry
from selw2s_jax.models import family
from selw2s_jax.stages import examples, settings, train


def make(method: str, config: ml_collections.ConfigDict, sizes: family.ModelConfig) -> train.Train:
    """The stage that would train a student with a method on 64 examples."""
    model = pretrained.Model("strong", "tiny", pathlib.Path("tiny"), sizes, None, "fingerprint", 1e-4, 128)
    rows = [tasks.Example(str(number), str(number), "text", 0) for number in range(64)]
    return train.Train(
        "student",
        settings.Settings.of(config),
        "student",
        model,
        objectives.make_objective(config, registry.METHODS[method]),
        dict.fromkeys((batches.TASK, batches.P_IK), config.training.batch_size),
        epochs=config.training.epochs,
        **{f"{which}_seed": config_lib.seed_for(config, 0, which) for which in ("order", "init")},
        task=examples.Examples(splits.Split(rows, tasks.TASKS["sciq"], "bare", ()), {}),
    )
