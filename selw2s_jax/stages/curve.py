"""What a classifier says while it is trained: test predictions, and those of rows of the student's half.

They are made beside the train step and never change it, so that the weights are the same bits with and without them.
Yet they are part of a training's key: an artifact without them is another one, and asking for them trains anew.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from selw2s_jax.data import batches
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import classify
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import examples
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.training import loop

# Of what a training can be asked about, tables of step, example_id and prob_1, step by step, each in the order of the
# split; of rows of the student's half also weak_1, the weak label's probability of class 1, the same in all steps.
FILES = {"test": "curve.parquet", "held_out": "curve_held_out.parquet", "trained": "curve_trained.parquet"}


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """What a training is asked, and when: before its first step, every so many steps, and after its last.

    No ground truth is among it: curves are judged when the run has ended.

    Attributes:
        every_steps: after how many steps.
        asked: examples by their names in `FILES`: of the test set, and of the student's half with their weak labels
            those that no student is trained on, and some that all are.
    """

    every_steps: int
    asked: dict[str, examples.Examples]

    @property
    def needs(self) -> tuple[stage_lib.Stage, ...]:
        return tuple(stage for one in self.asked.values() for stage in one.needs)

    def inputs(self, model: pretrained.Model) -> dict[str, Any]:
        """What its tables are a function of besides the training, as JSON values."""
        is_truncated = any(one.split.is_overlong(model).any() for one in self.asked.values())
        return {
            "every_steps": self.every_steps,
            "asked": {name: one.inputs for name, one in self.asked.items()},
            "truncated_to": model.max_length if is_truncated else None,
        }

    def describe(self, num_steps: int) -> str:
        """What it costs, for the plan."""
        num_times, num_examples = 1 + -(-num_steps // self.every_steps), sum(map(len, self.asked.values()))
        return f"asked {num_times} times about {num_examples} examples"

    def read(self, label: str, settings: settings_lib.Settings, model: pretrained.Model, store) -> "Asked":
        """Its examples as a model reads them, once the stages that it needs have run.

        Args:
            label: of the training.
        """
        sets = {name: one.read(model, store) for name, one in self.asked.items()}
        return Asked(
            f"{label}: the predictions of {model.name} under training", settings, self.every_steps, sets
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """The examples that a training is asked about.

    Attributes:
        what: is asked for, for people.
        settings: of the training.
        every_steps: after how many steps.
        sets: by their names in `FILES`.
    """

    what: str
    settings: settings_lib.Settings
    every_steps: int
    sets: dict[str, batches.ExampleSet]

    def evaluation(self, mesh: jax.sharding.Mesh) -> loop.Evaluation:
        """Of a classifier or probe on a mesh: the probabilities of class 1 `[N]` of one set after the other."""
        # Each in batches of its own: those of the test are then those of its evaluation when training has ended.
        parts = [self._predictor(one, mesh) for one in self.sets.values()]
        return loop.Evaluation(
            self.every_steps, lambda module: np.concatenate([part(module) for part in parts])
        )

    def _predictor(
        self, one: batches.ExampleSet, mesh: jax.sharding.Mesh
    ) -> Callable[[nnx.Module], np.ndarray]:
        if one.tokens is None:
            embeddings = one.columns[batches.EMBEDDINGS]
            predict = lambda probe: classify.predict_embedded(probe, embeddings, mesh=mesh)[0][:, 1]  # noqa: E731
        else:
            predict = classify.predictor(
                one.tokens,
                mesh=mesh,
                batch_tokens=self.settings.execution.score_tokens,
                openai_pooling=self.settings.openai_pooling,
            )

        def named(module: nnx.Module) -> np.ndarray:
            remedy = "lower the learning rate, or set precision.compute_dtype=float32"
            with classify.naming(self.what, one.example_ids, remedy):
                return predict(module)

        return named

    def write(self, folder, steps: np.ndarray, probs: np.ndarray) -> None:
        """Writes the file of each set.

        Args:
            steps: `[K]` int32.
            probs: `[K, N]` float32, of `evaluation`.
        """
        ends = np.cumsum([len(one.example_ids) for one in self.sets.values()])
        parts = np.split(probs, ends[:-1], axis=1)
        for (name, one), values in zip(self.sets.items(), parts, strict=True):
            columns = {
                "step": np.repeat(steps, len(one.example_ids)),
                "example_id": list(one.example_ids) * len(steps),
                "prob_1": values.reshape(-1),
            }
            if "weak_probs" in one.columns:
                columns["weak_1"] = np.tile(one.columns["weak_probs"][:, 1], len(steps))
            artifacts.write_table(folder / FILES[name], columns)
