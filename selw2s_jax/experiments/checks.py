"""Every check of a config that needs no data and no device, in one order."""

import difflib
import math
from collections.abc import Collection

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.data import answers as answers_lib
from selw2s_jax.data import (
    fitting,
    members,
    model_names,
    overlap,
    prompts,
    splits,
    tasks,
    variation_plans,
)
from selw2s_jax.errors import UnknownName, UserError
from selw2s_jax.experiments import class_checks, precision
from selw2s_jax.hf import bos, chat_files
from selw2s_jax.inference import writing
from selw2s_jax.method import (
    combinations,
    completion_methods,
    disagreement,
    label_sources,
    losses,
    method_options,
    objectives,
    raven,
    registry,
    reliability,
    row_weights,
    selection,
)
from selw2s_jax.models import decoder, lora
from selw2s_jax.runtime import places
from selw2s_jax.stages import rows
from selw2s_jax.training import layouts, loggers, state
from selw2s_jax.worlds import world, written_world


def validate(
    config: ml_collections.ConfigDict,
    *,
    models: tuple[str, ...] = ("weak", "strong"),
) -> None:
    """Every check of the config alone.

    Args:
        config: in its normal form, its plugins loaded.
        models: the roles that the run has models for.

    Raises:
        UserError: the first thing that is wrong, with the remedy.
    """
    _check_places(config)
    _check_choices(config)
    _check_numbers(config)
    _check_sizes(config)
    _check_methods(config)
    _check_method_options(config)
    _check_seeds(config)
    _check_lora(config)
    _check_mesh(config)
    _check_batches(config)
    _check_models(config, models)
    _check_data(config)
    for check in _OF_SUPERVISION[config.supervision]:
        check(config)
    _check_optimizer(config)
    _check_environment(config)
    world.check(config)


