"""What every model says of every test item, of all runs of some workdirs as one table."""

from collections.abc import Mapping
from typing import Any

from selw2s_jax.analysis import formats
from selw2s_jax.errors import UserError
from selw2s_jax.report import kept

_SUFFIXES = (".csv", ".parquet")


def check_name(path: str) -> None:
    """Checks the name of a file to write.

    Raises:
        UserError: it is of another format.
    """
    if not path.lower().endswith(_SUFFIXES):
        raise UserError(f"--predictions={path}: give a file that ends in {' or '.join(_SUFFIXES)}")


def encode(runs: Mapping[str, kept.Kept], path: str) -> bytes:
    """The content of a file by its name: CSV or parquet, with a column `run` first where there are several.

    Args:
        runs: by what the column says.

    Raises:
        UserError: a run has no predictions, or their columns differ.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for name, run in runs.items():
        table = run.predictions()
        if table is None:
            raise UserError(
                f"{run.folder} has no predictions of its last start: run the same config there again, finished stages "
                "are kept"
            )
        table = table.replace_schema_metadata(None)
        tables.append(table if len(runs) == 1 else table.add_column(0, "run", pa.repeat(name, len(table))))
    if any(table.schema != tables[0].schema for table in tables):
        raise UserError(
            "--predictions: some of the runs have class heads and some write their answers, which are other columns: "
            "give a file for each kind"
        )
    table = pa.concat_tables(tables)
    if path.lower().endswith(".csv"):
        return _csv(table)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()


def _csv(table: Any) -> bytes:
    columns = [column.to_pylist() for column in table.columns]
    return formats.csv_lines([table.column_names, *zip(*columns, strict=True)]).encode()
