"""What config.json says of rotary positions, as transformers 4 and 5 write it.

5 has it in `rope_parameters`; before, the base and the rotated share were fields of their own, whose names differ
between families, beside `rope_scaling`.
"""

from typing import NamedTuple

from selw2s_jax.models import family


class Rope(NamedTuple):
    """The fields of a `family.ModelConfig` of the same meaning, but `fraction`, which is 1.0 for all."""

    base: float
    fraction: float
    scaling: family.RopeScaling | None


def parse(
    config: dict,
    *,
    base_fields: tuple[str, ...] = ("rope_theta",),
    fraction_fields: tuple[str, ...] = ("partial_rotary_factor",),
    fraction: float = 1.0,
) -> Rope:
    """The rotary positions of a config.json.

    Args:
        base_fields, fraction_fields: names that the base and the rotated share have outside `rope_parameters`.
        fraction: the rotated share where none is given.

    Raises:
        ValueError: a field that is no number, two that contradict each other, or a type that is not computed.
    """
    found = {
        "rope_theta": _one_of(config, base_fields, 10000.0),
        "partial_rotary_factor": _one_of(config, fraction_fields, fraction, most=1.0),
    }
    scaling, parameters = (_object(config, field) for field in ("rope_scaling", "rope_parameters"))
    for name in sorted(scaling.keys() & parameters.keys()):
        if scaling[name] != parameters[name]:
            raise ValueError(
                f"{name} {family.shown(scaling[name])} of rope_scaling and {family.shown(parameters[name])} of "
                "rope_parameters differ"
            )
    found |= scaling | parameters
    return Rope(
        base=family.require(found, "rope_theta", float),
        fraction=family.require(found, "partial_rotary_factor", float, most=1.0),
        scaling=_parse_scaling(found),
    )


def _object(config: dict, field: str) -> dict:
    """The fields of an object that are not null, with its type by one name."""
    part = config.get(field)
    if not isinstance(part, dict | None):
        raise ValueError(f"{field} must be an object or null, not {family.shown(part)}")
    given = {name: value for name, value in (part or {}).items() if value is not None}
    if kinds := [name for name, value in given.items() if isinstance(value, dict)]:
        raise ValueError(
            f"unsupported {field} of its own for {', '.join(kinds)} (supported: one for all layers)"
        )
    return {"rope_type": given.get("type", "default")} | given if given else {}


def _one_of(config: dict, fields: tuple[str, ...], default: float, **limits: float) -> float:
    """The value of the fields that are given, which must agree."""
    present = [field for field in fields if config.get(field) is not None]
    given = {field: family.require(config, field, float, **limits) for field in present}
    if len(set(given.values())) > 1:
        raise ValueError(f"{' and '.join(f'{field} {value}' for field, value in given.items())} differ")
    return next(iter(given.values()), default)


def _parse_scaling(found: dict) -> family.RopeScaling | None:
    kind = found.get("rope_type", "default")
    if kind == "default":
        return None
    if kind == "linear":
        return family.RopeScaling(kind, family.require(found, "factor", float))
    if kind != "llama3":
        raise ValueError(f"unsupported rope_type {family.shown(kind)} (supported: default, linear, llama3)")
    factor, low, high = (
        family.require(found, field, float) for field in ("factor", "low_freq_factor", "high_freq_factor")
    )
    if high <= low:
        raise ValueError(f"high_freq_factor {high} must be more than low_freq_factor {low}")
    return family.RopeScaling(
        kind, factor, low, high, family.require(found, "original_max_position_embeddings")
    )


def format_scaling(scaling: family.RopeScaling | None) -> dict | None:
    """`rope_scaling` as transformers 4 writes it."""
    if scaling is None:
        return None
    fields = {
        "factor": scaling.factor,
        "rope_type": scaling.kind,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_seq_len,
    }
    return {field: value for field, value in fields.items() if value is not None}