def check_one_of(key: str, value: str, options: Collection[str]) -> None:
    """Raises an UnknownName with the nearest option unless the value is one of them."""
    if value not in options:
        nearest = difflib.get_close_matches(str(value), options, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UnknownName(f"config.{key}={value!r} is not one of: {', '.join(options)}{hint}")


# By key, what is taken there.
_PLACES = dict.fromkeys(("weak.model", "strong.model"), places.MODEL)
_PLACES |= dict.fromkeys(("weak.tokenizer", "strong.tokenizer"), places.FOLDER)
_PLACES |= {"data.source": f"hub, generated, world, {places.FOLDER}"}
_PLACES |= dict.fromkeys(
    (
        "data.train_file",
        "data.test_file",
        "p_ik.file",
        "p_ik.scores_file",
        "self_label.file",
        "variations.file",
        "weak.context_file",
    ),
    places.FILE,
)


def _check_places(config) -> None:
    for key, wanted in _PLACES.items():
        places.check(config_lib.get(config, key), f"config.{key}", wanted)
    named = [("chain.models", name) for name in config.chain.models]
    named += [("weak.members", one.model) for one in members.of(config) if config.weak.members and one.model]
    for key, name in named:
        places.check(name, f"config.{key}", places.MODEL)


# Weights and moments in float16 would need a scaled loss.
_DTYPES = ("float32", "bfloat16")


CALIBRATIONS = ("crossfit", "none")


def choices() -> dict[str, tuple[str, ...]]:
    """The values of every key that takes one of several, each from where it is acted upon."""
    return {
        "supervision": tuple(_OF_SUPERVISION),
        "model.bos": bos.POLICIES,
        "data.overlap": overlap.OVERLAPS,
        "data.overlong": fitting.OVERLONG,
        "data.conversion": tasks.CONVERSIONS,
        "data.sample": splits.SAMPLES,
        "p_ik.stage": objectives.P_IK_STAGES,
        "p_ik.mask": objectives.P_IK_MASKS,
        "p_ik.prompt": prompts.CLASSIFIER_PROMPTS,
        "self_label.source": (*label_sources.BUILT_IN, *label_sources.LABEL_SOURCES),
        "selection.selector": tuple(selection.SELECTORS),
        "selection.refiner": tuple(selection.REFINERS),
        "selection.disagreement_by": disagreement.MEASURES,
        "weak.rows": members.ROWS,
        "weak.combine": tuple(combinations.COMBINATIONS),
        "calibration.weak": CALIBRATIONS,
        "graph.over": ("batch", "set"),
        "raven.mix": raven.MIXES,
        "ceiling.split": splits.CEILING_SPLITS,
        "data.mmlu_train": ("dev", "auxiliary"),
        "variations.kind": ("auto", *variation_plans.KINDS),
        "variations.role": ("strong", "weak"),
        "answers.by": writing.WAYS,
        "answers.completion": rows.COMPLETIONS,
        "answers.reading": answers_lib.READINGS,
        "answers.unparsed": reliability.UNPARSED,
        "reliability.ties": reliability.TIES,
        "reliability.normalize": row_weights.NORMALIZE,
        "loss.mean": losses.COMPLETION_MEANS,
        "fewshot.chat": chat_files.CHOICES,
        "training.optimizer": state.OPTIMIZERS,
        "training.schedule": state.SCHEDULES,
        "training.trained": state.TRAINED,
        "precision.param_dtype": _DTYPES,
        "precision.compute_dtype": (precision.AUTO, *_DTYPES),
        "precision.moment_dtype": _DTYPES,
        "execution.remat": (layouts.AUTO, *decoder.REMAT_POLICIES),
        "execution.attention": decoder.ATTENTION_IMPLEMENTATIONS,
    }


def _check_choices(config) -> None:
    for key, options in choices().items():
        check_one_of(key, config_lib.get(config, key), options)
    for role in ("weak", "strong"):
        if config[role].trained is not None:
            check_one_of(f"{role}.trained", config[role].trained, state.TRAINED)
    if config.weak.prompt is not None:
        check_one_of("weak.prompt", config.weak.prompt, prompts.CLASSIFIER_PROMPTS)
    slots = ["weak", *(f"weak-{number}" for number in range(1, len(members.of(config)))), "strong"]
    embedded = [f"{slot}.{name}" for slot in slots for name in splits.NAMES]
    for name in config.analysis.embeddings:
        check_one_of("analysis.embeddings", name, embedded)


# By key; those of the generated world that have narrower limits are in `worlds.world`.
_POSITIVE = (
    "data.num_train", "data.num_test", "data.max_length", "p_ik.num_train", "p_ik.batch_size",
    "p_ik.num_samples", "p_ik.epochs", "graph.tau", "training.batch_size", "training.micro_batch_size",
    "training.epochs", "training.learning_rate", "training.eps", "training.clip_norm", "weak.learning_rate",
    "strong.learning_rate", "execution.train_shapes", "execution.score_tokens", "logging.every_steps",
    "mesh.num_groups", "pretraining.row_length", "pretraining.batch_rows", "pretraining.learning_rate",
    "pretraining.clip_norm", "pretraining.fact_weight", "checkpoint.keep", "loss.scale", "loss.adaptive_temperature",
    "lora.rank", "lora.alpha", "generation.max_new_tokens", "generation.top_p", "answers.max_new_tokens",
    "answers.top_p", "reliability.temperature", "raven.floor", "two_stage.share_weak", "iterate.rounds",
    "variations.temperature", "variations.max_new_tokens", "answers.test_max_new_tokens", "training.first_share",
)  # fmt: skip

_NOT_NEGATIVE = (
    "p_ik.weight", "p_ik.temperature", "p_ik.num_test", "world.zipf_offset", "pretraining.warmup_steps",
    "checkpoint.every_steps", "evaluation.every_steps", "evaluation.num_trained",
    "training.weight_decay", "training.warmup_steps", "loss.product_weak_power", "loss.product_student_power",
    "answers.temperature", "raven.learning_rate",
)  # fmt: skip

_UNIT_INTERVAL = (
    "p_ik.gamma", "graph.alpha", "world.judged_share", "world.judged_power", "world.stated_share",
    "pretraining.final_fraction", "loss.confidence_coefficient", "loss.confidence_ramp_fraction", "weak.label_noise",
    "generation.top_p", "answers.top_p", "raven.frozen_fraction", "raven.floor", "two_stage.share_weak",
    "two_stage.share_student", "training.first_share",
)  # fmt: skip

# Adam divides by 1 - b, dropout by 1 - its rate; something is to be trained on.
_BELOW_ONE = ("training.b1", "training.b2", "pretraining.b2", "lora.dropout", "evaluation.held_out")


def _check_numbers(config) -> None:
    for key in _POSITIVE:
        value = config_lib.get(config, key)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"config.{key}={value} must be greater than 0")
    for key in _NOT_NEGATIVE:
        value = config_lib.get(config, key)
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"config.{key}={value} must not be negative")
    for key in _UNIT_INTERVAL:
        if not 0 <= config_lib.get(config, key) <= 1:
            raise UserError(f"config.{key}={config_lib.get(config, key)} must lie in [0, 1]")
    for key in _BELOW_ONE:
        if not 0 <= config_lib.get(config, key) < 1:
            raise UserError(f"config.{key}={config_lib.get(config, key)} must lie in [0, 1)")


