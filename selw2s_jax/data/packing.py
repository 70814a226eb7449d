"""Which examples share a row of tokens, and the few shapes of rows that a run is compiled for.

A row costs its slots, filled or not, and attention on top: every slot is compared with all of its row. So rows are
long enough to be filled, and no longer.
"""

import functools
import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Rows are multiples of what a bfloat16 array is tiled by.
TOKENS_MULTIPLE = 16
# Tokens of a row whose attention costs as much as all else: some 2,000 for GPT-2, more for wider models. A larger
# number gives longer rows, which fill better: they are tried in turn until this share of the slots is filled.
ATTENTION_TOKENS = 2048
_ATTENTION_TOKENS = (ATTENTION_TOKENS, 4096, 8192, 16_384)
_FILLED, _SCORING_FILLED = 0.93, 0.95
# A further shape is compiled where it saves this share of a run's cost, and that of so many of its steps.
_WORTH_A_SHAPE = 0.005
_STEPS_WORTH_A_SHAPE = 2
_WORTH_A_SCORING_SHAPE = 0.1
_STEPS_COMPARED = 2048
_LENGTHS_COMPARED = 24
_SCORING_LENGTHS = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


class Shape(NamedTuple):
    """Rows, and the tokens of each."""

    num_rows: int
    row_length: int

    @property
    def num_slots(self) -> int:
        """Of tokens, filled or not."""
        return self.num_rows * self.row_length

    def cost(self, attention_tokens: int) -> float:
        """In slots that see no others, where attention of rows of `attention_tokens` costs as much as all else."""
        return self.num_slots * (1 + self.row_length / attention_tokens)


