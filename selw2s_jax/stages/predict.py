"""The stage that asks a trained model: class probabilities, and P(IK), of every example of a split."""

import dataclasses
import functools

import numpy as np
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.data import splits, written_splits
from selw2s_jax.inference import classify
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import embed, train, workbench
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib

FILE = "predictions.parquet"


@dataclasses.dataclass(frozen=True, eq=False)
class Predict(stage_lib.Stage):
    """Predictions of a trained model by example_id.

    Attributes:
        trained: the stage that trains it.
        split: that it reads.
        embedded: the stage that has the embeddings of the split, where the model is a probe.
        shows_accuracy: whether its accuracy is printed; never where labels are made.
    """

    name = "predictions"
    settings: settings_lib.Settings
    trained: train.Train
    split: splits.Split | written_splits.WrittenSplit
    embedded: embed.Embed | None = None
    shows_accuracy: bool = False

    @property
    def needs(self):
        return (self.trained,) if self.embedded is None else (self.embedded, self.trained)

    @property
    def detail(self):
        return f"{len(self.split)} examples"

    @functools.cached_property
    def inputs(self):
        model = self.trained.model
        is_truncated = bool(self.split.is_overlong(model).any())
        named = {
            "version": stage_lib.VERSION,
            "model": self.trained.key,
            "texts": self.split.texts_hash,
            "truncated_to": model.max_length if is_truncated else None,
        }
        return named if self.embedded is None else named | {"embeddings": self.embedded.key}

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `FILE`: example_id, prob_0, prob_1, and p_ik where the model has that head."""
        split = self.split
        named = classify.naming(
            f"{self.label}: the predictions of {self.trained.model.name}",
            split.ids,
            f"its training has overflowed in {self.settings.precision.compute_dtype}; lower the learning rate, or set "
            "precision.compute_dtype=float32",
        )
        with named:
            probs, p_ik = self._predict(bench)
        columns = {"example_id": split.ids, "prob_0": probs[:, 0], "prob_1": probs[:, 1]}
        if p_ik is not None:
            columns["p_ik"] = p_ik
        artifacts.write_table(folder / FILE, columns)
        if self.shows_accuracy:
            correct = int(np.sum((probs[:, 1] > 0.5) == split.labels))
            print(f"  accuracy {correct / len(split):.4f} ({correct} of {len(split)})")

    def _predict(self, bench: workbench.Workbench) -> tuple[np.ndarray, np.ndarray | None]:
        model, trained = self.trained.model, self.trained.hold(bench)
        mesh = sharding.mesh_of(nnx.state(trained))
        if self.embedded is not None:
            embeddings = embed.read(bench.store, (self.embedded,), self.split)
            return classify.predict_embedded(trained, embeddings, mesh=mesh)
        return classify.predict(
            trained,
            self.split.tokens(model),
            mesh=mesh,
            batch_tokens=self.settings.execution.score_tokens,
            label=self.label,
            openai_pooling=self.settings.openai_pooling,
            partial=bench.partial(self),
        )