_FLOAT32 = (1.17549435e-38, 3.4028235e38)  # the smallest normal number and the largest
_INT32 = 2**31 - 1
_SEEDS = ("seeds", "seed.", "world.seed", "pretraining.seed")  # of 32 bits and checked as such
# More than can be made in any time, or held in any memory.
_AT_MOST = {
    "training.batch_size": 65_536,
    "p_ik.batch_size": 65_536,
    "p_ik.num_samples": 10_000,
    "calibration.folds": 1_000,
    "variations.count": 1_000,
    "iterate.rounds": 100,
    "lora.rank": 65_536,
    **{f"pretraining.{role}.num_layers": 1_000 for role in world.ROLES},
    **{
        f"pretraining.{role}.{size}": 65_536
        for role in world.ROLES
        for size in ("embed_dim", "num_heads", "mlp_dim")
    },
}
_MOST_PRETRAINING_TOKENS = 2**31


def _check_sizes(config) -> None:
    """Numbers go into arrays of int32 and float32, and the work they ask for has to end."""
    for key in config_lib.dotted_keys(config):
        value = config_lib.get(config, key)
        if not key.startswith(_SEEDS):
            for one in value if isinstance(value, tuple) else (value,):
                _check_size(key, one)
    for key, most in _AT_MOST.items():
        value = config_lib.get(config, key)
        if value is not None and value > most:
            raise UserError(f"config.{key}={value} is more than a run can work on: at most {most}")
    section = config.pretraining
    for role in world.ROLES:
        num_tokens = section[role].num_steps * section.batch_rows * section.row_length
        if num_tokens > _MOST_PRETRAINING_TOKENS:
            raise UserError(
                f"config.pretraining.{role}.num_steps={section[role].num_steps} of batch_rows={section.batch_rows} and "
                f"row_length={section.row_length} are {num_tokens} tokens, at most {_MOST_PRETRAINING_TOKENS}: lower "
                "one of them"
            )


def _check_size(key: str, value) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UserError(f"config.{key}={value} must be a finite number")
        if value and not _FLOAT32[0] <= abs(value) <= _FLOAT32[1]:
            kind = "0" if abs(value) < 1 else "infinite"
            raise UserError(
                f"config.{key}={value} is {kind} in float32, in which runs compute: choose another"
            )
    elif isinstance(value, int) and abs(value) > _INT32:
        raise UserError(f"config.{key}={value} is more than a 32-bit number holds: at most {_INT32}")


_STUDENTS = {"class_head": registry.students, "completion": completion_methods.students}


def _check_methods(config) -> None:
    """That methods are those of the form of supervision, each once."""
    known = {form: students() for form, students in _STUDENTS.items()}
    for method in config.methods:
        if method not in known[config.supervision]:
            if others := [form for form, names in known.items() if method in names]:
                raise UserError(
                    f"config.methods={method!r} is a method of supervision={others[0]}, and this run has "
                    f"supervision={config.supervision}: set the other, or choose of: "
                    f"{', '.join(known[config.supervision])}"
                )
            check_one_of("methods", method, known[config.supervision])
    if len(set(config.methods)) != len(config.methods):
        raise UserError(f"config.methods={tuple(config.methods)} names a method twice")


def _check_method_options(config) -> None:
    """That options of one method are such as it takes, with values that the keys which say them for all may have."""
    known = dict.fromkeys((*registry.students(), *completion_methods.students()))
    for name in config.method_options:
        check_one_of("method_options", name, known)
    for name in config.methods:
        try:
            found = method_options.keyed(config, name)
        except ValueError as error:
            raise UserError(str(error)) from error
        for option, (key, value) in found.items():
            changed = config.copy_and_resolve_references()
            config_lib.put(changed, key, value)
            try:
                _check_choices(changed)
                _check_numbers(changed)
            except UserError as error:
                raise UserError(f"config.method_options.{name}.{option}: {error}") from error


_SEED_LIMIT = 2**32  # jax.random.key tells no more apart


def _check_seeds(config) -> None:
    seeds = tuple(config.seeds)
    if not seeds or not all(map(_is_seed, seeds)) or len(set(seeds)) != len(seeds):
        raise UserError(f"config.seeds={seeds} must be different integers in [0, 2**32), at least one")
    for which, seed in config.seed.items():
        if seed is not None and not _is_seed(seed):
            raise UserError(f"config.seed.{which}={seed} must be an integer in [0, 2**32)")


def _is_seed(value) -> bool:
    return type(value) is int and 0 <= value < _SEED_LIMIT


