"""Every check of a config that needs no data and no device."""

import difflib
import importlib
import importlib.util
import math

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError


def validate(
    config: ml_collections.ConfigDict,
    *,
    students: tuple[str, ...],
    models: tuple[str, ...] = ("weak", "strong"),
) -> None:
    """Every check of the config alone.

    Args:
        students: names of the registered methods.
        models: the roles that the run has models for.

    Raises:
        UserError: the first thing that is wrong, with the remedy.
    """
    for key, options in _ONE_OF.items():
        check_one_of(key, config_lib.get(config, key), options)
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
    _validate_lists(config, students)
    _validate_batches(config)
    _validate_sources(config, models)
    _validate_optimizer(config)
    _validate_environment(config)


def check_one_of(key: str, value: str, options) -> None:
    """Raises a UserError with the nearest option unless the value is one of them."""
    if value not in options:
        nearest = difflib.get_close_matches(str(value), options, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UserError(f"config.{key}={value!r} is not one of: {', '.join(options)}{hint}")


def _validate_lists(config, students) -> None:
    for method in config.methods:
        check_one_of("methods", method, students)
    if len(set(config.methods)) != len(config.methods):
        raise UserError(f"config.methods={tuple(config.methods)} names a method twice")
    seeds = tuple(config.seeds)
    if not seeds or not all(map(_is_seed, seeds)) or len(set(seeds)) != len(seeds):
        raise UserError(f"config.seeds={seeds} must be different integers in [0, 2**32), at least one")
    for which, seed in config.seed.items():
        if seed is not None and not _is_seed(seed):
            raise UserError(f"config.seed.{which}={seed} must be an integer in [0, 2**32)")
    for target in config.lora.targets:
        check_one_of("lora.targets", target, config_lib.LORA_TARGETS)
    if not config.lora.targets:
        raise UserError(
            f"config.lora.targets is empty: name one or more of {', '.join(config_lib.LORA_TARGETS)}"
        )
    shape = config.mesh.shape
    if shape is not None and (len(shape) != 3 or any(type(size) is not int or size < 1 for size in shape)):
        raise UserError(f"config.mesh.shape={tuple(shape)} must be three sizes >= 1: (data, fsdp, tensor)")
    if config.self_label.num_shots % 2 or config.self_label.num_shots < 2:
        raise UserError(
            f"config.self_label.num_shots={config.self_label.num_shots} must be even and at least 2: "
            "the shots hold as many right as wrong answers"
        )


def _is_seed(value) -> bool:
    return type(value) is int and 0 <= value < _SEED_LIMIT


def _validate_batches(config) -> None:
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


def _validate_sources(config, models) -> None:
    for name in models:
        if config[name].model is None:
            raise UserError(f"config.{name}.model is not set: give a model name, a hub name or a folder")
    if config.data.test_file is not None and config.data.train_file is None:
        raise UserError("config.data.test_file is set without data.train_file; set both")
    if config.self_label.source == "file" and config.self_label.file is None:
        raise UserError("config.self_label.source=file needs self_label.file: JSONL of {example_id, label}")
    if config.p_ik.num_test and config.p_ik.file is not None:
        raise UserError(
            "config.p_ik.num_test tests P(IK) on p_ik.task's test split: set it to 0 with p_ik.file"
        )
    if config.p_ik.mask == "file" and config.p_ik.scores_file is None:
        raise UserError("config.p_ik.mask=file needs p_ik.scores_file: JSONL of {example_id, p_ik}")
    if config.p_ik.stage == "frozen" and config.p_ik.mask == "online":
        raise UserError(
            "config.p_ik.stage=frozen has no head in training: set p_ik.mask=frozen_scores (or file)"
        )
    if config.self_label.soft and config.self_label.source == "class_head":
        raise UserError("config.self_label.soft=True has no meaning with self_label.source=class_head")


def _validate_optimizer(config) -> None:
    training = config.training
    if training.weight_decay and training.optimizer == "adam":
        raise UserError(
            f"config.training.weight_decay={training.weight_decay} has no meaning with training.optimizer=adam: "
            "set training.optimizer=adamw"
        )


def _validate_environment(config) -> None:
    if config.logging.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UserError(
            "config.logging.tensorboard=True needs tensorboardX: pip install 'selw2s-jax[tensorboard]'"
        )
    if config.execution.attention == "cudnn" and config.precision.compute_dtype != "bfloat16":
        raise UserError("config.execution.attention=cudnn computes in bfloat16: set precision.compute_dtype")


_ONE_OF = {
    "data.overlong": ("default", "drop", "truncate", "error"),
    "data.conversion": ("coin", "balanced_pair", "all"),
    "data.sample": ("random", "first"),
    "p_ik.stage": ("joint", "pretrain_then_joint", "frozen"),
    "p_ik.mask": ("online", "frozen_scores", "file"),
    "p_ik.prompt": ("bare", "instruction", "fewshot"),
    "ceiling.split": ("student", "weak", "both"),
    "training.optimizer": ("adam", "adamw", "adafactor"),
    "training.schedule": ("cosine", "linear", "constant"),
    "training.trained": ("all", "heads", "lora"),
    "precision.param_dtype": ("float32", "bfloat16"),
    "precision.compute_dtype": ("float32", "bfloat16"),
    "precision.moment_dtype": ("float32", "bfloat16"),
    "execution.remat": ("full", "dots", "none"),
    "execution.attention": ("xla", "cudnn"),
}


_POSITIVE = (
    "data.num_train", "data.num_test", "data.max_length", "p_ik.num_train", "p_ik.batch_size",
    "p_ik.num_samples", "p_ik.epochs", "graph.tau", "training.batch_size", "training.micro_batch_size",
    "training.epochs", "training.learning_rate", "training.eps", "training.clip_norm", "weak.learning_rate",
    "strong.learning_rate", "execution.train_shapes", "execution.score_tokens", "logging.every_steps",
    "world.num_entities", "mesh.num_groups",
    "world.zipf_exponent", "pretraining.row_length", "pretraining.batch_rows", "pretraining.learning_rate",
    "pretraining.clip_norm", "pretraining.fact_weight", "checkpoint.keep", "loss.scale", "loss.adaptive_temperature",
    "lora.rank", "lora.alpha", "generation.max_new_tokens", "generation.top_p",
)  # fmt: skip


_NOT_NEGATIVE = (
    "p_ik.weight", "p_ik.temperature", "p_ik.num_test", "world.zipf_offset", "pretraining.warmup_steps",
    "checkpoint.every_steps",
    "training.weight_decay", "training.warmup_steps", "loss.product_weak_power", "loss.product_student_power",
)  # fmt: skip


_UNIT_INTERVAL = (
    "p_ik.gamma", "graph.alpha", "world.shown_share", "world.test_share", "world.judged_share", "world.judged_power",
    "world.stated_share", "pretraining.final_fraction", "loss.confidence_coefficient", "loss.confidence_ramp_fraction",
    "weak.label_noise", "generation.top_p",
)  # fmt: skip


# Adam divides by 1 - b, dropout by 1 - its rate.
_BELOW_ONE = ("training.b1", "training.b2", "pretraining.b2", "lora.dropout")


_SEED_LIMIT = 2**32  # jax.random.key tells no more apart
