"""Rows of a user's JSONL, CSV or parquet file, each with its line or with what is wrong with it.

JSONL has one object a line, CSV a header line; both are UTF-8. Lines are counted from 1, as an editor does (the header
is line 1 of a CSV file), parquet rows from 1.
"""

import csv
import json
import pathlib
from collections.abc import Collection, Iterator
from typing import Any

from selw2s_jax.data import sources

# Its line, and its values or what is wrong with the line as a whole.
Row = tuple[int, "dict[str, Any] | ValueError"]


def read_jsonl(path: pathlib.Path) -> Iterator[Row]:
    """Blank lines are passed over."""
    with path.open("rb") as file:
        for line, content in enumerate(file, 1):
            try:
                text = content.decode("utf-8-sig" if line == 1 else "utf-8")
                if not text.strip():
                    continue
                values = json.loads(text)
            except UnicodeDecodeError:
                yield line, ValueError("not UTF-8 text; save the file as UTF-8")
            except (ValueError, RecursionError) as error:
                yield line, ValueError(f"not a JSON object ({getattr(error, 'msg', 'too large')})")
            else:
                is_object = isinstance(values, dict)
                yield line, values if is_object else ValueError(f"not a JSON object: {show(values)}")


def read_csv(path: pathlib.Path) -> Iterator[Row]:
    """Every cell is text. A quoted cell may hold line breaks: the line of a row is where it begins."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        header: list[str] | None = None
        begin = 1
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # The reader cannot tell where the next row begins.
                yield begin, ValueError(f"not CSV ({error})")
                return
            if header is None:
                header = [cell.strip() for cell in cells] if cells else None
                if header and len(set(header)) < len(header):
                    yield begin, ValueError("a column name occurs twice")
                    return
            elif cells:
                if len(cells) == len(header):
                    yield begin, dict(zip(header, cells, strict=True))
                else:
                    yield begin, ValueError(f"{len(cells)} cells under {len(header)} columns")
            begin = reader.line_num + 1


def read_parquet(path: pathlib.Path, wanted: Collection[str]) -> Iterator[Row]:
    """With those of the wanted columns that are there; where none is, one row of the names of all, for a message."""
    table = sources.read_parquet(path)
    known = [name for name in table.schema.names if name in wanted]
    if not known:
        yield 1, dict.fromkeys(table.schema.names)
        return
    yield from enumerate(table.select(known).to_pylist(), 1)


def text(values: dict[str, Any], column: str) -> str:
    """A row's text in a column; ValueError that says what is wrong where it has none."""
    value = values.get(column)
    if not isinstance(value, str):
        raise ValueError(f"{column} must be text, found {show(value)}")
    if not value.strip():
        raise ValueError(f"{column} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{column} is not UTF-8 text") from None
    return value


def show(value: Any) -> str:
    """A value for an error message: one line of at most 40 characters, whatever it is."""
    if value is None:
        return "nothing"
    shown = ascii(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