def _check_lora(config) -> None:
    for target in config.lora.targets:
        check_one_of("lora.targets", target, lora.TARGETS)
    if not config.lora.targets:
        raise UserError(f"config.lora.targets is empty: name one or more of {', '.join(lora.TARGETS)}")


def _check_mesh(config) -> None:
    shape = config.mesh.shape
    if shape is not None and (len(shape) != 3 or any(type(size) is not int or size < 1 for size in shape)):
        raise UserError(f"config.mesh.shape={tuple(shape)} must be three sizes >= 1: (data, fsdp, tensor)")


def _check_batches(config) -> None:
    batch, micro = config.training.batch_size, config.training.micro_batch_size
    if micro is not None and batch % micro:
        raise UserError(
            f"config.training.batch_size={batch} is not divisible by training.micro_batch_size={micro}; "
            "choose a divisor of the batch size"
        )
    p_ik_batch = config.p_ik.batch_size
    if micro is not None and p_ik_batch is not None and p_ik_batch % (batch // micro):
        raise UserError(
            f"config.p_ik.batch_size={p_ik_batch} is not divisible by the {batch // micro} micro-batches of a step"
        )


def _check_models(config, models: tuple[str, ...]) -> None:
    for name in models:
        if name == "weak" and config.weak.members:
            continue
        if config[name].model is None:
            raise UserError(f"config.{name}.model is not set: give a model name, a hub name or a folder")
    model_names.check(config)


def _check_data(config) -> None:
    if config.data.test_file is not None and config.data.train_file is None:
        raise UserError("config.data.test_file is set without data.train_file; set both")
    if config.continual.tasks:
        _check_continual(config)


def _check_continual(config) -> None:
    """That each run of a sequence has students, which go on learning, on a task of its own."""
    others = {
        "supervision": config.supervision != "class_head",
        "methods": registry.is_p_ik_alone(config.methods),
        "data.train_file": config.data.train_file is not None,
    }
    for key, is_set in others.items():
        if is_set:
            raise UserError(
                f"config.continual.tasks needs students with class heads on tasks by name, and config.{key}="
                f"{config_lib.get(config, key)} gives others: leave one of the two out"
            )


def _check_written(config) -> None:
    varied, answers = config.variations, config.answers
    if varied.count < 1:
        raise UserError(f"config.variations.count={varied.count} must be 1 or more")
    if not 0 <= config.reliability.percentile <= 100:
        raise UserError(f"config.reliability.percentile={config.reliability.percentile} must lie in [0, 100]")
    if varied.kind == "sampling" and answers.by == "score":
        raise UserError(
            "config.variations.kind=sampling asks one prompt several times, and answers.by=score always answers it "
            "alike: set answers.by=generate and answers.temperature above 0"
        )
    if answers.by == "score" and answers.temperature:
        raise UserError(
            f"config.answers.temperature={answers.temperature} is of sampled answers: set it to 0, or "
            "answers.by=generate"
        )
    if answers.by == "score" and not answers.learn_end:
        raise UserError(
            "config.answers.learn_end=False is of answers that are written: with answers.by=score the end of text is "
            "part of every candidate: set answers.by=generate"
        )
    if varied.kind == variation_plans.MODEL and world.NAME in (config.weak.model, config.strong.model):
        raise UserError(
            f"config.variations.kind={variation_plans.MODEL}: models of the generated world know no words but its own; "
            f"choose permutation, or {written_world.REWORDED} for its sums"
        )
    if varied.kind == "sampling" and not answers.temperature:
        raise UserError(
            "config.variations.kind=sampling asks one prompt several times: set answers.temperature above 0, or all "
            "answers are alike"
        )
    for role in ("weak", "strong"):
        if (config[role].trained or config.training.trained) == "heads":
            raise UserError(
                f"the {role} model cannot have training.trained=heads with supervision=completion: models that write "
                "have no such heads; set lora or all"
            )


_OF_SUPERVISION = {
    "class_head": class_checks.CHECKS,
    "completion": (_check_written,),
}


def _check_optimizer(config) -> None:
    training = config.training
    if training.weight_decay and training.optimizer == "adam":
        raise UserError(
            f"config.training.weight_decay={training.weight_decay} has no meaning with training.optimizer=adam: "
            "set training.optimizer=adamw"
        )


def _check_environment(config) -> None:
    loggers.check_packages(config.logging)
    if config.execution.attention == "cudnn" and config.precision.compute_dtype != "bfloat16":
        raise UserError("config.execution.attention=cudnn computes in bfloat16: set precision.compute_dtype")
