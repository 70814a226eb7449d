"""Parquet files as tables and as Python values."""

import pathlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from selw2s_jax import errors

if TYPE_CHECKING:
    import pyarrow as pa

_GIT_LFS = b"version https://git-lfs"  # what a clone without Git LFS has in the place of a file


def read(path: str | pathlib.Path, columns: Collection[str] | None = None) -> "pa.Table":
    """The table in a parquet file, of `columns` alone if it has them all, else whole.

    Raises:
        UserError: not a parquet file, or a damaged one, or nothing that can be read twice, such as a pipe.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = pathlib.Path(path)
    if not path.is_file():  # a pipe would be waited for
        raise errors.UserError(f"{path} is missing or not a file; put a parquet file there")
    try:
        # ParquetFile, as read_table takes a folder named `a=b` for a partition.
        with pq.ParquetFile(path) as file:
            has_all = columns is not None and set(columns) <= set(file.schema_arrow.names)
            table = file.read(list(columns) if has_all else None)
        table.validate(full=True)
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        reason = errors.one_line(error)
        with path.open("rb") as file:
            if file.read(len(_GIT_LFS)) == _GIT_LFS:
                reason = "it is a pointer of Git LFS: git lfs pull fetches the file"
        raise errors.UserError(
            f"{path} cannot be read as parquet ({reason}); copy, download or write it again"
        ) from error
    return table


def repeated(table: "pa.Table", names: Collection[str]) -> str | None:
    """The first of the names that several columns have."""
    return next((name for name in names if table.schema.names.count(name) > 1), None)


def is_text(table: "pa.Table", name: str) -> bool:
    """Whether there is one column of that name, and it holds text."""
    import pyarrow as pa

    names, is_of = table.schema.names, pa.types
    if names.count(name) != 1:
        return False
    kind = table.schema.field(name).type
    return is_of.is_string(kind) or is_of.is_large_string(kind) or is_of.is_string_view(kind)


def values(table: "pa.Table", names: Sequence[str], where: str | pathlib.Path) -> list[list[Any]]:
    """The values of columns by their names, as Python has them.

    Raises:
        UserError: a type without values in Python, such as a date far away.
    """
    found = []
    for name in names:
        try:
            found.append(table.column(name).to_pylist())
        except (ValueError, OverflowError, ImportError, NotImplementedError) as error:
            raise errors.UserError(
                f"{where}: column '{name}' of type {table.column(name).type} cannot be read "
                f"({errors.one_line(error)}); write it as text or numbers"
            ) from error
    return found
