"""The settings that labels are replayed under, and which of them a method's labels depend on."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import columns
from selw2s_jax.method import method_options, objectives

_MOST = 500  # settings of one replay


class _Axis(NamedTuple):
    """A number that can be set.

    Attributes:
        key: of the config; None of what is no key of it, as a run has no temperature but 1.
        is_allowed: what it may be.
        range: the same in words.
        heading: in tables.
        meaning: in a line.
        columns: of the examples which it changes.
    """

    key: str | None
    is_allowed: Callable[[float], bool]
    range: str
    heading: str
    meaning: str
    columns: tuple[str, ...] = ()


AXES: dict[str, _Axis] = {
    "gamma": _Axis(
        "p_ik.gamma",
        lambda v: 0 <= v <= 1,
        "from 0 to 1",
        "gamma",
        "P(IK) above which the self label is taken",
    ),
    "alpha": _Axis(
        "graph.alpha",
        lambda v: 0 <= v <= 1,
        "from 0 to 1",
        "alpha",
        "weight of a row's own label in smoothing",
    ),
    "tau": _Axis(
        "graph.tau", lambda v: v > 0, "above 0", "tau", "temperature of the graph that smooths labels"
    ),
    "temperature": _Axis(
        None,
        lambda v: v > 0,
        "above 0",
        "T",
        "what the calibrated log-odds that self labels are right are divided by; 1 in the run",
        (
            "reliability",
            "shuffled_reliability",
            "constant_reliability",
            "p_ik_calibration",
            "shuffled_choice_by_confidence",
        ),
    ),
    "weak_temperature": _Axis(
        None,
        lambda v: v > 0,
        "above 0",
        "weak T",
        "what the calibrated log-odds of weak labels are divided by; 1 in the run",
        ("weak_log_odds", "shuffled_choice_by_confidence"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A value for each of `AXES`."""

    gamma: float
    alpha: float
    tau: float
    temperature: float = 1.0
    weak_temperature: float = 1.0

    @classmethod
    def of_run(cls, config: ml_collections.ConfigDict) -> "Setting":
        """Those that a run had."""
        return cls(
            **{name: float(config_lib.get(config, axis.key)) for name, axis in AXES.items() if axis.key}
        )

    def applied(self, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
        """A config with these values."""
        changed = config.copy_and_resolve_references()
        for name, axis in AXES.items():
            if axis.key:
                config_lib.put(changed, axis.key, getattr(self, name))
        return changed

    @property
    def temperatures(self) -> tuple[float, float]:
        """Of self labels and of weak ones."""
        return self.temperature, self.weak_temperature


def parse(name: str, text: str | None) -> tuple[float, ...]:
    """The values of a flag, as `0.5,0.7`, each once and in order; none where it is not given.

    Raises:
        UserError: they are no numbers that the setting may have.
    """
    if text is None:
        return ()
    axis = AXES[name]
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) and axis.is_allowed(value) for value in values):
        raise UserError(f"--{name}={text} must be numbers {axis.range}, as 0.5,0.7")
    return tuple(sorted(set(values)))


def grid(own: Setting, values: Mapping[str, Sequence[float]]) -> list[Setting]:
    """Every combination of the values given and the run's own; of what is not given the run's own alone.

    Raises:
        UserError: they are too many.
    """
    by_axis = [
        sorted({*values.get(field.name, ()), getattr(own, field.name)}) for field in dataclasses.fields(own)
    ]
    if (number := math.prod(map(len, by_axis))) > _MOST:
        raise UserError(
            f"{number} combinations of settings are more than {_MOST}: give fewer values, or several commands"
        )
    return [Setting(*combination) for combination in itertools.product(*by_axis)]


def read_by(config: ml_collections.ConfigDict, name: str) -> set[str]:
    """The settings that the training labels of a method depend on."""
    method = method_options.applied(config, name)
    if method.task_weight == 0:
        return set()
    options = dict(objectives.make_objective(config, method).rule_options)
    carried = columns.carried(config, method)[batches.TASK]
    found = {
        axis
        for axis, one in AXES.items()
        if (axis in options and axis not in method.rule_options) or not {*one.columns}.isdisjoint(carried)
    }
    # Its masks are those of another method.
    return found if method.mask_of is None else found | (read_by(config, method.mask_of) & {"gamma"})


def of_method(config: ml_collections.ConfigDict, name: str, chosen: Iterable[Setting]) -> list[Setting]:
    """Of these settings those that a method's labels tell apart, with the run's own for what they do not depend on."""
    own, read = Setting.of_run(config), read_by(config, name)
    others = {axis: getattr(own, axis) for axis in AXES if axis not in read}
    return list(dict.fromkeys(dataclasses.replace(setting, **others) for setting in chosen))
