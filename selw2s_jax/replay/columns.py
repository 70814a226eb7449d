"""The columns of a student's examples under other settings than those of its run."""

import dataclasses
from typing import Any

import ml_collections
import numpy as np
from scipy import special

from selw2s_jax.data import batches
from selw2s_jax.experiments import neighbours
from selw2s_jax.replay import settings
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import calibrated, embed, examples, smoothed
from selw2s_jax.stages import stage as stage_lib


@dataclasses.dataclass(frozen=True, eq=False)
class _Divided(examples.Column):
    """Another column, its log-odds divided by a temperature that is not 1.

    Attributes:
        is_probability: whether its values are probabilities; else they are log-odds, or proportional to these.
    """

    column: examples.Column
    temperature: float
    is_probability: bool

    @property
    def inputs(self) -> Any:
        return {"divided": self.column.inputs, "by": self.temperature}

    def read(self, split, store):
        values = self.column.read(split, store).astype(np.float64)
        if self.is_probability:
            return special.expit(special.logit(values) / self.temperature).astype(np.float32)
        return (values / self.temperature).astype(np.float32)


def tempered(column: examples.Column, own: float, weak: float) -> examples.Column:
    """A column with the calibrated log-odds that it is made of divided by temperatures.

    Args:
        own: of self labels.
        weak: of weak labels.
    """
    if isinstance(column, calibrated.Shuffled):
        return dataclasses.replace(column, column=tempered(column.column, own, weak))
    if isinstance(column, calibrated.ChoiceByConfidence):
        return dataclasses.replace(
            column,
            weak=tempered(column.weak, own, weak),
            reliability=tempered(column.reliability, own, weak),
        )
    temperature = weak if isinstance(column, calibrated.WeakLogOdds) else own
    is_probability = isinstance(column, calibrated.Reliability | calibrated.ConstantReliability)
    is_log_odds = isinstance(column, calibrated.WeakLogOdds | calibrated.PIKCalibration)
    # At 1 the very numbers of the run, which a way to log-odds and back would round.
    if temperature == 1 or not (is_probability or is_log_odds):
        return column
    return _Divided(column, temperature, is_probability)


class Reader:
    """Reads columns of a run, each of the means of neighbours once.

    Args:
        config: of the run.
        store: its artifacts.
    """

    def __init__(self, config: ml_collections.ConfigDict, store: artifacts.Store):
        self._config, self._store = config, store
        self._means: dict[str, np.ndarray] = {}

    def read(self, student: Any, setting: settings.Setting) -> dict[str, np.ndarray]:
        """Those that are known before training, by name, `[N, ...]` in the order of the student's half.

        Args:
            student: a `students.Student`.
        """
        named = student.stage.task.columns
        fixed = {
            name: tempered(column, *setting.temperatures)
            for name, column in named.items()
            if not isinstance(column, smoothed.Neighbours) and not column.by_step
        }
        values = {name: column.read(student.half, self._store) for name, column in fixed.items()}
        for name, column in named.items():
            if isinstance(column, smoothed.Neighbours):
                by_step = {other: one for other, one in named.items() if one.by_step}
                others = {
                    other: one for other, one in (fixed | by_step).items() if other != batches.EMBEDDINGS
                }
                again = neighbours.column(
                    setting.applied(self._config),
                    student.seed,
                    student.name,
                    student.half,
                    others,
                    column.means.embedded,
                )
                values[name] = self._mean(again.means)
        return values

    def _mean(self, means: smoothed.Means) -> np.ndarray:
        """The mean labels `[N, 2]`: as the run has them, or worked out."""
        if stage_lib.find(self._store, means) is not None:
            return smoothed.Neighbours(means).read(means.split, self._store)
        if means.key not in self._means:
            embeddings = embed.read(self._store, (means.embedded,), means.split)
            prior = means.prior.read(means.split, self._store)
            self._means[means.key] = smoothed.mean_of_neighbours(embeddings, prior, **means.graph)
        return self._means[means.key]
