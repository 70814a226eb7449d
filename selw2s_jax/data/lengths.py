"""Texts as token ids within what a model is given to read: dropped, truncated or refused where they are longer."""

import dataclasses
from collections.abc import Sequence

import ml_collections
import numpy as np

from selw2s_jax.errors import UserError


def most_tokens(text: str) -> int:
    """More tokens than any tokenizer makes of a text.

    No token is shorter than a byte, and NFC, which Qwen's tokenizer applies, at most triples a text.
    """
    return 3 * len(text.encode(errors="surrogatepass"))


# What becomes of examples that are too long: `data.overlong` of a config.
OVERLONG = ("default", "drop", "truncate", "error")


def is_overlong(texts: Sequence[str], model) -> np.ndarray:
    """Which texts have more tokens than an `pretrained.Model` is given: `[N]` bool."""
    candidates = [i for i, text in enumerate(texts) if most_tokens(text) >= model.max_length]
    overlong = np.zeros(len(texts), bool)
    if candidates:
        encoded = model.tokenizer.encode_batch([texts[i] for i in candidates])
        overlong[candidates] = [len(ids) > model.max_length for ids in encoded]
    return overlong


def fit(data, weak, strong, config: ml_collections.ConfigDict, notes: list[str]):
    """Drops, counts or refuses examples that a model which reads them cannot read whole.

    Training examples are dropped for all models at once, so that all students share one half.

    Args:
        data: `splits.SeedData`.
        weak, strong: `pretrained.Model`; no weak one in a run of P(IK) alone.
        notes: what was dropped or truncated is added.

    Raises:
        UserError: with `data.overlong=error` the first that is too long; or all of a split are.
    """
    readers = {
        "weak_half": (weak,) if config.ceiling.split == "student" else (weak, strong),
        "student_half": (weak, strong),
        "p_ik": (strong,),
        "p_ik_test": (strong,),
        "test": (strong,) if weak is None else (weak, strong),
    }
    fitted = {}
    for name, models in readers.items():
        split = getattr(data, name)
        if split is None:
            continue
        action = config.data.overlong
        if action == "default":
            action = "truncate" if name in ("test", "p_ik_test") else "drop"
        fitted[name] = _fit_split(split, name, models, action, notes)
    return dataclasses.replace(data, **fitted)


def _fit_split(split, name: str, models: Sequence, action: str, notes: list[str]):
    long = {model.role: is_overlong(split.texts, model) for model in models}
    any_long = np.any(list(long.values()), axis=0)
    if not any_long.any():
        return split
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
        notes.append(f"{name}: {any_long.sum()} of {len(split)} examples longer than {limit} tokens dropped")
        return split.only(~any_long)
    for model in models:
        if count := int(long[model.role].sum()):
            notes.append(
                f"{name}: {count} of {len(split)} examples truncated from the left to {model.max_length} tokens "
                f"for the {model.role} model"
            )
    return split


def encode(split_texts: Sequence[str], model) -> list[np.ndarray]:
    """Token ids of each text, int32, truncated from the left to what the model is given.

    Raises:
        UserError: a text without any token.
    """
    encoded = model.tokenizer.encode_batch(list(split_texts))
    empty = next((i for i, ids in enumerate(encoded) if not ids), None)
    if empty is not None:
        raise UserError(
            f"text {split_texts[empty]!r} has no token for the {model.role} model; remove its row"
        )
    return [np.array(ids[-model.max_length :], np.int32) for ids in encoded]
