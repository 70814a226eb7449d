"""The config: its keys, which are in `defaults` with their default values, and what can be done with any config.

Config files build on `default_config()`. A run takes every value from its config; parts that are useful without one
(losses, smoothing, the decoder, `training.state.OptimizerSettings`) have the same defaults, to which
tests/test_config.py holds them. That a config has these keys and values of their types is checked here (`validate`),
what a value may be in `experiments.checks`.
"""

import ast
import difflib
import functools
import json
import math
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from selw2s_jax import errors
from selw2s_jax.defaults import experiment, method, models, training, written
from selw2s_jax.errors import UserError

_KINDS = (experiment, models, method, written, training)  # of keys
OPTIONS = "method_options"  # the section of free keys, METHOD.OPTION


def default_config() -> ml_collections.ConfigDict:
    """The paper's settings, locked: a key that is not among them cannot be set, but for those of `method_options`.

    Null (typed placeholder) means: chosen by the rule in the comment beside its default.
    """
    config = ml_collections.ConfigDict()
    for kind in _KINDS:
        kind.add_keys(config)
    config.lock()
    config[OPTIONS].unlock()
    return config


def smoke_settings(config: ml_collections.ConfigDict, *, weak: str, strong: str) -> None:
    """Turns a config into a toy run that needs no network: generated questions, random tiny checkpoints."""
    config.data.source = "generated"
    config.data.num_train = 256
    config.data.num_test = 101
    config.weak.model = weak
    config.weak.revision = None
    config.strong.model = strong
    config.strong.revision = None
    config.p_ik.num_train = 96
    config.p_ik.gamma = 0.5  # a random model never reaches 0.8; here selection should be seen to work
    config.training.learning_rate = 1e-3
    config.training.epochs = 2.0
    config.seeds = (0,)
    config.precision.compute_dtype = "float32"


def world_settings(config: ml_collections.ConfigDict) -> None:
    """Turns a config into a run in a generated world: its questions, and language models pretrained on its text.

    The weak model learns a shortcut of the questions there, so it fails on others than the strong model does.
    """
    correlated_world(config)
    config.methods = (
        "p_ik_only", "finetune", "self_training", "selective", "random_selection", "selective_frozen",
        "random_selection_frozen", "posterior", "posterior_shuffled",
    )  # fmt: skip
    config.world.update(
        tasks=("world_facts", "world_traits"), task_shares=(1.0, 1.0), judged_share=0.1, stated_share=0.2,
        zipf_offset=200.0, tail=0.01, shown_share=0.3, test_share=0.47, told_as="digits",
        shortcut=0.7, shortcut_in_text=0.6,
    )  # fmt: skip
    config.pretraining.batch_rows = 20
    config.pretraining.strong.num_steps = 600
    config.pretraining.chain.num_steps = 450
    config.pretraining.weak.num_steps = 300
    config.weak.learning_rate = 3e-3
    config.training.batch_size = 16  # small halves: as many steps in fewer epochs
    config.training.epochs = config.p_ik.epochs = 3.0


def correlated_world(config: ml_collections.ConfigDict) -> None:
    """As `world_settings`, but weak and strong model fail on the same questions: those about facts that are rare."""
    config.data.source = config.weak.model = config.strong.model = "world"
    config.task = "world_facts"
    config.p_ik.task = "world_traits"
    config.data.conversion = "balanced_pair"
    # The language models have read problems only behind an instruction; the paper's bare pair is new to them.
    config.p_ik.prompt = "instruction"
    config.p_ik.num_test = 1000
    config.methods = (
        "p_ik_only",
        "finetune",
        "confidence",
        "selective",
        "self_training",
        "random_selection",
    )
    config.training.learning_rate = 1e-3
    config.training.epochs = 4.0  # at this size, two are too few steps for P(IK)
    config.p_ik.epochs = 4.0
    config.precision.compute_dtype = "float32"
    config.execution.remat = "none"


