"""What a method asks of the train step, with the config's values for the options that it leaves open."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections

from selw2s_jax.method import label_rules, losses, registry, selection


class Objective(NamedTuple):
    """What a method asks of the step; hashable, and all that the method adds to a stage's inputs."""

    label_rule: str  # name in label_rules.LABEL_RULES
    rule_options: tuple[tuple[str, Any], ...]
    loss: str  # name in losses.LOSSES
    loss_options: tuple[tuple[str, Any], ...]
    task_weight: float
    p_ik_weight: float  # lambda of Eq. 4


def is_own_task(config: ml_collections.ConfigDict) -> bool:
    """Whether P(IK) is trained on the task that the run tests on."""
    section = config.p_ik
    # A user's file is another data set than a task of its name, unless there is no student that must not see it.
    is_same_data = config.data.train_file is None or registry.is_p_ik_alone(config.methods)
    return section.file is None and section.task == config.task and is_same_data


def trains_p_ik(config: ml_collections.ConfigDict, method: registry.Method) -> bool:
    """Whether a student has a P(IK) head and P(IK) examples of its own; P(IK) alone always has."""
    return method.uses_p_ik and (method.task_weight == 0 or config.p_ik.stage != "frozen")


def needs_p_ik_data(config: ml_collections.ConfigDict) -> bool:
    """Whether P(IK) is trained at all, rather than read from a file."""
    methods = [registry.METHODS[name] for name in config.methods]
    scored_by_model = config.p_ik.mask == "frozen_scores"
    return any(trains_p_ik(config, method) or (method.uses_p_ik and scored_by_model) for method in methods)


# Parts of a label rule that the config names; each has options of its own.
_RULE_PARTS = {"selector": selection.SELECTORS, "refiner": selection.REFINERS}


def make_objective(config: ml_collections.ConfigDict, method: registry.Method) -> Objective:
    """The method with the config's values for those options of its label rule and loss that it leaves open."""
    for_rules = {
        "gamma": config.p_ik.gamma,
        "mask": "online" if config.p_ik.mask == "online" else "given",
        "self_label": "class_head" if config.self_label.source == "class_head" else "given",
        **config.selection.to_dict(),
        **config.graph.to_dict(),
    }
    for_losses = {"openai_ramp": config.compat.openai_ramp, **config.loss.to_dict()}

    def options_of(factory, available, own) -> tuple[tuple[str, Any], ...]:
        wanted = set(inspect.signature(factory).parameters)
        for part, known in _RULE_PARTS.items():
            if part in wanted:
                wanted |= known.option_names((available | own)[part])
        from_config = {name: value for name, value in available.items() if name in wanted}
        return tuple(sorted((from_config | own).items()))

    if method.task_weight == 0:
        p_ik_weight = 1.0  # alone, there is nothing to weigh it against
    else:
        p_ik_weight = config.p_ik.weight if trains_p_ik(config, method) else 0.0
    return Objective(
        label_rule=method.label_rule,
        rule_options=options_of(label_rules.LABEL_RULES[method.label_rule], for_rules, method.rule_options),
        loss=method.loss,
        loss_options=options_of(losses.LOSSES[method.loss], for_losses, method.loss_options),
        task_weight=method.task_weight,
        p_ik_weight=p_ik_weight,
    )


def rule_parts(objective: Objective) -> dict[str, Callable]:
    """The factories that a label rule takes by name."""
    options = dict(objective.rule_options)
    return {part: known[options[part]] for part, known in _RULE_PARTS.items() if part in options}
