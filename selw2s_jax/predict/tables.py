"""What is written of each question, in the format that a file's name ends in: JSON lines, CSV or parquet."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from etils import epath

from selw2s_jax.analysis import formats
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import places, storage

_LINES = ("", ".jsonl", ".json", ".ndjson", ".txt")  # of a pipe or device the name has no end
_TABLES = (".csv", ".parquet")


class Columns(NamedTuple):
    """What becomes of the fields of records in a table.

    Attributes:
        types: of columns in parquet, so that they do not depend on what is null and files can be put together; others
            are float64.
        nested: the parts of fields that have some, each of which has a column, as `few_shot_prob_1`.
    """

    types: Mapping[str, str]
    nested: Mapping[str, Sequence[str]] = MappingProxyType({})


def check_output(input_path: os.PathLike | str, output_path: os.PathLike | str) -> str:
    """Checks that the output can be written; the end of its name.

    Raises:
        UserError: it cannot, or is the input, or of a format which is not written.
    """
    suffix = check_name(output_path, "--output")
    places.check_output_file(output_path, "--output")
    output, source = (os.path.expanduser(path) for path in (output_path, input_path))
    if output == source or (
        os.path.isfile(output) and os.path.isfile(source) and os.path.samefile(output, source)
    ):
        raise UserError(f"--output={output_path} is the input; choose another file")
    return suffix


def write(
    output_path: os.PathLike | str, records: Sequence[dict[str, Any]], suffix: str, columns: Columns
) -> None:
    """Writes records as a file, whole or not at all; arguments as for `encode`.

    Raises:
        UserError: it cannot be written.
    """
    try:
        storage.write_bytes(epath.Path(output_path).expanduser(), encode(records, suffix, columns))
    except OSError as error:
        raise UserError(
            f"--output={output_path} cannot be written ({error.strerror}); choose another, or free space"
        ) from error


def check_name(path: os.PathLike | str, flag: str) -> str:
    """The end of a file's name.

    Raises:
        UserError: it is that of a format which is not written.
    """
    suffix = pathlib.PurePath(path).suffix.lower()
    if suffix not in (*_LINES, *_TABLES):
        raise UserError(f"{flag}={path}: files of {suffix} are not written; give a .jsonl, .csv or .parquet")
    return suffix


def encode(records: Sequence[dict[str, Any]], suffix: str, columns: Columns) -> bytes:
    """The content of a file.

    In a table what is null is an empty cell. In CSV a text that a spreadsheet would take for a formula has an
    apostrophe before it.

    Args:
        records: all with the same fields, at least one.
        suffix: as `check_name` gives it.
        columns: of a table.
    """
    if suffix not in _TABLES:
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    by_name = _by_name(records, columns.nested)
    if suffix == ".csv":
        return formats.csv_lines([list(by_name), *zip(*by_name.values(), strict=True)]).encode()
    return _parquet(by_name, columns.types)


def _by_name(records: Sequence[dict[str, Any]], nested: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
    """The values of each field, those of the nested ones apart."""
    found: dict[str, list[Any]] = {}
    for name in records[0]:
        if name not in nested:
            found[name] = [record[name] for record in records]
        for part in nested.get(name, ()):
            found[f"{name}_{part}"] = [(record[name] or {}).get(part) for record in records]
    return found


def _parquet(by_name: dict[str, list[Any]], types: Mapping[str, str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {name: pa.array(values, types.get(name, "float64")) for name, values in by_name.items()}
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), buffer)
    return buffer.getvalue().to_pybytes()
