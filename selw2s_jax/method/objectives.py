"""What a method asks of the train step, with the config's values for the options that it leaves open."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

from selw2s_jax.method import factories, label_rules, losses, registry, selection


class Objective(NamedTuple):
    """What a method asks of the step; hashable, and all that the method adds to a stage's inputs."""

    label_rule: str  # name in label_rules.LABEL_RULES
    rule_options: tuple[tuple[str, Any], ...]
    loss: str  # name in losses.LOSSES
    loss_options: tuple[tuple[str, Any], ...]
    task_weight: float
    p_ik_weight: float  # lambda of Eq. 4


# What `p_ik.stage` and `p_ik.mask` of a config may be.
P_IK_STAGES = ("joint", "pretrain_then_joint", "frozen")
P_IK_MASKS = ("online", "frozen_scores", "file")


def is_own_task(config: ml_collections.ConfigDict) -> bool:
    """Whether P(IK) is trained on the task that the run tests on."""
    section = config.p_ik
    # A user's file is another data set than a task of its name, unless there is no student that must not see it.
    is_same_data = config.data.train_file is None or registry.is_p_ik_alone(config.methods)
    return section.file is None and section.task == config.task and is_same_data


def trains_p_ik(config: ml_collections.ConfigDict, method: registry.Method) -> bool:
    """Whether a student has a P(IK) head and P(IK) examples of its own; P(IK) alone always has."""
    if not method.uses_p_ik or method.p_ik_from == "frozen":
        return False
    return method.task_weight == 0 or method.p_ik_from == "online" or config.p_ik.stage != "frozen"


def takes_given_scores(config: ml_collections.ConfigDict, method: registry.Method) -> bool:
    """Whether a student is given the scores that `p_ik.mask` of the config names."""
    return method.uses_p_ik and method.p_ik_from == "config" and config.p_ik.mask != "online"


def needs_p_ik_data(config: ml_collections.ConfigDict) -> bool:
    """Whether P(IK) is trained at all, rather than read from a file."""
    methods = [registry.METHODS[name] for name in config.methods]
    return any(trains_p_ik(config, method) or is_scored_first(config, method) for method in methods)


def is_scored_first(config: ml_collections.ConfigDict, method: registry.Method) -> bool:
    """Whether P(IK) of a student's examples comes from a model that the run trains on P(IK) first."""
    if method.p_ik_from == "config":
        return takes_given_scores(config, method) and config.p_ik.mask == "frozen_scores"
    return method.uses_p_ik


# Parts of a label rule that the config names; each has options of its own.
RULE_PARTS = {
    "selector": selection.SELECTORS,
    "refiner": selection.REFINERS,
    "refiner_of_set": selection.REFINERS,  # of rules that smooth over the whole set alone
}


def make_objective(config: ml_collections.ConfigDict, method: registry.Method) -> Objective:
    """The method with the config's values for those options of its label rule and loss that it leaves open.

    Args:
        method: as `method_options.applied` gives it, with what the config says of this method alone.

    Raises:
        ValueError: an option without a default has no value, or a factory names a section that is not there.
    """
    if method.task_weight == 0:
        p_ik_weight = 1.0  # alone, there is nothing to weigh it against
    else:
        p_ik_weight = config.p_ik.weight if trains_p_ik(config, method) else 0.0
    return Objective(
        label_rule=method.label_rule,
        rule_options=_bind(config, label_rules.LABEL_RULES, method.label_rule, method.rule_options),
        loss=method.loss,
        loss_options=_bind(config, losses.LOSSES, method.loss, method.loss_options),
        task_weight=method.task_weight,
        p_ik_weight=p_ik_weight,
    )


def _bind(
    config: ml_collections.ConfigDict, known: factories.Registry, name: str, own: Mapping[str, Any]
) -> tuple[tuple[str, Any], ...]:
    """Options of a factory and of the parts that it names: the method's own, and the config's for the others."""
    options = {**values(config, known, name), **own}
    for part, parts in RULE_PARTS.items():
        if part in options:
            options = values(config, parts, options[part]) | options
    required = known.required_names(name).union(
        *(parts.required_names(options[part]) for part, parts in RULE_PARTS.items() if part in options)
    )
    if missing := sorted(required - options.keys()):
        offering = ", ".join(f"config.{section}" for section in known.sections(name)) or "the config"
        raise ValueError(
            f"{known.kind} {name!r} needs {', '.join(missing)}, and {offering} has none for it: "
            "give a default, or a value in the options of the method"
        )
    return tuple(sorted(options.items()))


def values(config: ml_collections.ConfigDict, known: factories.Registry, name: str) -> dict[str, Any]:
    """The config's values for those options that a factory names, from the sections that it is registered with.

    Raises:
        ValueError: one of the sections is not there.
    """
    found: dict[str, Any] = {}
    for section in known.sections(name):
        if section not in config or not isinstance(config[section], ml_collections.ConfigDict):
            raise ValueError(
                f"{known.kind} {name!r} takes options from config.{section}, and there is no such section"
            )
        found |= _options_of_section(config, section)
    wanted = known.option_names(name)
    return {key: value for key, value in found.items() if key in wanted}


def _options_of_section(config: ml_collections.ConfigDict, section: str) -> dict[str, Any]:
    """The options that a section holds: its keys, or what these mean for a label rule."""
    if section == "p_ik":
        return {"gamma": config.p_ik.gamma, "mask": "online" if config.p_ik.mask == "online" else "given"}
    if section == "self_label":
        return {"self_label": "class_head" if config.self_label.source == "class_head" else "given"}
    options = config[section].to_dict()
    # Keys that came later: at their defaults they are not named, so that older artifacts are still found.
    if section == "graph" and options["over"] == "batch":
        del options["over"]
    if section == "selection" and config.graph.over == "set":
        options["refiner_of_set"] = options["refiner"]
    return options


# Options of label rules and their parts that keys of other names say; of the sections of these, else gamma alone.
_KEYS = {
    "gamma": "p_ik.gamma",
    "mask": "p_ik.mask",
    "self_label": "self_label.source",
    "refiner_of_set": "selection.refiner",
}


def key_of(
    config: ml_collections.ConfigDict, known: factories.Registry, name: str, option: str
) -> str | None:
    """The key of the config that says an option of a factory, None where none does."""
    key, sections = _KEYS.get(option), known.sections(name)
    for section in sections:
        if section not in ("p_ik", "self_label") and option in config.get(section, ()):
            key = f"{section}.{option}"
    return key if key is not None and key.partition(".")[0] in sections else None


def without_smoothing(objective: Objective) -> Objective | None:
    """The same with labels as they are before they are smoothed; None where these are not known before training.

    They are where the rule looks at no output of the model in training: which is known of those of this package.
    """
    options = dict(objective.rule_options)
    if objective.label_rule not in ("selective", "posterior"):
        return None
    selector = options.get("selector", "threshold")
    if selector not in ("threshold", "by_confidence", "by_disagreement"):
        return None
    reads_head = options.get("mask") == "online" and selector != "by_disagreement"  # which looks at no P(IK)
    if reads_head or options.get("self_label") == "class_head":
        return None
    options |= {part: "none" for part in ("refiner", "refiner_of_set") if part in options}
    return objective._replace(rule_options=tuple(sorted(options.items())))


def rule_parts(objective: Objective) -> dict[str, Callable]:
    """The factories that a label rule takes by name."""
    options = dict(objective.rule_options)
    return {part: known[options[part]] for part, known in RULE_PARTS.items() if part in options}
