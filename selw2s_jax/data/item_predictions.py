"""predictions.parquet: what every model of a run says of every test item; each accuracy can be computed again from it.

A row for each item, method and seed. `COLUMNS` are those of runs with class heads; where models write their answers,
`ANSWER` is one more, and `label` a text:

- task: that the models were trained for; test: whose test questions they answer, mostly the same.
- method: "weak", "ceiling" or a student; of several weak models "weak-0" and so on too; "few-shot answers" are those of
  the untouched strong model, where the run has them.
- seed, example_id.
- label: 0 or 1; the right answer as text where models write; null where the untouched model wrote at length.
- probability: of class 1, float32; null where an answer was written.
- correct: whether the probability is above 0.5 just where the label is 1; whether the written answer is the right one.
- text: the question, without instruction and solved problems; as models that write are asked it.
- answer: what was read out of a written answer; "" for none.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from selw2s_jax import errors
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import storage

FILE = "predictions.parquet"  # beside results.json
SCHEMA_VERSION = 1  # raised when a column changes its meaning or goes
ANSWER = "answer"
COLUMNS = ("task", "test", "method", "seed", "example_id", "label", "probability", "correct", "text")
_METADATA = b"selw2s_jax"
# Texts of many models are written once for up to a million rows, however long they are.
_DICTIONARY_BYTES = 1 << 30


class Test(NamedTuple):
    """Test questions that models answer.

    Attributes:
        name: of the task that they are of.
        ids: `[N]` example_ids.
        labels: `[N]` integers, or right answers as text; None where there is neither.
        texts: `[N]`.
    """

    name: str
    ids: Sequence[str]
    labels: Sequence[int] | Sequence[str] | np.ndarray | None
    texts: Sequence[str]


class Predicted(NamedTuple):
    """What a model of one seed says of test questions.

    Attributes:
        test: the questions; those that models share are one object.
        correct: `[N]` bool.
        probabilities: `[N]` float32 of class 1; None where answers are written.
        answers: `[N]` written ones, as text.
    """

    test: Test
    method: str
    seed: int
    correct: np.ndarray
    probabilities: np.ndarray | None = None
    answers: Sequence[str] | None = None


def judged(test: Test, method: str, seed: int, probabilities: np.ndarray) -> Predicted:
    """Predictions by probabilities of class 1 `[N]`."""
    correct = (probabilities > 0.5) == np.asarray(test.labels).astype(bool)
    return Predicted(test, method, seed, correct, probabilities)


def write(folder: epath.PathLike, task: str, parts: Sequence[Predicted], run: str) -> None:
    """Writes the file into a run's folder, whole or not at all. Without parts that of an earlier run is removed.

    Args:
        task: that the models were trained for.
        run: what tells the run from others, as `run.manifests.identity` says.
    """
    path = epath.Path(folder) / FILE
    if parts:
        storage.write_bytes(path, _encode(task, parts, run))
    else:
        storage.remove_file(path)


def _encode(task: str, parts: Sequence[Predicted], run: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {part.test.labels is not None and isinstance(part.test.labels[0], str) for part in parts}
    is_text = kinds == {True}  # a run's models all answer alike
    # Columns of a test are made once, and stand in the table as often as models answer it, without a copy.
    made: dict[int, dict[str, Any]] = {}
    for test in (part.test for part in parts):
        if id(test) not in made:
            labels = [None] * len(test.ids) if test.labels is None else np.asarray(test.labels)
            made[id(test)] = {
                "example_id": pa.array(test.ids, pa.string()),
                "label": pa.array(labels, pa.string() if is_text else pa.int8()),
                "text": pa.array(test.texts, pa.string()),
            }
    columns: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, *([ANSWER] if is_text else []))}
    for part in parts:
        num = len(part.test.ids)
        same = {"task": task, "test": part.test.name, "method": part.method, "seed": part.seed}
        of_part = {name: pa.repeat(pa.scalar(value), num) for name, value in same.items()}
        of_part |= made[id(part.test)]
        probabilities = [None] * num if part.probabilities is None else part.probabilities
        of_part["probability"] = pa.array(probabilities, pa.float32())
        of_part["correct"] = pa.array(part.correct, pa.bool_())
        if is_text:
            of_part[ANSWER] = pa.array(part.answers, pa.string())
        for name, chunks in columns.items():
            chunks.append(of_part[name])
    table = pa.table({name: pa.chunked_array(chunks) for name, chunks in columns.items()})
    about = {"schema_version": SCHEMA_VERSION, "run": run}
    table = table.replace_schema_metadata({_METADATA: json.dumps(about).encode()})
    buffer = pa.BufferOutputStream()
    settings = {"dictionary_pagesize_limit": _DICTIONARY_BYTES, "write_page_checksum": True}
    pq.write_table(table, buffer, compression="zstd", **settings)
    return buffer.getvalue().to_pybytes()


def read(folder: epath.PathLike, run: str, columns: Sequence[str] | None = None) -> Any:
    """The file of a run's folder as a `pyarrow.Table`; None where there is none of this run.

    Args:
        run: as of `write`; a file of another run, which was started here since or before, is none.
        columns: that are wanted; all without.

    Raises:
        UserError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = epath.Path(folder) / FILE
    content = storage.read_bytes(path)
    if content is None:
        return None
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            schema, table = file.schema_arrow, file.read(columns)
        about: Mapping[str, Any] = json.loads((schema.metadata or {})[_METADATA])
        is_whole = set(COLUMNS) <= set(schema.names) and isinstance(about["schema_version"], int)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, pa.ArrowException) as error:
        raise UserError(
            f"{path} cannot be read ({errors.one_line(error)}); run the same config again to write it anew"
        ) from error
    if not is_whole:
        raise UserError(
            f"{path} has not the columns of predictions; run the same config again to write it anew"
        )
    return table if about.get("run") == run else None
