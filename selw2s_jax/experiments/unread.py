"""Values of a config that its run reads nowhere: those that are meant for something are refused, others noted."""

from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches, members, tasks, variation_plans
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import columns, teachers
from selw2s_jax.method import (
    label_rules,
    label_sources,
    losses,
    method_options,
    objectives,
    registry,
    row_weights,
)
from selw2s_jax.runtime import installed
from selw2s_jax.worlds import smoke, world, written_world


def check(configs: Sequence[ml_collections.ConfigDict]) -> list[str]:
    """Looks for values that none of the runs of a sweep reads.

    A value counts where it is another than by default. One that says what a run is to be made of is refused; one that
    goes with some methods or trainings, which are compared, and not with those of the run is noted, unless it is that
    of smoke or world settings, which are for any methods.

    Args:
        configs: of the runs, each validated.

    Returns:
        The notes.

    Raises:
        UserError: the first value that is refused.
    """
    unread = [_unread(config) for config in configs]
    common = [key for key in unread[0] if all(key in of_one for of_one in unread)]
    usual, notes = _usual_values(), []
    for key in common:
        values = [config_lib.get(config, key) for config in configs]
        changed = [value for value in values if value != usual[0][key]]
        if not changed:
            continue
        reason, is_refused = unread[0][key]
        if is_refused:
            raise UserError(f"config.{key}={_in_one_line(changed[0])} is read by nothing: {reason}")
        unusual = [value for value in changed if value not in [of_kind[key] for of_kind in usual]]
        notes += [f"config.{key}={_in_one_line(unusual[0])} is read by nothing: {reason}"] if unusual else []
    return notes + _of_methods_that_are_not_run(configs)


def _of_methods_that_are_not_run(configs: Sequence[ml_collections.ConfigDict]) -> list[str]:
    """Notes on `method_options` of methods that are none of the run's."""
    given = dict.fromkeys(name for config in configs for name in config.method_options)
    run = {name for config in configs for name in config.methods}
    reason = "is read by nothing: it is not among the methods of the run"
    return [f"config.method_options.{name} {reason}" for name in given if name not in run]


def _in_one_line(value: Any) -> str:
    return " ".join(str(value).split())


def _usual_values() -> list[dict[str, Any]]:
    """The default of every key, and what it is in toy runs and in generated worlds."""
    kinds = []
    for change in (
        lambda config: None,
        lambda config: config_lib.smoke_settings(config, weak="", strong=""),
        config_lib.world_settings,
        config_lib.correlated_world,
        written_world.settings,
    ):
        config = config_lib.default_config()
        change(config)
        kinds.append({key: config_lib.get(config, key) for key in config_lib.dotted_keys(config)})
    return kinds


def _unread(config: ml_collections.ConfigDict) -> dict[str, tuple[str, bool]]:
    """For each key that the run of a config does not read why, and whether a value of it is refused."""
    found: dict[str, tuple[str, bool]] = {}
    for is_refused, rules in _RULES[config.supervision](config):
        for names, is_read, reason in rules:
            for key in () if is_read else _keys(config, names):
                found.setdefault(key, (reason, is_refused))
    return found


# Keys, or sections, by dotted name; whether they are read; why not.
_Rule = tuple[tuple[str, ...], bool, str]


def _keys(config: ml_collections.ConfigDict, names: Sequence[str]) -> list[str]:
    every = config_lib.dotted_keys(config)
    return [key for name in names for key in every if key == name or key.startswith(f"{name}.")]


def _methods(config: ml_collections.ConfigDict) -> list[registry.Method]:
    return [method_options.applied(config, name) for name in config.methods]


def _trained(config: ml_collections.ConfigDict) -> set[str]:
    """What is trained of the models of the run."""
    roles = ("strong",) if registry.is_p_ik_alone(config.methods) else ("weak", "strong")
    return {config[role].trained or config.training.trained for role in roles}


def _of_class_head(config: ml_collections.ConfigDict) -> Iterator[tuple[bool, Iterator[_Rule]]]:
    """Whether a value is refused, and rules by which none reads it."""
    of_written = (
        "variations",
        "answers",
        "reliability",
        "loss.mean",
        "training.match_steps",
        "training.first_share",
        "data.mmlu_train",
    )
    weighs = any(method.weight is not None for method in _methods(config))
    read = {"reliability.temperature"} if weighs else set()
    of_written = tuple(name for name in _keys(config, of_written) if name not in read)
    yield True, iter([(of_written, False, "set supervision=completion")])
    yield True, _switched_off(config)
    yield False, _of_other_methods(config)


