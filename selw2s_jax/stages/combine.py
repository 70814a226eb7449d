"""The stage that makes one label of those of several weak models."""

import dataclasses
import functools
from typing import Any

import numpy as np

from selw2s_jax.data import splits
from selw2s_jax.errors import UserError
from selw2s_jax.method import combinations
from selw2s_jax.runtime import artifacts, distributed
from selw2s_jax.stages import own_code, predict, workbench
from selw2s_jax.stages import stage as stage_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Combine(stage_lib.Stage):
    """Predictions of several models together, by example_id; read as those of one are.

    Attributes:
        members: the stages of their predictions on the split, in the order of the models.
        combination: name in `combinations.COMBINATIONS`.
        split: that they read.
        shows_accuracy: as of `predict.Predict`.
    """

    name = predict.Predict.name
    members: tuple[predict.Predict, ...]
    combination: str
    split: splits.Split
    shows_accuracy: bool = False

    @property
    def needs(self):
        return self.members

    @property
    def detail(self):
        return f"{len(self.split)} examples, {self.combination} of {len(self.members)} models"

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        return {
            "version": stage_lib.VERSION,
            "combination": self.combination,
            "members": [member.key for member in self.members],
            **own_code.hashes(combination=combinations.COMBINATIONS[self.combination]),
        }

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `predict.FILE`: example_id, prob_0, prob_1."""
        columns: dict[str, Any] = {"example_id": self.split.ids}

        def combine() -> None:
            each = read_each(bench.store, self.members, self.split)
            try:
                probs = combinations.combine(self.combination, each)
            except ValueError as error:
                raise UserError(str(error)) from error
            columns.update(prob_0=probs[:, 0], prob_1=probs[:, 1])
            if self.shows_accuracy:
                correct = int(np.sum((probs[:, 1] > 0.5) == self.split.labels))
                print(f"  accuracy {correct / len(self.split):.4f} ({correct} of {len(self.split)})")

        distributed.main_only(combine)
        artifacts.write_table(folder / predict.FILE, columns)


def read_each(
    store: artifacts.Store, members: tuple[stage_lib.Stage, ...], split: splits.Split
) -> np.ndarray:
    """Class probabilities by finished stages of predictions, in the order of a split: `[N, K, 2]` float32."""
    of_members = [
        [stage_lib.read_column(store, member, predict.FILE, f"prob_{label}", split) for label in range(2)]
        for member in members
    ]
    return np.stack([np.stack(probs, axis=-1) for probs in of_members], axis=1)
