"""Losses, label rules and methods of a user's own modules: imported by name, and tried on shapes alone."""

import importlib
import importlib.util
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from selw2s_jax import config as config_lib
from selw2s_jax import errors
from selw2s_jax.data import batches, members, tasks, written_tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import calibrated, columns, teachers
from selw2s_jax.method import (
    combinations,
    label_rules,
    label_sources,
    losses,
    method_options,
    objectives,
    registry,
    row_weights,
    selection,
)
from selw2s_jax.runtime import distributed, installed
from selw2s_jax.stages import own_code

_NUM_EXAMPLES, _EMBED_DIM = 3, 5  # of the batch that methods are tried on


def load(config: ml_collections.ConfigDict) -> None:
    """Imports the modules of `config.plugins`, which register what they hold.

    Where the config names a part that is not registered then, also those of installed packages (`runtime.installed`).

    Raises:
        UserError: a path is no import path, or its module is not there or fails when it is imported.
    """
    import_modules(config.plugins)
    for module, path in own_code.changed().items() if distributed.is_main() else ():
        print(
            f"note: {path} has changed since the module {module} was imported, and what runs is as it was: "
            "importlib.reload it, or start Python anew",
            flush=True,
        )
    if any(not set(names) <= set(known) for names, known in _named(config)):
        installed.load()


def _named(config: ml_collections.ConfigDict) -> Iterator[tuple[Iterable[str], Collection[str]]]:
    """The names of parts in a config, those of a sweep's axes too, with what is registered of each kind."""
    axes = [text.partition("=") for text in config.sweep.settings]
    for key, known in (
        ("selection.selector", selection.SELECTORS),
        ("selection.refiner", selection.REFINERS),
        ("self_label.source", (*label_sources.BUILT_IN, *label_sources.LABEL_SOURCES)),
        ("weak.combine", combinations.COMBINATIONS),
    ):
        swept = [value.strip() for name, _, values in axes if name == key for value in values.split(",")]
        yield [config_lib.get(config, key), *swept], known
    yield config.methods, [*registry.METHODS, *row_weights.ROW_WEIGHTS]
    tasks_of_run = (
        [] if config.data.train_file else [config.task, *config.sweep.tasks, *config.continual.tasks]
    )
    tasks_of_run += [] if config.p_ik.file else [config.p_ik.task]
    yield (
        map(tasks.canonical_name, [*tasks_of_run, *members.other_tasks(config)]),
        [*tasks.TASKS, *written_tasks.WRITTEN_TASKS],
    )


def import_modules(paths: Iterable[str]) -> None:
    """Imports modules of a user's own; raises as `load`."""
    for path in paths:
        if not all(part.isidentifier() for part in path.split(".")):
            raise UserError(
                f"config.plugins: {path!r} is no import path; give it as package.module, without .py"
            )
        try:
            importlib.import_module(path)
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and f"{path}.".startswith(f"{error.name}."):
                raise UserError(
                    f"config.plugins: there is no module {error.name!r}; correct the path, start where the module "
                    "lies, install it, or put its folder on PYTHONPATH"
                ) from error
            raise UserError(
                f"config.plugins: {path!r} fails when it is imported: {errors.one_line(error, with_type=True)}"
            ) from error


def check_methods(config: ml_collections.ConfigDict) -> None:
    """Traces the label rule and the loss of every method of a validated config; tries what combines weak labels.

    Raises:
        UserError: a part is not registered, cannot be made or traced, or returns another shape or dtype than
            `label_rules.Labels` and `losses.Loss` say; there is nothing to calibrate P(IK) on; or the combination
            fails on made-up labels.
    """
    for name in config.methods:
        method = registry.METHODS[name]
        for kind, wanted, known in (
            ("label rule", method.label_rule, label_rules.LABEL_RULES),
            ("loss", method.loss, losses.LOSSES),
            ("mask_of", method.mask_of or name, registry.METHODS),
            ("teacher", method.teacher, teachers.TEACHERS),
        ):
            if wanted not in known:
                raise UserError(
                    f"method {name!r} has the {kind} {wanted!r}, which is not registered: "
                    f"register it, or use one of {', '.join(sorted(known))}"
                )
        method = method_options.applied(config, name)
        try:
            objective = objectives.make_objective(config, method)
        except ValueError as error:
            raise UserError(f"method {name!r}: {error}") from error
        given = _check_columns(name, config, method)
        _check_label_rule(name, objective, {column: columns.shape(config, column) for column in given})
        _check_teacher(name, config, method)
        _check_loss(name, objective)
    _check_calibration(config)
    _check_combination(config)