def _of_completion(config: ml_collections.ConfigDict) -> Iterator[tuple[bool, Iterator[_Rule]]]:
    of_loss = tuple(name for name in _keys(config, ("loss",)) if name != "loss.mean")
    of_classes = (
        *(
            "p_ik",
            "self_label",
            "fewshot",
            "generation",
            "calibration",
            "selection",
            "graph",
            "raven",
            "compat",
        ),
        *("analysis", "evaluation", *of_loss, "ceiling", "training.embed_once"),
        *("weak.prompt", "weak.context_file", "weak.label_noise"),
        *("weak.members", "weak.rows", "weak.combine", "weak.task"),
        *("data.conversion", "seed.conversion", "seed.shots"),
        *_of_teachers(),
    )
    yield True, iter([(of_classes, False, "set supervision=class_head")])
    is_own = config.data.train_file is not None
    reason = "tasks by name have prompts of their own; it is of data.train_file"
    yield True, iter([(("data.instruction",), is_own, reason)])
    yield True, _of_models(config)
    yield False, _of_optimizer(config)
    yield False, _of_answers(config)


def _of_teachers() -> tuple[str, ...]:
    """The keys that are read for some teacher alone, but for seeds."""
    keys = dict.fromkeys(key for teacher in teachers.TEACHERS.values() for key in teacher.reads)
    return tuple(key for key in keys if not key.startswith("seed."))


def _of_answers(config: ml_collections.ConfigDict) -> Iterator[_Rule]:
    """How answers are asked for and become rows; what else `reliability` says, the reports of all runs read."""
    known, is_own = row_weights.ROW_WEIGHTS, config.data.train_file is not None
    is_read = any("normalize" in known.option_names(name) for name in config.methods)
    yield ("reliability.normalize",), is_read, "no method of the run has such an option"
    yield ("training.match_steps",), bool(config.methods), "the run has no students"
    is_written, is_sampled = config.answers.by == "generate", config.answers.temperature > 0
    yield ("answers.top_p",), is_sampled, "with answers.temperature=0 the likeliest token is taken"
    of_written = ("answers.max_new_tokens", "answers.test_max_new_tokens", "answers.reading")
    yield of_written, is_written, "answers.by=score writes nothing"
    yield ("answers.completion",), is_written, "with answers.by=score both are alike"
    yield ("data.mmlu_train",), config.task == "mmlu" and not is_own, "it is of the task mmlu"
    yield ("data.source",), not is_own, "all questions are from files"
    is_permuted = config.variations.kind in ("auto", "permutation")
    yield ("variations.cyclic",), is_permuted, "it is of variations.kind=permutation"
    of_model = tuple(f"variations.{name}" for name in ("role", "temperature", "max_new_tokens"))
    is_reworded = config.variations.kind == variation_plans.MODEL
    yield of_model, is_reworded, f"it is of variations.kind={variation_plans.MODEL}"
    yield ("seed.init",), "lora" in _trained(config), "only low-rank adapters start at random"


_RULES = {"class_head": _of_class_head, "completion": _of_completion}


def _switched_off(config: ml_collections.ConfigDict) -> Iterator[_Rule]:
    """What a run is to be made of, where another key says that it is not."""
    p_ik = config.p_ik
    yield ("self_label.file",), config.self_label.source == "file", "set self_label.source=file"
    yield ("p_ik.scores_file",), p_ik.mask == "file", "set p_ik.mask=file"
    of_several = ("weak.rows", "weak.combine")
    yield of_several, len(config.weak.members) > 1, "there is one weak model: name several by weak.members"
    yield (
        ("p_ik.data",),
        p_ik.file is None,
        "p_ik.file is another data set than p_ik.task's, whose parts it names",
    )
    has_task = not registry.is_p_ik_alone(config.methods)
    yield ("analysis.kernels",), has_task, "P(IK) alone has no weak model to compare with"
    yield ("analysis.num_rows",), config.analysis.kernels, "set analysis.kernels=True"
    yield ("evaluation",), has_task, "P(IK) alone has no curves: list methods that learn the task"
    of_students = ("evaluation.held_out", "evaluation.num_trained")
    yield of_students, config.evaluation.every_steps > 0, "set evaluation.every_steps above 0"
    yield from _of_models(config)


