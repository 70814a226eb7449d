"""Examples that a model which reads them cannot read whole: dropped, truncated or refused."""

import dataclasses
import types
from collections.abc import Mapping, Sequence

import numpy as np

from selw2s_jax.data import lengths, splits
from selw2s_jax.errors import UserError

# What becomes of examples that are too long: `data.overlong` of a config.
OVERLONG = ("default", "drop", "truncate", "error")


def fit(
    data: splits.SeedData,
    weak: Mapping[str | None, Sequence[lengths.Reader]],
    strong: lengths.Reader,
    chain: Sequence[lengths.Reader] = (),
    *,
    overlong: str,
    ceiling_split: str,
    weak_prompt: str | None = None,
    unanswerable: Mapping[str, np.ndarray] = types.MappingProxyType({}),
) -> tuple[splits.SeedData, list[str]]:
    """Drops, counts or refuses examples that a model which reads them cannot read whole.

    Training examples are dropped for all models at once, so that all students share one half.

    Args:
        weak: the weak models by the task that they learn, None for that of the splits; none in a run of P(IK) alone.
        chain: models between the two, which read the student's half alone.
        overlong, ceiling_split: config keys `data.overlong` and `ceiling.split`.
        weak_prompt: form of what the weak model reads, None where it is that of the splits.
        unanswerable: by the split's name, which examples are too long for the prompt that asks the strong model for an
            answer, `[N]` bool; of splits that it is not asked, none.

    Returns:
        What is left, and notes of what was dropped or truncated.

    Raises:
        UserError: with `overlong` "error" the first that is too long; or all of a split are.
    """
    every = tuple(dict.fromkeys(model for of_task in weak.values() for model in of_task))
    readers = {
        "weak_half": (*weak.get(None, ()), *(() if ceiling_split == "student" else (strong,))),
        **{f"weak_half@{task}": tuple(weak[task]) for task in data.weak_by_task},
        "student_half": (*every, *chain, strong),
        "held_out": (*every, strong),
        "p_ik": (strong,),
        "p_ik_test": (strong,),
        "test": (*every, strong),
    }
    fitted, notes = {}, []
    for name, models in readers.items():
        split = data.named(name)
        if split is None or not models:
            continue
        action = overlong
        if action == "default":
            action = "truncate" if name in ("test", "p_ik_test") else "drop"
        fitted[name], found = _fit_split(
            split,
            name,
            {m: split.read_as(weak_prompt if m in every else None) for m in models},
            action,
            unanswerable.get(name),
        )
        notes += found
    of_tasks = {task: fitted.pop(f"weak_half@{task}") for task in data.weak_by_task}
    return dataclasses.replace(data, **fitted, weak_by_task=of_tasks), notes


_LONG_PROMPT = "too long for the strong model's context in a few-shot prompt, even without shots"


def _remedy(reason: str) -> str:
    is_prompt = reason == _LONG_PROMPT
    return "choose a strong model with a longer context" if is_prompt else "raise data.max_length"


def _fit_split(
    split: splits.Split,
    name: str,
    read: Mapping[lengths.Reader, splits.Split],
    action: str,
    unanswerable: np.ndarray | None,
) -> tuple[splits.Split, list[str]]:
    """Args as `fit`, but `read`: the split as each model reads it."""
    limit = min(model.max_length for model in read)
    long = {model: as_read.is_overlong(model) for model, as_read in read.items()}
    too_long = {f"longer than {limit} tokens": np.any(list(long.values()), axis=0)}
    if unanswerable is not None:
        too_long[_LONG_PROMPT] = unanswerable & ~next(iter(too_long.values()))
    too_long = {reason: which for reason, which in too_long.items() if which.any()}
    if not too_long:
        return split, []
    any_long = np.any(list(too_long.values()), axis=0)
    if action == "error":
        reason, which = next(iter(too_long.items()))
        first = split.ids[int(np.flatnonzero(which)[0])]
        raise UserError(
            f"{name}: {which.sum()} example(s) {reason} (first: {first}); "
            f"{_remedy(reason)}, or set data.overlong=drop or truncate"
        )
    if action == "drop":
        if any_long.all():
            raise UserError(
                f"every example of {name} is {' or '.join(too_long)}; {' and '.join(map(_remedy, too_long))}"
            )
        notes = [
            f"{name}: {which.sum()} of {len(split)} examples {reason} dropped"
            for reason, which in too_long.items()
        ]
        return split.only(~any_long), notes
    counts = {model: int(long[model].sum()) for model in read}
    return split, [
        f"{name}: {count} of {len(split)} examples truncated from the left to {model.max_length} tokens "
        f"for the {model.role} model"
        for model, count in counts.items()
        if count
    ]
