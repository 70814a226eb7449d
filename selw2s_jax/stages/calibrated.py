"""Columns of examples that are made of the labels of both models and what a calibration says of them."""

import dataclasses

import numpy as np

from selw2s_jax.data import by_id
from selw2s_jax.method import calibration as method
from selw2s_jax.method import posterior
from selw2s_jax.stages import calibration, examples


@dataclasses.dataclass(frozen=True, eq=False)
class _Calibrated(examples.Column):
    """A column for which a calibration is needed."""

    calibration: calibration.Calibrate

    @property
    def needs(self):
        return (self.calibration,)

    @property
    def inputs(self):
        return self.calibration.fit_key

    def _fitted(self, store) -> method.Fitted:
        return calibration.read(store, self.calibration)[0]


@dataclasses.dataclass(frozen=True, eq=False)
class WeakLogOdds(_Calibrated):
    """Log-odds of class 1 `[N]` by the weak labels, times the slope that was fitted."""

    labels: examples.WeakLabels

    @property
    def needs(self):
        return (*self.labels.needs, self.calibration)

    @property
    def inputs(self):
        return {"labels": self.labels.inputs, "calibration": self.calibration.fit_key}

    def read(self, split, store):
        log_odds = method.class_log_odds(self.labels.read(split, store))
        return (self._fitted(store).weak_slope * log_odds).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability(_Calibrated):
    """Probabilities that the strong model's own labels are right `[N]`, by P(IK)."""

    scores: examples.Scores

    @property
    def needs(self):
        return (*self.scores.needs, self.calibration)

    @property
    def inputs(self):
        return {"scores": self.scores.inputs, "calibration": self.calibration.fit_key}

    def read(self, split, store):
        return method.reliability(self.scores.read(split, store), self._fitted(store)).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class ConstantReliability(_Calibrated):
    """The share of right answers among those that P(IK) was calibrated on, for every row `[N]`."""

    def read(self, split, store):
        return np.full(len(split), self._fitted(store).constant_reliability, np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class PIKCalibration(_Calibrated):
    """Intercept and slope of what calibrates P(IK), for every row `[N, 2]`: a student's own scores change by step."""

    def read(self, split, store):
        fitted = self._fitted(store)
        return np.tile(np.float32([fitted.p_ik_intercept, fitted.p_ik_slope]), (len(split), 1))


@dataclasses.dataclass(frozen=True, eq=False)
class ChoiceByConfidence(examples.Column):
    """Whether the own label outweighs the weak one `[N]`, 0 or 1."""

    weak: WeakLogOdds
    reliability: Reliability

    @property
    def needs(self):
        return (*self.weak.needs, *self.reliability.needs)

    @property
    def inputs(self):
        return [self.weak.inputs, self.reliability.inputs]

    def read(self, split, store):
        decided = posterior.decides(*(column.read(split, store) for column in (self.weak, self.reliability)))
        return np.asarray(decided, np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Shuffled(examples.Column):
    """The values of another column, exchanged among the examples of the split by their ids alone."""

    column: examples.Column
    seed: int

    @property
    def needs(self):
        return self.column.needs

    @property
    def inputs(self):
        return {"shuffled": self.column.inputs, "seed": self.seed}

    def read(self, split, store):
        values = self.column.read(split, store)
        draws = [by_id.keyed_uniform(self.seed, "shuffled column", name) for name in split.ids]
        shuffled = np.empty_like(values)
        # The row that is k-th by its id gets the value of the one that is k-th by its draw.
        shuffled[np.argsort(split.ids)] = values[np.argsort(draws)]
        return shuffled