def _check_calibration(config: ml_collections.ConfigDict) -> None:
    """That there are questions to calibrate on where a method weighs labels: of P(IK), and of all weak models."""
    calibrated = [
        name for name in config.methods if columns.is_calibrated(config, method_options.applied(config, name))
    ]
    if calibrated and config.p_ik.file is not None:
        raise UserError(
            f"method {calibrated[0]!r} calibrates P(IK) on held-out questions of p_ik.task, and "
            f"p_ik.file={config.p_ik.file} has none: name a task by p_ik.task, or leave out {', '.join(calibrated)}"
        )
    if calibrated and not config.p_ik.num_test:
        raise UserError(
            f"method {calibrated[0]!r} calibrates P(IK) on held-out questions, and config.p_ik.num_test is 0: "
            "set --config.p_ik.num_test=500"
        )
    is_fitted = config.calibration.weak == "crossfit"
    if calibrated and is_fitted and len({member.task for member in members.of(config)}) > 1:
        raise UserError(
            f"method {calibrated[0]!r} calibrates weak labels on questions of a task that all weak models learn, and "
            f"config.weak.members={','.join(config.weak.members)} learn different ones: set calibration.weak=none, or "
            f"leave out {', '.join(calibrated)}"
        )


_NUM_LABELS = 8  # made up, by each weak model


def _check_combination(config: ml_collections.ConfigDict) -> None:
    """That labels of several weak models can be made one, before these models are trained."""
    num_models = len(members.of(config))
    if num_models < 2 or registry.is_p_ik_alone(config.methods):
        return
    made_up = (
        np.arange(_NUM_LABELS * num_models, dtype=np.float32).reshape(_NUM_LABELS, num_models) % 5 / 5 + 0.1
    )
    try:
        combinations.combine(config.weak.combine, np.stack([1 - made_up, made_up], axis=-1))
    except ValueError as error:
        raise UserError(f"config.weak.combine: {error}") from error


_OF_WEAK_LABELS = ("weak_log_odds", "shuffled_choice_by_confidence")  # columns that are made of them


def _check_teacher(name: str, config: ml_collections.ConfigDict, method: registry.Method) -> None:
    """That what a method has besides its labels is of the same labels and rows."""
    if method.mask_of is not None and registry.METHODS[method.mask_of].teacher != method.teacher:
        raise UserError(
            f"method {name!r} has the teacher {method.teacher!r} and the masks of {method.mask_of!r}, which has "
            f"another, {registry.METHODS[method.mask_of].teacher!r}: give both the same"
        )
    if method.weight is not None and method.weight not in calibrated.WEIGHTS:
        raise UserError(
            f"method {name!r} has weight={method.weight!r}, which is none of: {', '.join(calibrated.WEIGHTS)}"
        )
    of_weak = [] if method.weight is None else [method.weight]
    of_weak += [
        one for one in columns.carried(config, method).get(batches.TASK, ()) if one in _OF_WEAK_LABELS
    ]
    if method.teacher != teachers.WEAK and of_weak:
        raise UserError(
            f"method {name!r} has the teacher {method.teacher!r} and reads the column {of_weak[0]!r}, which is of "
            "labels by the weak model: leave out one of the two"
        )


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


_MASK = jax.ShapeDtypeStruct((_NUM_EXAMPLES,), jnp.bool_)
_PER_EXAMPLE = _float32(_NUM_EXAMPLES)
_PER_CLASS = _float32(_NUM_EXAMPLES, 2)


def _check_columns(name: str, config: ml_collections.ConfigDict, method: registry.Method) -> tuple[str, ...]:
    """The columns that the label rule of a method is given, once it is sure that they hold what it reads."""
    objective = objectives.make_objective(config, method)
    role = f"label rule {objective.label_rule!r} of method {name!r}"
    try:
        read = columns.read_by(objective)
    except KeyError as error:  # a selector or refiner of the method's own options
        raise UserError(f"{role}: {error.args[0]}") from error
    except Exception as error:
        raise UserError(
            f"{role} does not say which columns it reads: {errors.one_line(error, with_type=True)}"
        ) from error
    # Without a task no rule is asked.
    there = columns.carried(config, method).get(batches.TASK, tuple(columns.COLUMNS))
    for column in (*read, *method.columns):
        if column not in there:
            remedy = _REMEDIES.get(column, "register a function that makes it (experiments.columns)")
            raise UserError(f"{role} is to have the column {column!r}, which nothing makes for it: {remedy}")
    return tuple(dict.fromkeys((*read, *there)))


