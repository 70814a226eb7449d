"""Numbers that belong to examples by their example_id: drawn for them, read from files, and joined to them.

Row order and row count never enter, so adding, dropping or reordering rows changes no other row's numbers.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import remote


def keyed_uniform(seed: int, purpose: str, key: str) -> float:
    """A uniform draw in [0, 1), 53 bits, the same on every machine and Python version.

    Args:
        seed: the base seed.
        purpose: what the draw decides (`coin`, `halves`, ...); draws of different purposes are independent.
        key: what it is drawn for, usually an example_id.
    """
    # The text parts are joined with a separator and the length of the purpose, so no two triples collide.
    message = f"{seed}:{len(purpose)}:{purpose}:{key}".encode()
    return (int.from_bytes(hashlib.sha256(message).digest()[:8], "big") >> 11) / 2**53


def read_values(path: str, field: str, low: float, high: float) -> dict[str, float]:
    """`{example_id: value}` from JSON lines of `{"example_id": ..., field: number}`, numbers within [low, high].

    Raises:
        UserError: naming the line that is wrong.
    """
    values = {}
    try:
        lines = remote.local_copy(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); give JSON lines of example_id and {field}"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, value = row["example_id"], float(row[field])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(
                f'{path}, line {number}: expected {{"example_id": text, "{field}": number}}'
            ) from error
        if not isinstance(name, str):
            raise UserError(f"{path}, line {number}: example_id {name!r} must be a text")
        if not low <= value <= high:
            raise UserError(f"{path}, line {number}: {field}={value} is outside [{low}, {high}]")
        if values.get(name, value) != value:
            raise UserError(f"{path}, line {number}: {name} has another {field} above; remove one of the two")
        values[name] = value
    return values


def join(values: dict[str, float | np.ndarray], ids: Sequence[str], where: str) -> np.ndarray:
    """Values, or arrays of one shape, in the order of the ids: `[N, ...]` float32.

    Raises:
        UserError: an id without a value.
    """
    missing = [name for name in ids if name not in values]
    if missing:
        raise UserError(
            f"{where} lacks {len(missing)} of {len(ids)} example_ids (first: {missing[0]}); make it for this split"
        )
    return np.array([values[name] for name in ids], np.float32)
