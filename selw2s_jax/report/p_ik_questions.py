"""P(IK) of every question that it was tested on, as a run stores it beside results.json."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from selw2s_jax.runtime import storage


class TestKey(NamedTuple):
    """What tells the tests of P(IK) of a run apart; `distribution` is one of `results.DISTRIBUTIONS`."""

    method: str
    seed: int
    train_task: str
    test_task: str
    distribution: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "TestKey":
        """The key of an entry of "p_ik" in results.json."""
        return cls(*(entry[name] for name in cls._fields))


@dataclasses.dataclass(frozen=True, eq=False)
class Questions:
    """The questions of one test, in the order of their ids.

    Attributes:
        ids: example_id of each.
        texts: as the P(IK) head reads them.
        known: `[N]` bool, whether the few-shot answer is right.
        confidence: `[N]` float32, probability of the few-shot answer; NaN where answers are generated.
        p_ik: `[N]` float32.
    """

    ids: list[str]
    texts: list[str]
    known: np.ndarray
    confidence: np.ndarray
    p_ik: np.ndarray


def read(
    path: epath.Path, tests: Sequence[Mapping[str, Any]], texts: dict[str, str]
) -> dict[TestKey, Questions] | None:
    """The questions of the tests of a run; None where it has not stored any.

    Args:
        tests: "p_ik" of its results.json.
        texts: those read so far, which many runs share; this adds to it.

    Raises:
        KeyError, ValueError, OSError: the file is damaged, or its questions are not those of the tests.
    """
    import pyarrow.parquet as pq

    content = storage.read_bytes(path)
    if content is None:
        return None
    with pq.ParquetFile(io.BytesIO(content)) as file:
        columns = file.read()
    table = {name: columns[name].to_numpy() for name in columns.column_names}
    rows_of: dict[TestKey, list[int]] = {}
    for row, key in enumerate(zip(*(table[name].tolist() for name in TestKey._fields), strict=True)):
        rows_of.setdefault(TestKey(*key), []).append(row)
    known = table["known"].astype(bool)
    counts = {key: (len(rows), int(known[rows].sum())) for key, rows in rows_of.items()}
    if counts != {TestKey.of(entry): (entry["n"], entry["known"]) for entry in tests}:
        raise ValueError("the questions are not those that results.json is of")
    by_test = {}
    for key, rows in rows_of.items():
        rows = sorted(rows, key=table["example_id"].__getitem__)
        shared = {
            name: [texts.setdefault(text, text) for text in table[column][rows].tolist()]
            for name, column in (("ids", "example_id"), ("texts", "text"))
        }
        numbers = {name: table[name][rows].astype(np.float32) for name in ("confidence", "p_ik")}
        by_test[key] = Questions(**shared, known=known[rows], **numbers)
    return by_test
