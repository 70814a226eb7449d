"""The runs of a sweep: the product of its axes, each a whole config under a name of its own."""

import dataclasses
import difflib
import itertools
import re
from typing import Any

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.data import model_names
from selw2s_jax.data import tasks as tasks_lib
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import artifacts

_MAX_NAME = 120  # characters; file systems allow 255 bytes


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a sweep; a config without one is its own only cell.

    Attributes:
        name: the values on the axes, such as "task=boolq,weak=gpt2,strong=qwen-14b", fit for a folder; "" without axes.
        axes: the same by dotted key of the config.
        config: of the run, without a sweep.
    """

    name: str
    axes: dict[str, Any]
    config: ml_collections.ConfigDict

    @property
    def config_hash(self) -> str:
        """Of everything in the config."""
        return artifacts.content_hash(config_lib.to_json(self.config))[:16]


def expand(config: ml_collections.ConfigDict) -> list[Cell]:
    """The cells of a normalised config, in the order of its lists, the last axis fastest.

    Raises:
        UserError: an axis names no key of the config, has no values, or one that its key does not take.
    """
    section = config.sweep
    axes = [
        _tasks(_all_tasks(config)),
        _pairs(section.pairs),
        *(_axis(text, config) for text in section.settings),
    ]
    axes = [axis for axis in axes if axis]
    _check_distinct(axes)
    model_names.check_axes(config, [key for axis in axes for key in axis[0]])
    cells = [_make_cell(config, points) for points in itertools.product(*axes)]
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"config.sweep has the run {twice!r} twice: name each value once")
    return cells


def _all_tasks(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Those of the sweep, or of a sequence, which are runs in their order."""
    in_turn, section = config.continual.tasks, config.sweep
    if not in_turn:
        return section.tasks
    if section.tasks:
        raise UserError("config.continual.tasks and config.sweep.tasks both list tasks: give one of the two")
    if len({*map(tasks_lib.canonical_name, in_turn)}) < max(len(in_turn), 2):
        raise UserError(
            f"config.continual.tasks={','.join(in_turn)} is no sequence: give two tasks or more, each once"
        )
    return in_turn


def _tasks(tasks) -> list[dict[str, Any]]:
    return [{"task": task} for task in tasks]


def _pairs(pairs) -> list[dict[str, Any]]:
    points = []
    for pair in pairs:
        models = pair.split(":")
        if len(models) != 2 or not all(models):
            raise UserError(
                f"config.sweep.pairs: {pair!r} is no pair; give it as weak:strong, or give models whose names have "
                "a colon as two axes in sweep.settings, weak.model=... and strong.model=..."
            )
        points.append({"weak.model": models[0], "strong.model": models[1]})
    return points


def _axis(text: str, config: ml_collections.ConfigDict) -> list[dict[str, Any]]:
    key, _, values = text.partition("=")
    known = [name for name in config_lib.dotted_keys(config) if not name.startswith("sweep.")]
    if key not in known and not config_lib.is_option(key):
        nearest = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UserError(f"config.sweep.settings: {text!r} starts with no key of the config{hint}")
    if key in ("methods", "plugins"):
        raise UserError(f"config.sweep.settings: {key} is no axis; all runs of a sweep have the same {key}")
    if not values:
        raise UserError(f"config.sweep.settings: {text!r} has no values; give it as {key}=value,value")
    # Of options a value may be a tuple, in brackets.
    parted = re.split(r",(?![^()\[\]]*[)\]])" if config_lib.is_option(key) else ",", values)
    return [{key: _parse(value.strip(), key)} for value in parted]


def _parse(text: str, key: str) -> Any:
    """A value of the type that a key of the config has, None where it may be null."""
    if config_lib.is_option(key):
        return config_lib.parse_option(text)
    if config_lib.is_null(text, key) and config_lib.may_be_null(key):
        return None
    if key == "mesh.shape":
        return _parse_mesh(text)
    kind = config_lib.type_of(key)
    if kind is tuple and key == "seeds":
        kind = int  # one seed at a time
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
    except (ValueError, KeyError):
        raise UserError(
            f"config.sweep.settings: {key}={text} is no {kind.__name__}, which {key} is"
        ) from None
    raise UserError(f"config.sweep.settings: {key} holds a {kind.__name__}, which is no axis")


def _parse_mesh(text: str) -> tuple[int, ...]:
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size.isdecimal() for size in sizes):
        raise UserError(
            f"config.sweep.settings: mesh.shape={text} is no mesh: give the sizes of data, fsdp and tensor as 1x8x1"
        )
    return tuple(map(int, sizes))


def _check_distinct(axes: list[list[dict[str, Any]]]) -> None:
    keys = [key for axis in axes for key in axis[0]]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"config.sweep has {key} on two axes: give it once")


def _make_cell(config: ml_collections.ConfigDict, points: tuple[dict[str, Any], ...]) -> Cell:
    cell = config.copy_and_resolve_references()
    cell.sweep = dict.fromkeys(cell.sweep, ())
    axes = {key: value for point in points for key, value in point.items()}
    for key, value in axes.items():
        config_lib.put(cell, key, (value,) if key == "seeds" else value)
    return Cell(_name(axes), axes, cell)


def spell(value: Any) -> str:
    """A value of an axis, as `sweep.settings` takes it."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _name(axes: dict[str, Any]) -> str:
    parts = [f"{key.removesuffix('.model')}={spell(value)}" for key, value in axes.items()]
    name = re.sub(r"[^\w.,=+-]+", "-", ",".join(parts))
    if len(name) <= _MAX_NAME and name == ",".join(parts):
        return name
    # Two values may look alike once they are shortened.
    return f"{name[:_MAX_NAME]}-{artifacts.content_hash(axes)[:8]}"
