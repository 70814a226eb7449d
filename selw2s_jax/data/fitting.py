"""Examples that a model which reads them cannot read whole: dropped, truncated or refused."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from selw2s_jax.data import lengths, splits
from selw2s_jax.errors import UserError

# What becomes of examples that are too long: `data.overlong` of a config.
OVERLONG = ("default", "drop", "truncate", "error")


def fit(
    data: splits.SeedData,
    weak: lengths.Reader | None,
    strong: lengths.Reader,
    *,
    overlong: str,
    ceiling_split: str,
) -> tuple[splits.SeedData, list[str]]:
    """Drops, counts or refuses examples that a model which reads them cannot read whole.

    Training examples are dropped for all models at once, so that all students share one half.

    Args:
        weak: None in a run of P(IK) alone.
        overlong, ceiling_split: config keys `data.overlong` and `ceiling.split`.

    Returns:
        What is left, and notes of what was dropped or truncated.

    Raises:
        UserError: with `overlong` "error" the first that is too long; or all of a split are.
    """
    readers = {
        "weak_half": (weak,) if ceiling_split == "student" else (weak, strong),
        "student_half": (weak, strong),
        "p_ik": (strong,),
        "p_ik_test": (strong,),
        "test": (strong,) if weak is None else (weak, strong),
    }
    fitted, notes = {}, []
    for name, models in readers.items():
        split = getattr(data, name)
        if split is None:
            continue
        action = overlong
        if action == "default":
            action = "truncate" if name in ("test", "p_ik_test") else "drop"
        fitted[name], found = _fit_split(split, name, models, action)
        notes += found
    return dataclasses.replace(data, **fitted), notes


def _fit_split(
    split: splits.Split, name: str, models: Sequence[lengths.Reader], action: str
) -> tuple[splits.Split, list[str]]:
    long = {model.role: split.is_overlong(model) for model in models}
    any_long = np.any(list(long.values()), axis=0)
    if not any_long.any():
        return split, []
    limit = min(model.max_length for model in models)
    if action == "error":
        first = split.ids[int(np.flatnonzero(any_long)[0])]
        raise UserError(
            f"{name}: {any_long.sum()} example(s) longer than {limit} tokens (first: {first}); "
            "raise data.max_length or set data.overlong=drop or truncate"
        )
    if action == "drop":
        if any_long.all():
            raise UserError(f"every example of {name} is longer than {limit} tokens; raise data.max_length")
        note = f"{name}: {any_long.sum()} of {len(split)} examples longer than {limit} tokens dropped"
        return split.only(~any_long), [note]
    counts = {model: int(long[model.role].sum()) for model in models}
    return split, [
        f"{name}: {count} of {len(split)} examples truncated from the left to {model.max_length} tokens "
        f"for the {model.role} model"
        for model, count in counts.items()
        if count
    ]
