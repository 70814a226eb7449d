"""The stage that asks a trained model: class probabilities, and P(IK), of every example of a split."""

import dataclasses
import functools

import numpy as np

from selw2s_jax.data import splits
from selw2s_jax.inference import classify
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.stages import train, workbench

FILE = "predictions.parquet"


@dataclasses.dataclass(frozen=True, eq=False)
class Predict(stage_lib.Stage):
    """Predictions of a trained model by example_id.

    Attributes:
        trained: the stage that trains it.
        split: that it reads.
        shows_accuracy: whether its accuracy is printed; never where labels are made.
    """

    name = "predictions"
    settings: settings_lib.Settings
    trained: train.Train
    split: splits.Split
    shows_accuracy: bool = False

    @property
    def needs(self):
        return (self.trained,)

    @property
    def detail(self):
        return f"{len(self.split)} examples"

    @functools.cached_property
    def inputs(self):
        model = self.trained.model
        is_truncated = bool(self.split.is_overlong(model).any())
        return {
            "version": stage_lib.VERSION,
            "model": self.trained.key,
            "texts": self.split.texts_hash,
            "truncated_to": model.max_length if is_truncated else None,
        }

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `FILE`: example_id, prob_0, prob_1, and p_ik where the model has that head."""
        model, split = self.trained.model, self.split
        named = classify.naming(
            f"{self.label}: the predictions of {model.name}",
            split.ids,
            f"its training has overflowed in {self.settings.precision.compute_dtype}; lower the learning rate, or set "
            "precision.compute_dtype=float32",
        )
        with named:
            probs, p_ik = classify.predict(
                self.trained.hold(bench),
                split.tokens(model),
                mesh=self.settings.mesh_for(model, bench.devices),
                batch_tokens=self.settings.execution.score_tokens,
                label=self.label,
                openai_pooling=self.settings.openai_pooling,
                partial=bench.partial(self),
            )
        columns = {"example_id": split.ids, "prob_0": probs[:, 0], "prob_1": probs[:, 1]}
        if p_ik is not None:
            columns["p_ik"] = p_ik
        artifacts.write_table(folder / FILE, columns)
        if self.shows_accuracy:
            correct = int(np.sum((probs[:, 1] > 0.5) == split.labels))
            print(f"  accuracy {correct / len(split):.4f} ({correct} of {len(split)})")
