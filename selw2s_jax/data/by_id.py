"""Numbers that belong to examples by their example_id: drawn for them, read from files, and joined to them.

Row order and row count never enter, so adding, dropping or reordering rows changes no other row's numbers.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from selw2s_jax.data import rows
from selw2s_jax.errors import UserError


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

    CSV and parquet with these columns are read too.

    Raises:
        UserError: no such file, or the lines that are wrong, as `rows.describe` names them.
    """
    file = rows.find_file(path, f"give JSON lines of example_id and {field}")
    values: dict[str, float] = {}
    faults = []
    found = rows.read(file, ("example_id", field))
    for line, row in found:
        try:
            _add_value(values, row, field, low, high)
        except ValueError as error:
            faults.append((line, str(error)))
    if faults:
        raise UserError(f"{path}, {rows.describe(faults, len(found))}; mend or remove what is named")
    return values


def _add_value(
    values: dict[str, float], row: dict[str, Any] | ValueError, field: str, low: float, high: float
) -> None:
    try:
        if isinstance(row, ValueError):
            raise row
        name, value = row["example_id"], float(row[field])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        reason = f" ({error})" if isinstance(row, ValueError) else ""
        raise ValueError(f'expected {{"example_id": text, "{field}": number}}{reason}') from error
    if not isinstance(name, str):
        raise ValueError(f"example_id {rows.show(name)} must be a text")
    if not low <= value <= high:
        raise ValueError(f"{field}={value} is outside [{low}, {high}]")
    if values.get(name, value) != value:
        raise ValueError(f"{name} has another {field} above; remove one of the two")
    values[name] = value


def join(values: dict[str, float | np.ndarray], ids: Sequence[str], where: str) -> np.ndarray:
    """Values, or arrays of one shape, in the order of the ids: `[N, ...]` float32.

    Raises:
        UserError: an id without a value, or a value that is not finite.
    """
    _check_complete(values, ids, where)
    joined = np.array([values[name] for name in ids], np.float32)
    is_finite = np.isfinite(joined)
    wrong = np.flatnonzero(~is_finite.all(axis=tuple(range(1, joined.ndim))))
    if len(wrong):
        first = wrong[0]
        raise UserError(
            f"{where} holds {joined[first][~is_finite[first]].flat[0]} for {ids[first]}, which is no finite number; "
            "delete it, and run again to make it anew"
        )
    return joined


def join_texts(values: dict[str, str], ids: Sequence[str], where: str) -> np.ndarray:
    """Texts in the order of the ids: `[N]` of objects.

    Raises:
        UserError: an id without a text.
    """
    _check_complete(values, ids, where)
    return np.array([values[name] for name in ids], object)


def _check_complete(values: dict[str, Any], ids: Sequence[str], where: str) -> None:
    missing = [name for name in ids if name not in values]
    if missing:
        raise UserError(
            f"{where} lacks {len(missing)} of {len(ids)} example_ids (first: {missing[0]}); make it for this split"
        )
