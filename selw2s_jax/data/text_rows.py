"""Rows of text for pretraining: whole documents packed in the order they come, each in a segment of its own."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

_OPEN_ROWS = 16


class TextBatch(NamedTuple):
    """Rows of one step. Leading axis M, the micro-batches."""

    tokens: np.ndarray  # [M, R, T] int32
    positions: np.ndarray  # [M, R, T] int32, restarting at each document
    segment_ids: np.ndarray  # [M, R, T] int32, 0 where padded
    loss_weights: np.ndarray  # [M, R, T] float32, of predicting the token after each position


class TextRows(NamedTuple):
    """Packed rows: `tokens` and `segment_ids`, both [N, T] int32."""

    tokens: np.ndarray
    segment_ids: np.ndarray


def pack_documents(documents: Iterable[Sequence[int]], *, num_rows: int, row_length: int) -> TextRows:
    """Fills rows with whole documents; a document goes to the first of the few open rows that has room.

    Where none has, the fullest open row is closed and becomes the next row of the result.

    Raises:
        ValueError: a document is longer than a row, or there are too few.
    """
    tokens, segment_ids = np.zeros((2, num_rows, row_length), np.int32)
    open_rows: list[list[Sequence[int]]] = [[] for _ in range(_OPEN_ROWS)]
    space = [row_length] * _OPEN_ROWS
    row = 0
    for ids in documents:
        if len(ids) > row_length:
            raise ValueError(f"a document of {len(ids)} tokens does not fit a row of {row_length}")
        place = next((i for i, free in enumerate(space) if free >= len(ids)), None)
        if place is None:
            place = space.index(min(space))
            _write_row(open_rows[place], tokens[row], segment_ids[row])
            row += 1
            if row == num_rows:
                return TextRows(tokens, segment_ids)
            open_rows[place], space[place] = [], row_length
        open_rows[place].append(ids)
        space[place] -= len(ids)
    raise ValueError(f"the documents fill {row} of {num_rows} rows")


def _write_row(documents: list[Sequence[int]], tokens: np.ndarray, segment_ids: np.ndarray) -> None:
    start = 0
    for segment, ids in enumerate(documents, start=1):
        tokens[start : start + len(ids)] = ids
        segment_ids[start : start + len(ids)] = segment
        start += len(ids)


class TextBatches:
    """The batches of a pretraining run, each row read once and in order.

    Args:
        rows: at least as many as all steps take.
        rows_per_step: rows of a step.
        num_micro: micro-batches in a step; divides `rows_per_step`.
        row_multiple: number of data-parallel groups, which the rows of a micro-batch are filled up to with padding.
        weighted: token id -> weight of predicting it in the loss; 1 for the others.
    """

    def __init__(
        self,
        rows: TextRows,
        *,
        rows_per_step: int,
        num_steps: int,
        num_micro: int = 1,
        row_multiple: int = 1,
        weighted: dict[int, float] | None = None,
    ):
        self.num_steps = num_steps
        self._rows, self._rows_per_step = rows, rows_per_step
        self._num_micro, self._row_multiple = num_micro, row_multiple
        self._weighted = weighted or {}

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole run, without padding."""
        return int(np.count_nonzero(self._rows.segment_ids[: self.num_steps * self._rows_per_step]))

    def example_ids(self, step: int) -> list[str]:
        """Names of the rows of one step."""
        first = step * self._rows_per_step
        return [f"row {row}" for row in range(first, first + self._rows_per_step)]

    def batch_at(self, step: int) -> TextBatch:
        """The batch of one step."""
        chosen = slice(step * self._rows_per_step, (step + 1) * self._rows_per_step)
        tokens, segment_ids = (array[chosen] for array in self._rows)
        is_last = np.ones(tokens.shape, bool)
        is_last[:, :-1] = segment_ids[:, 1:] != segment_ids[:, :-1]
        loss_weights = np.where(is_last | (segment_ids == 0), 0.0, 1.0).astype(np.float32)
        for token, weight in self._weighted.items():
            loss_weights[:, :-1][tokens[:, 1:] == token] *= weight
        parts = (tokens, _positions(segment_ids), segment_ids, loss_weights)
        micros = (part.reshape(self._num_micro, -1, part.shape[1]) for part in parts)
        padding = ((0, 0), (0, -(self._rows_per_step // self._num_micro) % self._row_multiple), (0, 0))
        return TextBatch(*(np.pad(micro, padding) for micro in micros))


def _positions(segment_ids: np.ndarray) -> np.ndarray:
    index = np.broadcast_to(np.arange(segment_ids.shape[1], dtype=np.int32), segment_ids.shape)
    is_start = np.ones(segment_ids.shape, bool)
    is_start[:, 1:] = segment_ids[:, 1:] != segment_ids[:, :-1]
    return index - np.maximum.accumulate(np.where(is_start, index, 0), axis=1)
