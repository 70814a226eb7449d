"""What is written of each question, in the format that a file's name ends in: JSON lines, CSV or parquet."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from selw2s_jax.analysis import formats
from selw2s_jax.errors import UserError

_LINES = ("", ".jsonl", ".json", ".ndjson", ".txt")  # of a pipe or device the name has no end
_TABLES = (".csv", ".parquet")
# Of columns in parquet, so that they do not depend on what is null and files can be put together; others are float64.
_TYPES = {"example_id": "string", "text": "string", "used": "string", "class": "int64"}
_NESTED = {"few_shot": ("prob_1", "answer"), "weak": ("prob_1",), "smoothed": ("prob_1",)}


def check_name(path: os.PathLike | str, flag: str) -> str:
    """The end of a file's name.

    Raises:
        UserError: it is that of a format which is not written.
    """
    suffix = pathlib.PurePath(path).suffix.lower()
    if suffix not in (*_LINES, *_TABLES):
        raise UserError(f"{flag}={path}: files of {suffix} are not written; give a .jsonl, .csv or .parquet")
    return suffix


def encode(records: Sequence[dict[str, Any]], suffix: str) -> bytes:
    """The content of a file.

    In a table each value of `few_shot`, `weak` and `smoothed` has a column of its own, as `few_shot_prob_1`; what is
    null is an empty cell. In CSV a text that a spreadsheet would take for a formula has an apostrophe before it.

    Args:
        records: all with the same fields, at least one.
        suffix: as `check_name` gives it.
    """
    if suffix not in _TABLES:
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    columns = _columns(records)
    if suffix == ".csv":
        return formats.csv_lines([list(columns), *zip(*columns.values(), strict=True)]).encode()
    return _parquet(columns)


def _columns(records: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values of each field, those of the nested ones apart."""
    columns: dict[str, list[Any]] = {}
    for name in records[0]:
        if name not in _NESTED:
            columns[name] = [record[name] for record in records]
        for part in _NESTED.get(name, ()):
            columns[f"{name}_{part}"] = [(record[name] or {}).get(part) for record in records]
    return columns


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    is_written = any(isinstance(answer, str) for answer in columns["few_shot_answer"])
    types = _TYPES | {"few_shot_answer": "string" if is_written else "int64"}
    arrays = {name: pa.array(values, types.get(name, "float64")) for name, values in columns.items()}
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), buffer)
    return buffer.getvalue().to_pybytes()