def larger_correlated_world(config: ml_collections.ConfigDict) -> None:
    """`correlated_world` at the size of the studies in it: five seeds, two cores or a GPU.

    Halves of about 1,060 rows, test sets of about 500 or 1,000.
    """
    correlated_world(config)
    config.world.num_entities = 2600
    config.world.shown_share = 0.4
    config.world.test_share = 0.32
    config.pretraining.strong.num_steps = 6500
    config.pretraining.chain.num_steps = 4000
    config.pretraining.weak.num_steps = 2000
    config.seeds = (0, 1, 2, 3, 4)


def parse_arguments(
    text: str | None, *, choices: dict[str, tuple[str, ...] | None]
) -> dict[str, str | bool | None]:
    """The arguments of a config file, `--config=file.py:weak=gpt2,smoke`.

    Args:
        text: comma-separated `key=value` pairs and flags.
        choices: the values that each key takes, the default first; `()` for a flag, None for any text without a comma.

    Returns:
        A value for every key: the default where absent, None where any text would do; True or False for flags.

    Raises:
        UserError: an unknown argument or value.
    """
    values: dict[str, str | bool | None] = {
        key: options[0] if options else (None if options is None else False)
        for key, options in choices.items()
    }
    for item in filter(None, (part.strip() for part in (text or "").split(","))):
        key, _, value = (part.strip() for part in item.partition("="))
        if key not in choices:
            raise UserError(
                f"config argument {item!r} is not known; use one of: {_describe_choices(choices)}"
            )
        options = choices[key]
        if options is None and not value:
            raise UserError(f"config argument {key!r} takes a value: {key}=...")
        if options and value not in options:
            raise UserError(f"config argument {key}={value!r} is not one of: {', '.join(options)}")
        if options == () and value:
            raise UserError(f"config argument {key!r} is a flag and takes no value")
        values[key] = True if options == () else value
    return values


def _describe_choices(choices: dict[str, tuple[str, ...] | None]) -> str:
    values = {key: "..." if options is None else "|".join(options) for key, options in choices.items()}
    return ", ".join(f"{key}={value}" if value else key for key, value in values.items())


def get(config: ml_collections.ConfigDict, key: str) -> Any:
    """The value at a dotted key."""
    for part in key.split("."):
        config = config[part]
    return config


def put(config: ml_collections.ConfigDict, key: str, value: Any) -> None:
    """Sets the value at a dotted key."""
    section, _, leaf = key.rpartition(".")
    if not is_option(key):
        (get(config, section) if section else config)[leaf] = value
        return
    name = section.partition(".")[2]
    with config.unlocked():
        options = config[OPTIONS].get(name)
        config[OPTIONS][name] = {**({} if options is None else options.to_dict()), leaf: value}
    config[OPTIONS].unlock()


def dotted_keys(config: ml_collections.ConfigDict) -> list[str]:
    """Every key that holds a value, as `section.key`, in order."""
    keys = []
    for name, value in config.items(preserve_field_references=True):
        if isinstance(value, ml_collections.ConfigDict):
            keys += [f"{name}.{inner}" for inner in dotted_keys(value)]
        else:
            keys.append(name)
    return sorted(keys)


_defaults = functools.cache(default_config)  # to be looked at alone


def is_option(key: str) -> bool:
    """Whether a dotted key is one of `method_options`, which takes values of any of the types of `parse_option`."""
    section, *names = key.split(".")
    return section == OPTIONS and len(names) == 2 and all(names)


def parse_option(text: str) -> Any:
    """A value of `method_options` as the command line and sweeps have it: a number, truth value, tuple, else a text.

    Commas part a tuple, as in other lists; quotes make a text of anything, `None` is no value.
    """
    text = text.strip()
    if is_null(text):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        with warnings.catch_warnings(action="ignore"):  # of what only looks like Python
            value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return tuple(map(parse_option, filter(None, text.split(",")))) if "," in text else text
    value = tuple(value) if isinstance(value, list) else value
    return value if isinstance(value, (int, float, str, tuple)) else text


def type_of(key: str) -> type:
    """The type of the values that a dotted key takes: bool, int, float, str or tuple; not of `method_options`."""
    section, _, leaf = key.rpartition(".")
    default = _defaults()
    return (get(default, section) if section else default).get_type(leaf)