def round_up(value: int, multiple: int) -> int:
    """The next multiple."""
    return -(-value // multiple) * multiple


def balance(lengths: Sequence[int], num_rows: int) -> list[list[int]]:
    """Divides examples over rows of about the same number of tokens, the longest first (Graham 1969).

    Args:
        lengths: tokens of each example.

    Returns:
        For each row the indices into `lengths` that it holds; every index appears once, and rows may be empty.
    """
    rows: list[list[int]] = [[] for _ in range(num_rows)]
    filled = [(0, row) for row in range(num_rows)]  # a heap: the emptiest row first, of equal ones the first
    # Ties by index: the rows are then a function of the lengths alone, on every process.
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        used, row = filled[0]
        rows[row].append(index)
        heapq.heapreplace(filled, (used + lengths[index], row))
    return rows


def fill(lengths: Sequence[int], row_lengths: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Best-fit decreasing: each example goes to the fullest row that has room for it, the longest first.

    Args:
        lengths: tokens of each example, none above the last of `row_lengths`.
        row_lengths: ascending; a new row is the shortest that holds its first example.

    Returns:
        Rows: their length and the indices into `lengths` that they hold; every index appears once.
    """
    rows: list[tuple[int, list[int]]] = []
    by_space: dict[int, list[int]] = {}
    spaces = 0  # bit s: some row has room for s tokens
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        fitting = spaces >> length  # its lowest bit that is set: the least space that is enough
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = by_space[space].pop()
            if not by_space[space]:
                spaces &= ~(1 << space)
        else:
            row, space = len(rows), next(most for most in row_lengths if most >= length)
            rows.append((space, []))
        rows[row][1].append(index)
        by_space.setdefault(space - length, []).append(row)
        spaces |= 1 << (space - length)
    return rows


def row_counts(num_examples: int, multiple: int) -> list[int]:
    """Numbers of rows to choose from for so many examples: multiples, up to a row for each example."""
    most = round_up(num_examples, multiple)
    # By a quarter each time: all steps of a run are packed with each of these counts, to compare them.
    counts, count = [], multiple
    while count < most:
        counts.append(count)
        count = max(round_up(count * 5 // 4, multiple), count + multiple)
    return [*counts, most]


def row_length_needed(lengths: Sequence[int], num_rows: int) -> int:
    """Tokens of the shortest rows, so many of them, that `balance` fits the examples into."""
    fullest = max(sum(lengths[i] for i in row) for row in balance(lengths, num_rows))
    return round_up(fullest, TOKENS_MULTIPLE)


def choose_filled_shapes(
    needed: dict[int, np.ndarray], most_shapes: int, num_tokens: int
) -> tuple[list[Shape], np.ndarray]:
    """`choose_shapes` of rows as short as they can be and still be filled.

    Args:
        num_tokens: of the examples of all steps.
    """
    for attention_tokens in _ATTENTION_TOKENS:
        shapes, taken = choose_shapes(needed, most_shapes, attention_tokens)
        if num_tokens >= _FILLED * sum(shapes[i].num_slots for i in taken):
            break
    return shapes, taken


def choose_shapes(
    needed: dict[int, np.ndarray], most_shapes: int, attention_tokens: int
) -> tuple[list[Shape], np.ndarray]:
    """The shapes that cost a run least.

    Args:
        needed: for each number of rows, `[num_steps]` tokens of the rows that each step needs.
        most_shapes: shapes allowed.
        attention_tokens: as for `Shape.cost`.

    Returns:
        The shapes, ascending, and `[num_steps]` the index of the one that each step takes: the cheapest that it fits.
    """
    num_steps = len(next(iter(needed.values())))
    # Long runs are judged by some of their steps, evenly spaced: the table has a row for every candidate.
    compared = np.unique(np.linspace(0, num_steps - 1, min(num_steps, _STEPS_COMPARED)).astype(int))
    candidates = [
        Shape(num_rows, int(length))
        for num_rows, lengths in needed.items()
        for length in np.unique(np.quantile(lengths, np.linspace(0, 1, _LENGTHS_COMPARED), method="higher"))
    ]

    def costs(shapes: Sequence[Shape], steps) -> np.ndarray:
        """`[num_shapes, num_steps]`, infinite where a step does not fit."""
        return np.stack(
            [
                np.where(needed[s.num_rows][steps] <= s.row_length, s.cost(attention_tokens), np.inf)
                for s in shapes
            ]
        )

    # One shape that holds every step comes first and stays, so that each step has one. Then greedily whichever lowers
    # the cost most, and exchanges until none does: local search, as for k-median problems.
    holds_all = [s for s in candidates if (needed[s.num_rows] <= s.row_length).all()]
    chosen = [candidates.index(min(holds_all, key=lambda s: s.cost(attention_tokens)))]
    table = costs(candidates, compared)
    best = table[chosen[0]]
    worth = max(_WORTH_A_SHAPE, _STEPS_WORTH_A_SHAPE / num_steps)
    while len(chosen) < most_shapes:
        totals = np.minimum(table, best).sum(axis=1)
        if best.sum() - totals.min() < worth * best.sum():
            break
        chosen.append(int(totals.argmin()))
        best = np.minimum(best, table[chosen[-1]])
    chosen = _exchange(table, chosen)
    shapes = sorted({candidates[i] for i in chosen})
    taken = costs(shapes, slice(None)).argmin(axis=0)
    used = np.unique(taken)
    return [shapes[i] for i in used], np.searchsorted(used, taken)


def _exchange(table: np.ndarray, chosen: list[int]) -> list[int]:
    """Replaces one choice at a time while that lowers the sum of each step's least cost; the first choice stays."""
    total, place = table[chosen].min(axis=0).sum(), 1
    unchanged = 0
    while unchanged < len(chosen) - 1:
        others = table[chosen[:place] + chosen[place + 1 :]].min(axis=0)
        totals = np.minimum(table, others).sum(axis=1)
        best = int(totals.argmin())
        unchanged += 1
        if totals[best] < total * (1 - 1e-9):  # sums of floats: without a margin two choices could alternate
            chosen[place], total, unchanged = best, totals[best], 0
        place = place % (len(chosen) - 1) + 1
    return chosen


def scoring_rows(lengths: Sequence[int], most_tokens: int) -> list[tuple[int, list[int]]]:
    """The rows that hold all examples at the least cost, as `fill` returns them; of one length, or of two.

    Where few examples are much longer than the others, they get rows of their own length.

    Args:
        lengths: tokens of each example.
        most_tokens: of a row, where no example is longer.
    """
    longest = round_up(max(lengths), TOKENS_MULTIPLE)
    one = [fill(lengths, (length,)) for length in _SCORING_LENGTHS if longest <= length <= most_tokens]
    one.append(fill(lengths, (longest,)))
    two = [fill(lengths, (length, longest)) for length in _SCORING_LENGTHS if length < longest]
    for attention_tokens in _ATTENTION_TOKENS:
        cost = functools.partial(_cost_of_rows, attention_tokens=attention_tokens)
        best = min(one, key=cost)
        best_of_two = min(two, key=cost, default=best)
        if cost(best_of_two) < (1 - _WORTH_A_SCORING_SHAPE) * cost(best):
            best = best_of_two
        if sum(lengths) >= _SCORING_FILLED * sum(length for length, _ in best):
            break
    return best


def _cost_of_rows(rows: list[tuple[int, list[int]]], attention_tokens: int) -> float:
    return sum(Shape(1, length).cost(attention_tokens) for length, _ in rows)