def _of_models(config: ml_collections.ConfigDict) -> Iterator[_Rule]:
    """What models and worlds are to be made of."""
    yield ("world",), config.data.source == world.NAME, f"set data.source={world.NAME}"
    named = {role: {*members.names(config, role)} for role in ("weak", "strong")}
    made = [role for role, names in named.items() if world.NAME in names]
    for role, names in named.items():
        # A generated model has a tokenizer of its own, and none of them is on the hub.
        yield (f"{role}.tokenizer",), names != {world.NAME}, f"{role}.model={world.NAME} has one of its own"
        is_local = names <= {world.NAME, *smoke.RANDOM_MODELS}
        listed = ", ".join(sorted(map(str, names)))
        yield (f"{role}.revision",), not is_local, f"{role}.model={listed} is not on the hub"
    made += ["chain"] if world.NAME in teachers.chain_models(config) else []
    yield ("pretraining",), bool(made), f"set weak.model={world.NAME} or strong.model={world.NAME}"


def _of_other_methods(config: ml_collections.ConfigDict) -> Iterator[_Rule]:
    """Values that count for some methods, trainings, tasks or runs, and not for these."""
    p_ik, methods = config.p_ik, _methods(config)
    is_alone, trains_p_ik = registry.is_p_ik_alone(config.methods), objectives.needs_p_ik_data(config)
    read = _options_read(config, methods)
    for name in _keys(config, ("loss", "graph", "selection", "raven", "compat.openai_ramp")):
        yield (name,), name in read, "no method of the run has such an option"
    taught_by = teachers.read_by(config)
    yield from (
        ((key,), key in taught_by, "no method of the run has such a teacher") for key in _of_teachers()
    )
    own_labels = any(method.uses_self_labels for method in methods)
    of_labels = ("self_label.source", "self_label.soft", "self_label.file")
    yield of_labels, own_labels, "no method of the run uses own labels"
    asks = trains_p_ik or is_alone or (own_labels and config.self_label.source == "fewshot")
    yield ("fewshot",), asks, "the language model is asked nothing"
    shows = asks or "fewshot" in (p_ik.prompt, config.weak.prompt)  # to classifiers, which read no dialogue
    yield ("self_label.num_shots", "seed.shots"), shows, "the language model is asked nothing"
    of_each = ("name", "learning_rate", "tokenizer", "revision", "trained", "prompt", "context_file")
    names = (*of_each, "label_noise", "members", "task")
    of_weak = (*(f"weak.{name}" for name in names), "ceiling.split")
    yield of_weak, not is_alone, "P(IK) alone has no weak model and no ceiling"
    of_task = ("training.epochs", "data.num_train")
    yield of_task, not is_alone, "P(IK) alone has p_ik.epochs and p_ik.num_train"
    has_tasks = config.data.train_file is None or (trains_p_ik and p_ik.file is None)
    has_tasks = has_tasks or bool(members.other_tasks(config))
    yield ("data.source",), has_tasks, "all questions are from files"
    yield from _of_optimizer(config)
    yield ("training.embed_once",), "heads" in _trained(config), "set training.trained=heads"
    is_calibrated = any(columns.is_calibrated(config, method) for method in methods)
    yield ("calibration",), is_calibrated, "no method of the run weighs labels by a calibration"
    is_fitted = config.calibration.weak == "crossfit"
    yield ("calibration.folds",), is_fitted, "with calibration.weak=none weak labels are taken as they are"
    yield from _of_p_ik(config, methods, trains_p_ik, read)
    yield from _of_sampling(config, methods, trains_p_ik)


def _of_optimizer(config: ml_collections.ConfigDict) -> Iterator[_Rule]:
    """What is trained, and how."""
    trained = _trained(config)
    yield ("lora",), "lora" in trained, "set training.trained=lora"
    of_adam = ("training.b1", "training.b2", "training.eps", "precision.moment_dtype")
    is_tracked = config.logging.wandb or config.logging.trackio
    yield ("logging.project",), is_tracked, "it is of logging.wandb and logging.trackio"
    is_adam = config.training.optimizer != "adafactor"
    yield of_adam, is_adam, "they are Adam's, and training.optimizer=adafactor has none of them"