def is_default(key: str, value: Any) -> bool:
    """Whether a value of a dotted key is that of `default_config`, which has none of `method_options`."""
    return not is_option(key) and get(_defaults(), key) == value


def may_be_null(key: str) -> bool:
    """Whether a dotted key may have no value: those that have none by default, with a meaning of its own."""
    return not is_option(key) and get(_defaults(), key) is None


# Whose values are chosen where there is none, which the command line may call "auto".
_CHOSEN = ("mesh.shape", "training.micro_batch_size")


def is_null(text: str, key: str | None = None) -> bool:
    """Whether a text of the command line stands for no value, where a key may have none.

    Args:
        key: dotted, that it is given for.
    """
    return text.strip() in ("None", "none", "null", *(("auto",) if key in _CHOSEN else ()))


def check_key(key: str) -> None:
    """Checks that a dotted key is one that holds a value.

    Raises:
        UserError: it is not known, with the nearest that is, or a section of keys.
    """
    known = dotted_keys(_defaults())
    if key in known or is_option(key):
        return
    section, _, rest = key.partition(".")
    if section == OPTIONS:
        raise UserError(f"config.{key} is no option of a method: give it as config.{OPTIONS}.METHOD.OPTION")
    if inside := [name for name in known if name.startswith(f"{key}.")]:
        raise UserError(f"config.{key} is a section, not a value; set one of: {', '.join(inside)}")
    if is_option(like := f"{OPTIONS}.{rest}"):
        known.append(like)
    meant = [name for name in known if _initials(name) == key] or difflib.get_close_matches(key, known, 1, 0)
    raise UserError(f"config key {key!r} is not known; did you mean config.{meant[0]}?")


def _initials(key: str) -> str:
    """A dotted key as people shorten it: training.lr."""
    section, dot, leaf = key.rpartition(".")
    return section + dot + "".join(word[:1] for word in leaf.split("_"))


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks that a config has the keys of `default_config` and no others, with values of their types.

    Raises:
        UserError: the first key that is not known, is missing, has no value, or has one of another type.
    """
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(
            f"the config is a {type(config).__name__}: start from selw2s_jax.config.default_config()"
        )
    found, known = dotted_keys(config), dotted_keys(_defaults())
    for key in found:
        if key not in known:  # most are, and to look for what was meant takes long
            check_key(key)
    if missing := [key for key in known if key not in found]:
        raise UserError(f"config.{missing[0]} is missing; start from selw2s_jax.config.default_config()")
    for key in found:
        _check_type(key, get(config, key))


_NAMES = (
    "methods", "plugins", "lora.targets", "sweep.tasks", "sweep.pairs", "continual.tasks", "analysis.embeddings",
    "weak.members", "world.tasks", "chain.models",
)  # fmt: skip
# The elements of a tuple are texts but for these; `seeds` and `mesh.shape` have checks of their own.
_NUMBERS = ("world.task_shares",)
_UNCHECKED = ("seeds", "mesh.shape")
_MOST_BITS = 1000


def _check_type(key: str, value: Any) -> None:
    if is_option(key):
        _check_option(key, value)
        return
    if value is None:
        if may_be_null(key):
            return
        default = get(_defaults(), key)
        raise UserError(
            f"config.{key} is None and has to have a value, by default {default!r}; only keys that are null by "
            "default may be None"
        )
    _check_bits(key, value)
    kind = type_of(key)
    if not _is_of(value, kind):
        raise UserError(
            f"config.{key}={value!r} is of type {type(value).__name__}: give a value of type {kind.__name__}"
        )
    texts = [value] if kind is str else []
    if kind is tuple and key not in _UNCHECKED:
        of = float if key in _NUMBERS else str
        if wrong := [one for one in value if not _is_of(one, of)]:
            raise UserError(f"config.{key} holds {wrong[0]!r}: give values of type {of.__name__}")
        texts = [one for one in value if of is str]
    _check_texts(key, value, texts)


def _check_option(key: str, value: Any) -> None:
    """Checks that a value of `method_options` is of one of the types that keys and artifacts hold."""
    if isinstance(value, (tuple, list)):
        for one in value:
            _check_option(key, one)
        return
    if not isinstance(value, (bool, int, float, str, type(None))):
        raise UserError(
            f"config.{key} holds a {type(value).__name__}: give a number, a text, a truth value or a tuple of these"
        )
    _check_bits(key, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"config.{key}={value} must be a finite number")
    _check_texts(key, value, [value] if isinstance(value, str) else [])


def _check_bits(key: str, value: Any) -> None:
    for one in value if isinstance(value, (tuple, list)) else (value,):
        # Which no float holds, and Python does not print.
        if isinstance(one, int) and one.bit_length() > _MOST_BITS:
            raise UserError(f"config.{key} is a number of {one.bit_length()} bits: give a smaller one")


def _check_texts(key: str, value: Any, texts: list[str]) -> None:
    if any("\0" in text for text in texts):
        raise UserError(f"config.{key}={value!r} holds a NUL character, which no name or path has: remove it")
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise UserError(f"config.{key}={value!a} is not UTF-8 text: rename what it names")


def _is_of(value: Any, kind: type) -> bool:
    """Whether a value can be one of a key of that type: an int is a float too, a bool is no number."""
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, (tuple, list) if kind is tuple else kind)


def normalize(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A checked copy, its values of the types of the defaults, a list of names taken apart.

    The flag parser leaves `--config.methods=a,b` as one string; "" is no name.

    Raises:
        UserError: as `validate`.
    """
    validate(config)
    normal = default_config()
    for key in dotted_keys(config):
        put(normal, key, get(config, key))
    config = normal.copy_and_resolve_references()
    for key in _NAMES:
        names = [name.strip() for item in get(config, key) for name in item.split(",")]
        put(config, key, tuple(name for name in names if name))
    config.sweep.settings = tuple(axis for axis in config.sweep.settings if axis.strip())
    return config


