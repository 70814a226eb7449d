"""`config.method_options`: options of one method alone, by the names of the arguments that its factories take.

Which there are is said by the signatures of its loss, its label rule, the selector and refiner of that, or its row
weights; a part that names an option is given it. So an author's own argument needs no key of the config. An option that
a key says for all methods may be said for one where the method alone reads it, as those of losses: what keys say of
labels, P(IK), graph and answers other stages and the reports read too.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from selw2s_jax.method import factories, label_rules, losses, objectives, registry, row_weights

_Part = tuple[factories.Registry, str]  # and the name of one of its factories
# Of the config, what others than a method's own factories read.
_SHARED = (*factories.RULE_SECTIONS, "answers", "reliability")
_KINDS = {kind.__name__: kind for kind in (bool, int, float, str, tuple)}


class Option(NamedTuple):
    """An option of a method.

    Attributes:
        key: of the config, that says it for all methods; None where there is none.
        kind: the type of its values; None: any that the config may hold.
        may_be_null: whether it may be None.
    """

    key: str | None
    kind: type | None
    may_be_null: bool


def given(config: ml_collections.ConfigDict, name: str) -> dict[str, Any]:
    """The options that the config gives a method, lists as tuples."""
    section = config.method_options.get(name)
    return {} if section is None else {key: _frozen(value) for key, value in section.to_dict().items()}


def applied(config: ml_collections.ConfigDict, name: str) -> registry.Method:
    """The method of that name as the config has it: options that it is given there are its own.

    Raises:
        ValueError: as of `checked`.
    """
    method = registry.METHODS[name]
    if not given(config, name):
        return method
    loss, *rule = _parts(config, method)
    found = checked(config, name, [loss, *rule], _own(method))
    of_loss, of_rule = (_named_by(parts, found) for parts in ([loss], rule))
    return dataclasses.replace(
        method,
        rule_options={**method.rule_options, **of_rule},
        loss_options={**method.loss_options, **of_loss},
    )


def keyed(config: ml_collections.ConfigDict, name: str) -> dict[str, tuple[str, Any]]:
    """Of the options that the config gives a method those that a key says for others: by option its key, and the value.

    Raises:
        ValueError: as of `checked`.
    """
    if config.supervision == "completion":
        parts, own = [(row_weights.ROW_WEIGHTS, name)], {}
    else:
        parts, own = _parts(config, registry.METHODS[name]), _own(registry.METHODS[name])
    known, found = options(config, parts), checked(config, name, parts, own)
    return {option: (key, value) for option, value in found.items() if (key := known[option].key)}


def of_row_weights(config: ml_collections.ConfigDict, name: str) -> dict[str, Any]:
    """The options of row weights: the config's values for those that they name, and those of this method alone.

    Raises:
        ValueError: as of `checked`.
    """
    part = (row_weights.ROW_WEIGHTS, name)
    return objectives.values(config, *part) | checked(config, name, [part], {})


def options(config: ml_collections.ConfigDict, parts: Sequence[_Part]) -> dict[str, Option]:
    """The options of parts, as their signatures and the config's keys say."""
    found = {}
    for known, part in parts:
        for option, parameter in known.parameters(part).items():
            key = objectives.key_of(config, known, part, option)
            found[option] = Option(key, _kind(config, key, parameter), parameter.default is None)
    return found


def checked(
    config: ml_collections.ConfigDict, name: str, parts: Sequence[_Part], own: Mapping[str, Any]
) -> dict[str, Any]:
    """The options that the config gives a method, of the types that they have.

    Args:
        parts: that take them.
        own: options that are part of the method.

    Raises:
        ValueError: the method has no such option, or not for the config to say, or not of that type.
    """
    if any(part not in registered for registered, part in parts):
        return {}  # which the check of parts names
    known, found = options(config, parts), {}
    for option, value in given(config, name).items():
        key = f"config.method_options.{name}.{option}"
        if option in own:
            raise ValueError(f"{key}: {option}={own[option]!r} is part of the method: register another")
        if option not in known:
            open_ones = [one for one in sorted(known) if one not in own and not _is_of_all(known[one])]
            raise ValueError(f"{key}: {_describe_unknown(name, option, open_ones, parts)}")
        if _is_of_all(known[option]):
            raise ValueError(
                f"{key}: all methods of a run have the same {option}: set config.{known[option].key}"
            )
        found[option] = _typed(key, value, known[option])
    return found


def _parts(config: ml_collections.ConfigDict, method: registry.Method) -> list[_Part]:
    """The loss of a method, its label rule, and what that is made of."""
    rule = (label_rules.LABEL_RULES, method.label_rule)
    named = {**objectives.values(config, *rule), **method.rule_options}
    of_rule = [(known, named[part]) for part, known in objectives.RULE_PARTS.items() if part in named]
    return [(losses.LOSSES, method.loss), rule, *of_rule]


def _own(method: registry.Method) -> dict[str, Any]:
    """The options that are part of a method."""
    return {**method.rule_options, **method.loss_options}


def _named_by(parts: Sequence[_Part], found: Mapping[str, Any]) -> dict[str, Any]:
    wanted = set().union(*(known.option_names(part) for known, part in parts))
    return {option: value for option, value in found.items() if option in wanted}


def _is_of_all(option: Option) -> bool:
    """Whether a key says it for all methods, because others than the method read that key."""
    return option.key is not None and option.key.partition(".")[0] in _SHARED


def _describe_unknown(name: str, option: str, known: Sequence[str], parts: Sequence[_Part]) -> str:
    nearest = difflib.get_close_matches(option, known, 1)
    meant = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    of = ", ".join(f"{registered.kind} {part!r}" for registered, part in parts)
    listed = f"its options are {', '.join(known)}" if known else "it has none"
    return f"method {name!r} has no such option{meant}; {listed} ({of})"


def _kind(config: ml_collections.ConfigDict, key: str | None, parameter: inspect.Parameter) -> type | None:
    """The type of an option: of its key, else of its default, else as it is annotated."""
    if key is not None:
        section, _, leaf = key.partition(".")
        return config[section].get_type(leaf)
    if parameter.default is not None and parameter.default is not parameter.empty:
        kind = type(_frozen(parameter.default))
        return kind if kind in _KINDS.values() else None
    annotation = parameter.annotation
    return _KINDS.get(annotation if isinstance(annotation, str) else getattr(annotation, "__name__", ""))


def _typed(key: str, value: Any, option: Option) -> Any:
    if option.kind is None or (value is None and option.may_be_null):
        return value
    if option.kind is float and type(value) is int:
        return float(value)
    if type(value) is not option.kind:
        hint = "; leave it out for its default" if value is None else ""
        raise ValueError(f"{key}={value!r}: give a value of type {option.kind.__name__}{hint}")
    return value


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value
