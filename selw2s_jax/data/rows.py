"""Rows of a user's JSONL, CSV or parquet file, each with its line or with what is wrong with it.

JSONL has one object a line, CSV a header line; commas, or semicolons or tabs where the header has those, as
spreadsheets of some countries write them. Text is UTF-8, or UTF-16 or UTF-32 where the first bytes say so. Lines are
counted from 1, as an editor does (the header is line 1 of a CSV file), parquet rows from 1.
"""

import csv
import decimal
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import Any

from selw2s_jax.data import parquet
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import remote

FORMATS = (".jsonl", ".csv", ".parquet")

# Its line, and its values or what is wrong with the line as a whole.
Row = tuple[int, "dict[str, Any] | ValueError"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_DELIMITERS = (",", ";", "\t")
_MOST_SHOWN, _MOST_NUMBERS = 10, 100  # faults of a file: in words, and lines by their number


def find_file(path: os.PathLike | str, remedy: str = "check the path") -> pathlib.Path:
    """The file at a path, local or copied here.

    Raises:
        UserError: nothing there, or a folder, a pipe or a device, which cannot be read as a file is.
    """
    file = remote.local_copy(path)
    if not file.is_file():
        raise UserError(f"{path} is missing or not a file; {remedy}")
    return file


def read(file: pathlib.Path, wanted: Collection[str], *, texts: Collection[str] = ()) -> list[Row]:
    """All rows of a file by the format that its name ends in, JSONL where that is none.

    Args:
        wanted: the columns that are read; others may be whatever they are.
        texts: further columns, which are read where they are text.

    Raises:
        UserError: the file as a whole cannot be read.
    """
    try:
        match file.suffix.lower():
            case ".csv":
                return list(read_csv(file, wanted))
            case ".parquet":
                return list(read_parquet(file, wanted, texts))
            case _:
                return list(read_jsonl(file))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error}); check the file") from error


def read_jsonl(path: pathlib.Path) -> Iterator[Row]:
    """Blank lines are passed over."""
    try:
        lines = _LINE_END.split(_utf8(path))
    except UnicodeError as error:
        yield 1, ValueError(error.args[-1])
        return
    for line, content in enumerate(lines, 1):
        try:
            text = content.decode("utf-8-sig")
            if not text.strip():
                continue
            values = json.loads(text, object_pairs_hook=_object)
        except UnicodeDecodeError:
            yield line, ValueError("not UTF-8 text; save the file as UTF-8")
        except (ValueError, RecursionError) as error:
            yield line, ValueError(f"not a JSON object ({_reason(error)})")
        else:
            is_object = isinstance(values, dict)
            yield line, values if is_object else ValueError(f"not a JSON object: {show(values)}")


def read_csv(path: pathlib.Path, wanted: Collection[str]) -> Iterator[Row]:
    """Every cell is text. A quoted cell may hold line breaks: the line of a row is where it begins."""
    csv.field_size_limit(2**31 - 1)  # of the csv module, for all: a cell may be as long as a line of JSON
    try:
        content = _utf8(path).decode("utf-8-sig", "surrogateescape")
    except UnicodeError as error:
        yield 1, ValueError(error.args[-1])
        return
    file = io.StringIO(content, newline="")
    reader = csv.reader(file, strict=True, delimiter=_delimiter(content, wanted))
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
            if twice := [name for name in wanted if header and header.count(name) > 1]:
                yield begin, ValueError(f"the column {twice[0]} occurs twice")
                return
        elif cells:
            if len(cells) == len(header):
                yield begin, dict(zip(header, cells, strict=True))
            else:
                yield begin, ValueError(f"{len(cells)} cells under {len(header)} columns")
        begin = reader.line_num + 1


def read_parquet(path: pathlib.Path, wanted: Collection[str], texts: Collection[str] = ()) -> Iterator[Row]:
    """With those of the wanted columns that are there; where none is, one row of the names of all, for a message."""
    table = parquet.read(path)
    known = [name for name in dict.fromkeys(table.schema.names) if name in wanted]
    if not known:
        yield 1, dict.fromkeys(table.schema.names)
    elif twice := parquet.repeated(table, known):
        yield 1, ValueError(f"the column {twice} occurs twice")
    else:
        known += [name for name in texts if name not in known and parquet.is_text(table, name)]
        columns = parquet.values(table, known, path)
        for number, values in enumerate(zip(*columns, strict=True), 1):
            yield number, dict(zip(known, values, strict=True))


def _utf8(path: pathlib.Path) -> bytes:
    """A text file's bytes as UTF-8, whichever Unicode encoding its first bytes tell of."""
    content = path.read_bytes()
    encoding = json.detect_encoding(content[:4])
    if encoding.startswith("utf-8"):
        return content
    try:
        return content.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        name = encoding.upper()[:6]
        raise UnicodeError(
            f"not UTF-8 text (it begins as {name} and is damaged); save the file as UTF-8"
        ) from None


def _delimiter(content: str, wanted: Collection[str]) -> str:
    """What parts the cells: that by which most of the wanted columns are in the header, commas if in doubt."""
    first = next((line for line in io.StringIO(content, newline="") if line.strip()), "")

    def found(delimiter: str) -> int:
        cells = next(csv.reader([first], delimiter=delimiter), [])
        return len({cell.strip() for cell in cells} & set(wanted))

    return max(_DELIMITERS, key=found)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object none of whose names has two values."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values and values[name] != value:
            raise ValueError(f"{show(name)} occurs twice")
        values[name] = value
    return values


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return str(error) if str(error).endswith("occurs twice") else "too large"


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


def whole_number(value: Any) -> int | None:
    """A number without a fraction, also where a table library has made a float or a text of it: 1.0, "1.0"."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value.strip()
        return int(value.partition(".")[0]) if re.fullmatch(r"[+-]?[0-9]{1,9}(\.0*)?", value, re.A) else None
    if isinstance(value, float | decimal.Decimal):
        return int(value) if math.isfinite(value) and value == int(value) else None
    return value if isinstance(value, int) else None


def truth_value(value: Any) -> int | None:
    """A label 0 or 1 in any form: 1, 1.0, "1", true, "True"; None of anything else."""
    if isinstance(value, bool | str) and str(value).strip().lower() in ("false", "true"):
        return int(str(value).strip().lower() == "true")
    number = whole_number(value)
    return number if number in (0, 1) else None


def show(value: Any) -> str:
    """A value for an error message: one line of at most 40 characters, whatever it is."""
    if value is None:
        return "nothing"
    try:
        shown = ascii(value)
    except RecursionError:
        return "lists in lists without end"
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def describe(faults: list[tuple[int, str]], num_rows: int, unit: str = "line") -> str:
    """The bad rows of a file: how many, the first ones with their faults, the others by number.

    Args:
        faults: lines, and what is wrong there.
        unit: what is counted, "line" or "row".
    """
    shown = "; ".join(f"{unit} {line}: {fault}" for line, fault in faults[:_MOST_SHOWN])
    others = [str(line) for line, _ in faults[_MOST_SHOWN:]]
    if others:
        more = ", ".join(others[:_MOST_NUMBERS]) + (", ..." if len(others) > _MOST_NUMBERS else "")
        shown += f" (+{len(others)} more: {unit}{'s' * (len(others) > 1)} {more})"
    return shown if len(faults) == 1 else f"{len(faults)} of {num_rows} rows are bad: {shown}"
