"""The columns of training examples: their shapes, who makes them, and which of them a method's examples carry.

A batch carries whatever columns its examples have (`data.batches`); a label rule, a selector or a refiner names those
that it reads. What ties the two is here, so that a new column needs nothing but a function that makes it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import ml_collections
import numpy as np

from selw2s_jax import errors
from selw2s_jax.data import batches, by_id, members, splits
from selw2s_jax.errors import UserError
from selw2s_jax.method import label_rules, objectives, registering, registry
from selw2s_jax.stages import column

# (example_ids, classifier inputs, seed) -> values [N, ...]; never ground truth.
Maker = Callable[[Sequence[str], Sequence[str], int], np.ndarray]


class Column(NamedTuple):
    """Values of examples.

    Attributes:
        shape: of one example's; a name in it stands for a size of `SIZES`.
        make: makes them from the examples' texts alone; None where the experiment makes them of its own stages.
    """

    shape: tuple[int | str, ...] = ()
    make: Maker | None = None


# Sizes that a config says, by name.
SIZES: dict[str, Callable[[ml_collections.ConfigDict], int]] = {
    "members": lambda config: len(members.of(config)),  # weak models that label together
}
COLUMNS: dict[str, Column] = {
    "weak_probs": Column((2,)),  # soft labels of the weak model, or the truth where that is trained on
    "self_labels": Column(),  # the strong model's own labels, probabilities of class 1
    "given_p_ik": Column(),  # P(IK) of an earlier model or a file
    "ik_target": Column(),  # of P(IK) examples: how often the strong model's answers are right
    "example_weight": Column(),  # what an example counts for in the loss
}
# Of the task's examples, those that the experiment makes of its own stages where the rule of a method with
# `registry.Method.p_ik_from` reads them (`experiments.calibrated` says how): of a calibration, and of P(IK) alone.
CALIBRATED = {
    "weak_log_odds": Column(),  # of class 1, as the weak label says, calibrated
    "reliability": Column(),  # of the strong model's own label: calibrated P(IK) of a model that was trained first
    "shuffled_reliability": Column(),  # the same shuffled among the examples
    "constant_reliability": Column(),  # one number: the share of its answers that are right
    "shuffled_choice_by_confidence": Column(),  # 1 where the own label would be taken, shuffled
    "p_ik_calibration": Column((2,)),  # intercept and slope of what calibrates P(IK), the same for all
}
FROZEN = {
    "frozen_p_ik": Column(),  # P(IK) of a model that was trained first
    "shuffled_p_ik": Column(),  # the same shuffled among the examples
}
NEIGHBOURS = (
    "neighbours"  # the mean label of a row's neighbours in the whole set; of any method whose rule reads it
)
WEAK_EACH = "weak_each"  # soft labels of each member of the weak model; of any method whose rule reads it
OF_MEMBERS = {
    WEAK_EACH: Column(("members", 2)),
    "shuffled_weak_each": Column(("members", 2)),  # the same shuffled among the examples
}
COLUMNS |= CALIBRATED | FROZEN | OF_MEMBERS | {NEIGHBOURS: Column((2,))}
_BUILT_IN = tuple(COLUMNS)  # and what no function makes: its shape is known
_OF_THE_EXPERIMENT = (
    *("weak_probs", "self_labels", "given_p_ik", "ik_target", batches.EMBEDDINGS),
    *CALIBRATED,
    *FROZEN,
    *OF_MEMBERS,
    NEIGHBOURS,
)


def register(name: str, shape: tuple[int, ...] = ()):
    """Registers the function that makes a column of the task's training examples; a decorator.

    Args:
        shape: of one example's values.

    Raises:
        ValueError: the name is taken, or is known with another shape, or the shape is none.
    """

    if not isinstance(shape, tuple) or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"shape={shape!r} of the column {name!r}: give a tuple of sizes, () for one number")

    def add(make: Maker) -> Maker:
        known = COLUMNS.get(name, Column(shape))
        if name in _OF_THE_EXPERIMENT:
            raise ValueError(f"the column {name!r} is made already")
        registering.claim("column", name, is_taken=known.make is not None)
        if known.shape != shape and name in _BUILT_IN:
            raise ValueError(f"the column {name!r} is of shape {known.shape} for each example, not {shape}")
        COLUMNS[name] = Column(shape, make)
        return make

    return add


@register("shuffled_order")
def _make_shuffled_order(ids: Sequence[str], texts: Sequence[str], seed: int) -> np.ndarray:
    """Draws that put the rows of any batch in a random order."""
    return np.array([by_id.keyed_uniform(seed, "shuffled order", name) for name in ids])


def stage(name: str, split: splits.Split, seed: int) -> column.Column:
    """The stage that makes a column of a split."""
    shape, make = COLUMNS[name]
    return column.Column(f"column {name}, seed {seed}", name, shape, make, made, split, seed)


def made(name: str, ids: Sequence[str], texts: Sequence[str], seed: int) -> np.ndarray:
    """A column by its registered function, checked: `[N, *shape]` float32, finite.

    Raises:
        UserError: the function fails, or returns something else.
    """
    shape, make = COLUMNS[name]
    try:
        values = np.asarray(make(ids, texts, seed), np.float32)
    except Exception as error:
        reason = errors.one_line(error, with_type=True)
        raise UserError(f"column {name!r} fails on {len(ids)} examples: {reason}") from error
    if values.shape != (len(ids), *shape):
        raise UserError(
            f"column {name!r} is of shape {values.shape} for {len(ids)} examples: return {(len(ids), *shape)}"
        )
    wrong = np.flatnonzero(~np.isfinite(values.reshape(len(ids), -1)).all(axis=1))
    if wrong.size:
        raise UserError(f"column {name!r} is not finite for {ids[wrong[0]]}: return finite numbers")
    return values


def read_by(objective: objectives.Objective) -> tuple[str, ...]:
    """The columns that the label rule of an objective reads."""
    return label_rules.reads(objective.label_rule, dict(objective.rule_options))


def carried(config: ml_collections.ConfigDict, method: registry.Method) -> dict[int, tuple[str, ...]]:
    """The columns of the examples of each kind that a method is trained on."""
    kinds = {}
    if method.task_weight > 0:
        names = ["weak_probs"]
        if method.uses_self_labels:
            names.append("self_labels")
        if method.mask_of is not None or objectives.takes_given_scores(config, method):
            names.append("given_p_ik")
        read = (*read_by(objectives.make_objective(config, method)), *method.columns)
        made = {NEIGHBOURS, *OF_MEMBERS} | {
            name for name, column in COLUMNS.items() if column.make is not None
        }
        if method.p_ik_from != "config":
            made |= CALIBRATED.keys() | FROZEN.keys()
        names += [name for name in read if name in made]
        if method.weight is not None:
            names.append("example_weight")
        kinds[batches.TASK] = tuple(names)
    if objectives.trains_p_ik(config, method):
        kinds[batches.P_IK] = ("ik_target",)
    return kinds


def is_calibrated(config: ml_collections.ConfigDict, method: registry.Method) -> bool:
    """Whether a method's examples carry a column that a calibration makes."""
    return not CALIBRATED.keys().isdisjoint(carried(config, method).get(batches.TASK, ()))


def shape(config: ml_collections.ConfigDict, name: str) -> tuple[int, ...]:
    """The shape of one example's values of a column, in a run of the config."""
    return tuple(SIZES[size](config) if isinstance(size, str) else size for size in COLUMNS[name].shape)


def random(shape: tuple[int, ...], num_examples: int, generator: np.random.Generator) -> np.ndarray:
    """Made-up values of a column, `[num_examples, *shape]` float32 in [0, 1); those of two classes add up to 1.

    Args:
        shape: of one example's values.
    """
    if shape[-1:] == (2,):
        probs = generator.random((num_examples, *shape[:-1]), np.float32)
        return np.stack([1 - probs, probs], axis=-1)
    return generator.random((num_examples, *shape), np.float32)
