"""What readers know models by: never a path. Names are shown and nothing else: no stage depends on one."""

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from selw2s_jax.data import members
from selw2s_jax.errors import UserError

_CACHED = "models--"  # begins a repository's name in the hub's cache, as models--ORG--NAME


def short(reference: str) -> str:
    """The name of a model by what the config calls it: the last part of a folder or hub name."""
    return _tail(reference, 1)


def _tail(reference: str, count: int) -> str:
    """The last parts of a reference."""
    parts = _parts(reference)
    return "/".join(parts[-count:]) or reference


def _parts(reference: str) -> list[str]:
    parts = [part for part in reference.split("/") if part]
    if parts and parts[-1] in (".", ".."):
        parts = [part for part in os.path.abspath(reference).split("/") if part]
    for place, part in enumerate(parts):
        if part.startswith(_CACHED):  # its snapshot has a commit for a name
            return [*parts[:place], *part.removeprefix(_CACHED).split("--")]
    return parts


def distinct(models: Iterable[tuple[str, str | None]]) -> dict[tuple[str, str | None], str]:
    """A name for each model, different for different models.

    Args:
        models: each as the config calls it, and the name that it was given, if any: that one is kept where no other
            model has it. Of folders as many parts are shown as tell them apart.
    """
    models = list(dict.fromkeys(models))
    found = {one: one[1] or short(one[0]) for one in models}
    most = max((len(_parts(reference)) for reference, _ in models), default=0)
    for count in range(2, most + 1):
        for one in _alike(found):
            if one[1] is None:
                found[one] = _tail(one[0], count)
    for place, one in enumerate(_alike(found), start=1):
        found[one] = f"{found[one]} ({place})"
    return found


def _alike(found: Mapping[tuple[str, str | None], str]) -> list[tuple[str, str | None]]:
    """The models that share their name with another one."""
    references: dict[str, set[str]] = {}
    for (reference, _), name in found.items():
        references.setdefault(name, set()).add(reference)
    return [one for one, name in found.items() if len(references[name]) > 1]


def as_given(model: Mapping[str, Any]) -> tuple[str, str | None]:
    """A model of a manifest for `distinct`: its title where that is no part of what the config calls it."""
    reference, title = model["name"], model.get("title")
    tails = [_tail(reference, count) for count in range(1, len(_parts(reference)) + 1)]
    return reference, None if title in tails else title


def given(config: Mapping[str, Any], role: str, number: int) -> str | None:
    """The name that a config gives a model: `weak.name`, of several weak models one for each, or `strong.name`."""
    name = config[role].get("name") if role in ("weak", "strong") else None
    if name is None or role == "strong" or not config["weak"].get("members"):
        return name
    return _split(name)[number]


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]


def check(config: Mapping[str, Any]) -> None:
    """Checks the names that a config gives its models.

    Raises:
        UserError: one is empty or of several lines, there are others than models, or two models share one.
    """
    weak, strong = config["weak"], config["strong"]
    for role in ("weak", "strong"):
        name = config[role]["name"]
        if name is not None and not (name.strip() and name.isprintable()):
            raise UserError(f"config.{role}.name={name!a} is no name: give letters, digits and the like")
    if weak["name"] is None:
        return
    every, names = members.of(config), [weak["name"]]
    if weak["members"]:
        names = _split(weak["name"])
        if len(names) != len(every) or not all(names):
            raise UserError(
                f"config.weak.name={weak['name']} has {len(names)} names for {len(every)} weak models: give one for "
                "each, with commas between"
            )
    models: dict[str, set[str]] = {}
    named = [*zip(names, [member.model for member in every], strict=True), (strong["name"], strong["model"])]
    for name, model in named:
        models.setdefault(name, set()).add(model)
    if shared := [name for name, of_name in models.items() if len(of_name) > 1]:
        raise UserError(
            f"config.weak.name and strong.name call two models {shared[0]}: give each its own name"
        )


def check_axes(config: Mapping[str, Any], axes: Collection[str]) -> None:
    """Checks that a config gives no name to a model that a sweep varies.

    Raises:
        UserError: it does.
    """
    for role in ("weak", "strong"):
        if config[role]["name"] is not None and f"{role}.model" in axes:
            raise UserError(
                f"config.{role}.name={config[role]['name']} is of one model, and the sweep has several: leave it out"
            )