_REMEDIES = {
    "self_labels": "give the method uses_self_labels=True",
    "given_p_ik": "give the method mask_of, or uses_p_ik=True with config.p_ik.mask that is not online",
    **dict.fromkeys(
        (*columns.CALIBRATED, *columns.FROZEN),
        "choose a method that has it, as selective_by_confidence, or give this one uses_p_ik=True and "
        "p_ik_from='frozen'",
    ),
}


class _Given(dict[str, jax.Array]):
    """Columns that a label rule is given."""

    def __missing__(self, name: str):
        raise UserError(
            f"it reads the column {name!r} and does not say so: register it with reads=(..., {name!r})"
        )


# A pytree as any dict is one: a rule may map over its inputs, or be jitted.
jax.tree_util.register_pytree_node(
    _Given,
    lambda columns: (tuple(columns.values()), tuple(columns)),
    lambda names, values: _Given(zip(names, values, strict=True)),
)


def _check_label_rule(name: str, objective: objectives.Objective, given: dict[str, tuple[int, ...]]) -> None:
    role = f"label rule {objective.label_rule!r} of method {name!r}"
    options = dict(objective.rule_options)
    inputs = label_rules.RuleInputs(
        class_logits=_PER_CLASS,
        p_ik=_PER_EXAMPLE,
        embeddings=_float32(_NUM_EXAMPLES, _EMBED_DIM),
        columns={column: _float32(_NUM_EXAMPLES, *shape) for column, shape in given.items()},
        example_mask=_MASK,
        step_fraction=_float32(),
    )

    def start():
        return label_rules.with_state(label_rules.get(objective.label_rule, **options)).init(given)

    def label(inputs: label_rules.RuleInputs, state: Any) -> tuple[label_rules.Labels, Any]:
        inputs = inputs._replace(columns=_Given(inputs.columns))
        return label_rules.with_state(label_rules.get(objective.label_rule, **options)).label(inputs, state)

    state = _trace(role, start)
    found = _trace(role, label, inputs, state)
    if not isinstance(found, tuple) or len(found) != 2:
        raise UserError(f"{role} returns {_describe(found)}: with a state return (label_rules.Labels, state)")
    labels, next_state = found
    if not isinstance(labels, label_rules.Labels):
        raise UserError(f"{role} returns {_describe(labels)}: return label_rules.Labels")
    _check_state(role, state, next_state)
    expected = {"targets": _PER_CLASS, "prior": _PER_CLASS, "ik_mask": _MASK, "p_ik": _PER_EXAMPLE}
    if labels.in_loss is not None:
        expected["in_loss"] = _MASK
    for field, shape in expected.items():
        _check_array(f"{role}: {field}", getattr(labels, field), shape)
    if not isinstance(labels.metrics, dict):
        raise UserError(f"{role}: metrics is {_describe(labels.metrics)}: make it a dict of scalars by name")
    for key, value in labels.metrics.items():
        if getattr(value, "shape", None) != ():
            raise UserError(f"{role}: metrics[{key!r}] is {_describe(value)}: make it a scalar")


def _check_state(role: str, first: Any, following: Any) -> None:
    if jax.tree.structure(first) != jax.tree.structure(following):
        raise UserError(f"{role} starts from another kind of state than it returns: keep its structure")
    for old, new in zip(jax.tree.leaves(first), jax.tree.leaves(following), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise UserError(
                f"{role} makes {_describe(new)} of {_describe(old)} in its state: keep shape and dtype"
            )


def _check_loss(name: str, objective: objectives.Objective) -> None:
    role = f"loss {objective.loss!r} of method {name!r}"
    options = dict(objective.loss_options)
    values = _trace(
        role,
        lambda *arrays: losses.get(objective.loss, **options)(*arrays),
        *(_PER_CLASS, _PER_CLASS, _float32(), _MASK),
    )
    _check_array(role, values, _PER_EXAMPLE)


def _trace(role: str, function: Callable[..., Any], *arrays: Any) -> Any:
    try:
        return jax.eval_shape(function, *arrays)
    except UserError as error:
        raise UserError(f"{role}: {error}") from error
    except Exception as error:
        raise UserError(
            f"{role} fails on a batch of {_NUM_EXAMPLES} examples: {errors.one_line(error, with_type=True)}"
        ) from error


def _check_array(what: str, found: Any, expected: jax.ShapeDtypeStruct) -> None:
    if not isinstance(found, jax.ShapeDtypeStruct) or (found.shape, found.dtype) != (
        expected.shape,
        expected.dtype,
    ):
        raise UserError(
            f"{what} is {_describe(found)} on a batch of {_NUM_EXAMPLES} examples: make it {_describe(expected)}"
        )


def _describe(value: Any) -> str:
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    return f"a {type(value).__name__}"
