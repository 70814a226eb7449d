"""Where the answers of packed examples are: an answer is an example's last tokens, and is all that is trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from selw2s_jax.data import packing

COLUMN = "answer_tokens"  # name of the column [N]: how many of an example's last tokens are its answer
_MULTIPLE = 8


class Answers(NamedTuple):
    """The answer tokens of packed rows, in each row one after the other and padding behind them."""

    column: np.ndarray  # [M, R, A] int32, of the token in its row; 0 for padding
    slot: np.ndarray  # [M, R, A] int32, of its example; E for padding


def empty(num_micro: int, num_rows: int, num_places: int, num_slots: int) -> Answers:
    """Padding alone: `num_places` in a row, for batches of `num_slots` examples."""
    shape = (num_micro, num_rows, num_places)
    return Answers(np.zeros(shape, np.int32), np.full(shape, num_slots, np.int32))


def place(
    answers: Answers, micro: int, rows: list[list[int]], lengths: Sequence[int], counts: Sequence[int]
) -> None:
    """Writes the answers of packed examples into one micro-batch.

    Args:
        rows: the slots that each row holds, one behind the other.
        lengths, counts: by slot, tokens of the example and of its answer.
    """
    for row, members in enumerate(rows):
        used = at = 0
        for slot in members:
            at += lengths[slot]
            end = used + counts[slot]
            answers.column[micro, row, used:end] = np.arange(at - counts[slot], at)
            answers.slot[micro, row, used:end] = slot
            used = end


def places_needed(rows: list[list[int]], counts: Sequence[int]) -> int:
    """Places in a row that hold the answers of any of these rows: a few more, so that few shapes are compiled."""
    most = max(sum(counts[slot] for slot in members) for members in rows)
    return packing.round_up(max(most, 1), _MULTIPLE)


def checked_counts(
    example_ids: Sequence[str], counts: np.ndarray | None, lengths: Sequence[int]
) -> np.ndarray:
    """`[N]` int64 answer tokens of examples, 0 where `counts` is None.

    Raises:
        ValueError: an answer is all of its example, so that nothing predicts its first token, or more.
    """
    counts = np.zeros(len(example_ids)) if counts is None else counts
    for name, count, length in zip(example_ids, counts, lengths, strict=True):
        if not 0 <= count < length or count != int(count):
            raise ValueError(f"{name} has {length} tokens, of which {count} cannot be its answer")
    return np.asarray(counts, np.int64)