def to_json(config: ml_collections.ConfigDict) -> dict:
    """The config as JSON values."""
    return json.loads(config.to_json_best_effort())


def from_json(values: Mapping[str, Any], *, ignore_unknown: bool = False) -> ml_collections.ConfigDict:
    """The config that `to_json` gave, with defaults for keys that came later.

    Args:
        ignore_unknown: take no notice of keys that are not known, as those of other versions; else they are refused.

    Raises:
        UserError: they are no such values.
    """
    config = default_config()
    known = dotted_keys(config)
    try:
        for key, value in _flat(values):
            is_section = any(name.startswith(f"{key}.") for name in known)
            if key not in known and ignore_unknown and not is_section and not is_option(key):
                continue
            check_key(key)
            put(config, key, tuple(value) if isinstance(value, list) else value)
    except (TypeError, AttributeError, ValueError, RecursionError) as error:
        raise UserError(f"they are not the values of a config ({errors.one_line(error)})") from error
    return config


def read_saved(path: str) -> ml_collections.ConfigDict:
    """The config that a run has saved as config.json.

    Raises:
        UserError: the file is not what a run saves, or has a key that is not known here.
    """
    try:
        values = errors.parse_json(pathlib.Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"config {path} cannot be read: {errors.one_line(error)}") from error
    try:
        return from_json(values)
    except UserError as error:
        raise UserError(f"config {path} is none that a run has saved: {error}") from error


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted key."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differing_keys(ours: dict, theirs: dict) -> list[str]:
    """Dotted keys at which two configs, as JSON values, are not the same."""
    keys = []
    for name in sorted({*ours, *theirs}):
        mine, other = ours.get(name), theirs.get(name)
        if isinstance(mine, dict) and isinstance(other, dict):
            keys += [f"{name}.{inner}" for inner in differing_keys(mine, other)]
        elif mine != other or (name in ours) != (name in theirs):
            keys.append(name)
    return keys


def seed_for(config: ml_collections.ConfigDict, base: int, which: str) -> int:
    """The seed of one purpose: `seed.<which>` where it is set, else the base seed."""
    value = config.seed[which]
    return base if value is None else value
