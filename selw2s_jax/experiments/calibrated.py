"""The columns that an experiment makes of its own stages where a rule reads them: of which stages each is made."""

from collections.abc import Callable
from typing import Any

from selw2s_jax.method import registry
from selw2s_jax.stages import calibrated, examples

# (selective.Experiment, base seed) -> the column of its student's half.
Make = Callable[[Any, int], examples.Column]
MAKERS: dict[str, Make] = {}


def _makes(name: str):
    def add(make: Make) -> Make:
        MAKERS[name] = make
        return make

    return add


def _shuffled(make: Make) -> Make:
    return lambda experiment, seed: calibrated.Shuffled(
        make(experiment, seed), experiment.seed_for(seed, "sampling")
    )


@_makes("frozen_p_ik")
def _frozen_p_ik(experiment, seed):
    return examples.Scores(experiment.p_ik_scores(seed))


@_makes("weak_log_odds")
def _weak_log_odds(experiment, seed):
    return calibrated.WeakLogOdds(experiment.calibration(seed), experiment.weak_column(seed))


@_makes("reliability")
def _reliability(experiment, seed):
    return calibrated.Reliability(experiment.calibration(seed), _frozen_p_ik(experiment, seed))


@_makes("constant_reliability")
def _constant_reliability(experiment, seed):
    return calibrated.ConstantReliability(experiment.calibration(seed))


@_makes("p_ik_calibration")
def _p_ik_calibration(experiment, seed):
    return calibrated.PIKCalibration(experiment.calibration(seed))


def _choice_by_confidence(experiment, seed):
    return calibrated.ChoiceByConfidence(_weak_log_odds(experiment, seed), _reliability(experiment, seed))


MAKERS["shuffled_p_ik"] = _shuffled(_frozen_p_ik)
MAKERS["shuffled_reliability"] = _shuffled(_reliability)
MAKERS["shuffled_choice_by_confidence"] = _shuffled(_choice_by_confidence)


@_makes("weak_each")
def _weak_each(experiment, seed):
    return experiment.weak_each(seed)


MAKERS["shuffled_weak_each"] = _shuffled(_weak_each)


def _agreement(experiment, seed):
    return examples.Agreement(
        experiment.weak_each(seed), experiment.weak_column(seed), experiment.config.reliability.temperature
    )


# What examples may count for in the loss, by `registry.Method.weight`; of labels by the weak models.
WEIGHTS: dict[str, Make] = {"agreement": _agreement, "shuffled_agreement": _shuffled(_agreement)}


def weighing(experiment, seed: int, method: registry.Method) -> dict[str, examples.Column]:
    """The column of what examples of a method count for, where they do not all alike."""
    return {} if method.weight is None else {"example_weight": WEIGHTS[method.weight](experiment, seed)}