def _of_p_ik(
    config: ml_collections.ConfigDict, methods, trains_p_ik: bool, read: set[str]
) -> Iterator[_Rule]:
    """How P(IK) is trained, tested and used."""
    section = config.p_ik
    uses_p_ik = [method for method in methods if method.uses_p_ik]
    beside_task = [method for method in uses_p_ik if method.task_weight > 0]
    jointly = [method for method in beside_task if objectives.trains_p_ik(config, method)]
    is_scored_first = any(objectives.is_scored_first(config, method) for method in beside_task)
    has_scores = bool(jointly) or is_scored_first
    is_tested = registry.is_p_ik_alone(config.methods) or (section.num_test > 0 and has_scores)
    yield ("p_ik.gamma",), "p_ik.gamma" in read or is_tested, "no method of the run selects by P(IK)"
    names = ("task", "file", "data", "num_train", "temperature", "batch_size", "num_test", "num_samples")
    of_data = tuple(f"p_ik.{name}" for name in names)
    yield of_data, trains_p_ik, "no method of the run is trained on examples of P(IK)"
    several = section.temperature > 0
    yield ("p_ik.num_samples",), several, "with p_ik.temperature=0 all answers to a question are alike"
    yield ("p_ik.weight",), bool(jointly), "no method of the run trains P(IK) beside the task"
    by_config = [method for method in beside_task if method.p_ik_from == "config"]
    reason = "no method of the run has P(IK) beside the task"
    yield ("p_ik.stage",), bool(by_config or jointly), reason
    if section.stage == "frozen" and jointly:
        yield ("p_ik.stage",), bool(by_config), "the methods of the run train a P(IK) head whatever it says"
    yield ("p_ik.mask",), bool(by_config), reason
    takes_scores = any(method.mask_of is None for method in by_config)
    yield ("p_ik.scores_file",), takes_scores, "no method of the run selects by P(IK)"
    is_trained_alone = section.stage != "joint" or is_scored_first or len(beside_task) < len(uses_p_ik)
    yield ("p_ik.epochs",), trains_p_ik and is_trained_alone, "P(IK) is not trained alone"


def _of_sampling(config: ml_collections.ConfigDict, methods, trains_p_ik: bool) -> Iterator[_Rule]:
    """Seeds, and how answers are written at length."""
    p_ik = config.p_ik
    yield ("seed.init",), "lora" in _trained(config), "only low-rank adapters start at random"
    draws = (
        config.weak.label_noise > 0
        or config.weak.rows == "bootstrap"
        or (trains_p_ik and p_ik.temperature > 0)
        or any(method.mask_of for method in methods)
        or "seed.sampling" in teachers.read_by(config)
        or any(_draws_columns(config, method) for method in methods)
        or config.self_label.source in label_sources.LABEL_SOURCES
        or bool(config.plugins or installed.loaded())
    )
    yield ("seed.sampling",), draws, "nothing of the run is drawn at random"
    trained_on = None if p_ik.file else p_ik.task
    yield (
        ("generation.top_p",),
        trains_p_ik and p_ik.temperature > 0 and _may_be_written(trained_on),
        "no answers are sampled at length",
    )
    asked = (trained_on, None if config.data.train_file else config.task)
    yield ("generation",), any(map(_may_be_written, asked)), "no answers are written at length"


def _draws_columns(config: ml_collections.ConfigDict, method: registry.Method) -> bool:
    """Whether a column of a method's examples is shuffled."""
    carried = columns.carried(config, method).get(batches.TASK, ())
    return any(name.startswith("shuffled_") for name in (*carried, method.weight or ""))


def _may_be_written(task: str | None) -> bool:
    """Whether a task's answers may be written at length; None is a file, which is not read yet."""
    return task not in tasks.TASKS or tasks.TASKS[task].is_generated


def _options_read(config: ml_collections.ConfigDict, methods: Sequence[registry.Method]) -> set[str]:
    """The keys, by dotted name, that losses, label rules and their parts of the methods are given."""
    read: set[str] = set()

    def add(known: Any, name: str, own: Any) -> None:
        wanted = known.option_names(name) - set(own)
        for section in known.sections(name):
            read.update(f"{section}.{key}" for key in wanted if key in config[section])

    for method in methods:
        objective = objectives.make_objective(config, method)
        add(losses.LOSSES, method.loss, method.loss_options)
        add(label_rules.LABEL_RULES, method.label_rule, method.rule_options)
        options = dict(objective.rule_options)
        if "refiner_of_set" in options.keys() - method.rule_options.keys():
            read.add("selection.refiner")
        for part, known in objectives.RULE_PARTS.items():
            if part in options:
                add(known, options[part], method.rule_options)
    return read
