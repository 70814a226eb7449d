"""Packed batches: several examples to a row of tokens, each with its own positions and segment.

A batch holds M micro-batches of R rows of T tokens and E example slots. Examples are found by the coordinates
of their last token; every per-example array is aligned with the slots, and a slot of weight 0 is padding.

What an example is trained on are columns, by name: made by the experiment, read by a label rule, carried here.
"""

import dataclasses
import itertools
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from selw2s_jax import sharding
from selw2s_jax.data import answer_tokens, example_order, packing

TASK, P_IK = 0, 1  # values of Batch.kind
EMBEDDINGS = "embeddings"  # name of the column [N, D] that stands for the tokens of examples which have none
# Fields of batches that are split over devices by rows: [M, R, ...].
_GRIDS = ("tokens", "positions", "segment_ids", "loss_weights", "answers")
# What padding and other kinds of examples hold of a column, 0 where nothing is said: probabilities stay probabilities,
# and examples that nobody weighs count for one.
_NEUTRAL = {"weak_probs": 0.5, "weak_each": 0.5, "example_weight": 1.0}
_SLOTS_MULTIPLE = 8
# Rows attend to the keys of a past besides their own, and memory grows with both. So a batch behind a long past has
# fewer rows: all its keys are at most this many times the slots of tokens that were asked for.
_MAX_KEYS = 8


class Batch(NamedTuple):
    """One step's examples. Leading axis M, the micro-batches; the graph spans them all."""

    tokens: np.ndarray  # [M, R, T] int32
    positions: np.ndarray  # [M, R, T] int32, restarting at each example
    segment_ids: np.ndarray  # [M, R, T] int32, 0 where padded
    index: np.ndarray  # [M, E] int32, into the example set of its kind
    row: np.ndarray  # [M, E] int32
    last: np.ndarray  # [M, E] int32, column of the last token
    kind: np.ndarray  # [M, E] int32, TASK or P_IK
    weight: np.ndarray  # [M, E] float32: 1 for an example, 0 for padding, and nothing between
    # [M, E, ...] float32 by name; neutral for padding and for kinds without the column.
    columns: dict[str, np.ndarray]
    answers: answer_tokens.Answers | None = None  # of examples with the column `answer_tokens.COLUMN`
    # [M, R, A] int32, the columns of each row's tokens that are read, among them `last` of every example.
    # By row, as devices have rows: so they neither send tokens to each other nor copy keys for each example.
    reads: np.ndarray | None = None

    @property
    def example_weight(self) -> np.ndarray | float:
        """`[M, E]` what an example counts for in the loss; 1.0 where nobody weighs any.

        A plain 1.0 leaves no trace in a compiled step, which then is the same, to the bit, as one without weights.
        """
        return self.columns.get("example_weight", 1.0)


@dataclasses.dataclass(frozen=True)
class ExampleSet:
    """Tokenised examples with what they are trained on; all of length N.

    Attributes:
        example_ids: their names.
        tokens: one int32 array of ids each, never empty; None where the column `EMBEDDINGS` stands for them.
        columns: arrays `[N, ...]` by name. "example_weight" is each one's weight in the loss, the others are for label
            rules, but for "ik_target" `[N]`, the probability of IK that P(IK) examples are trained on, and
            `answer_tokens.COLUMN`.
        columns_by_step: the same for values that change from step to step, `[num_steps, N, ...]`.
    """

    example_ids: Sequence[str]
    tokens: Sequence[np.ndarray] | None
    columns: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    columns_by_step: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def column_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every column, the shape of one example's values."""
        shapes = {name: column.shape[1:] for name, column in self.columns.items()}
        return shapes | {name: column.shape[2:] for name, column in self.columns_by_step.items()}

    def columns_at(self, step: int) -> dict[str, np.ndarray]:
        """`[N, ...]` columns as they are in one step."""
        return self.columns | {name: column[step] for name, column in self.columns_by_step.items()}

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(ids) for ids in self.tokens], np.int64)


def completion_examples(
    example_ids: Sequence[str],
    prompts: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
    weights: np.ndarray | None = None,
) -> ExampleSet:
    """Prompts with the answers that are written behind them, which are trained on.

    Args:
        prompts: token ids of each.
        answers: token ids of each, the end-of-text token among them.
        weights: `[N]` of each in the loss; None: 1.

    Raises:
        ValueError: a prompt or an answer has no tokens.
    """
    for name, prompt, answer in zip(example_ids, prompts, answers, strict=True):
        if not len(prompt) or not len(answer):
            raise ValueError(
                f"{name} has {len(prompt)} tokens of prompt and {len(answer)} of answer: give both"
            )
    columns = {answer_tokens.COLUMN: np.array([len(ids) for ids in answers], np.float32)}
    if weights is not None:
        columns["example_weight"] = np.asarray(weights, np.float32)
    joined = [np.concatenate(both).astype(np.int32) for both in zip(prompts, answers, strict=True)]
    return ExampleSet(example_ids, joined, columns)


def _empty(
    num_micro: int,
    num_rows: int,
    row_length: int,
    num_slots: int,
    num_reads: int,
    column_shapes: Mapping[str, tuple[int, ...]] = types.MappingProxyType({}),
) -> Batch:
    """A batch of padding alone."""
    grid, slots = (num_micro, num_rows, row_length), (num_micro, num_slots)
    return Batch(
        tokens=np.zeros(grid, np.int32),
        positions=np.zeros(grid, np.int32),
        segment_ids=np.zeros(grid, np.int32),
        index=np.zeros(slots, np.int32),
        row=np.zeros(slots, np.int32),
        last=np.zeros(slots, np.int32),
        kind=np.zeros(slots, np.int32),
        weight=np.zeros(slots, np.float32),
        columns={
            name: np.full((*slots, *shape), _NEUTRAL.get(name, 0.0), np.float32)
            for name, shape in column_shapes.items()
        },
        reads=np.zeros((num_micro, num_rows, num_reads), np.int32),
    )


def reads_needed(most: int) -> int:
    """Places in a row for so many tokens that are read: a power of two, so that few shapes are compiled."""
    return 1 << (max(most, 1) - 1).bit_length()


def _joint_shapes(sets: Iterable[ExampleSet]) -> dict[str, tuple[int, ...]]:
    """Shapes of the columns of all sets together.

    Raises:
        ValueError: two sets have a column of different shapes.
    """
    joint: dict[str, tuple[int, ...]] = {}
    for examples in sets:
        for name, shape in examples.column_shapes.items():
            if joint.setdefault(name, shape) != shape:
                raise ValueError(f"the column {name!r} is {joint[name]} of some examples, {shape} of others")
    return joint


def _place(
    batch: Batch,
    micro: int,
    rows: list[list[int]],
    tokens: Sequence[np.ndarray],
    openai_pooling: bool,
    keep: Sequence[int] | None = None,
):
    """Writes packed examples into one micro-batch; slot i is example i of `tokens`, read at its last `keep[i]`."""
    for row, members in enumerate(rows):
        start = num_read = 0
        for segment, slot in enumerate(members, start=1):
            ids = tokens[slot]
            stop = start + len(ids)
            batch.tokens[micro, row, start:stop] = ids
            batch.positions[micro, row, start:stop] = np.arange(len(ids))
            batch.segment_ids[micro, row, start:stop] = segment
            batch.row[micro, slot] = row
            # openai/weak-to-strong takes the number of ids != 0 for the length, though id 0 is a token ("!").
            length = max(np.count_nonzero(ids), 1) if openai_pooling else len(ids)
            batch.last[micro, slot] = start + length - 1
            own = min(1 if keep is None else keep[slot], length)
            batch.reads[micro, row, num_read : num_read + own] = np.arange(
                start + length - own, start + length
            )
            num_read += own
            batch.weight[micro, slot] = 1.0
            start = stop


class _Steps:
    """Which examples each step of a training run takes, with everything about them but their tokens.

    Args:
        sets: the examples of each kind, with their labels in `columns`.
        batch_sizes: examples of each kind in a step.
        num_steps: steps of the run.
        num_micro: micro-batches in a step; divides every batch size.
        seed: of the order of batches; each kind draws a stream of its own.
    """

    def __init__(
        self,
        sets: dict[int, ExampleSet],
        batch_sizes: dict[int, int],
        *,
        num_steps: int,
        num_micro: int = 1,
        seed: int = 0,
        reshuffle: bool = True,
    ):
        self.num_steps = num_steps
        self._sets = sets
        self._orders = {
            kind: example_order.ExampleOrder(
                len(examples.example_ids),
                batch_sizes[kind],
                seed=example_order.stream_seed(seed, kind),
                reshuffle=reshuffle,
            )
            for kind, examples in sets.items()
        }
        self.num_micro = num_micro
        self._column_shapes = _joint_shapes(sets.values())

    def example_ids(self, step: int) -> list[str]:
        """Names of the examples of one step."""
        return [self._sets[kind].example_ids[i] for micro in self._members(step) for kind, i in micro]

    def _members(self, step: int) -> list[list[tuple[int, int]]]:
        """(kind, index) of each slot of each micro-batch."""
        members: list[list[tuple[int, int]]] = [[] for _ in range(self.num_micro)]
        for kind, order in self._orders.items():
            for micro, chunk in enumerate(np.split(order.indices(step), self.num_micro)):
                members[micro].extend((kind, int(index)) for index in chunk)
        return members

    def _without_tokens(
        self, step: int, members: list[list[tuple[int, int]]], num_rows: int, row_length: int, num_reads: int
    ) -> Batch:
        """The batch of a step whose rows are still empty."""
        batch = _empty(self.num_micro, num_rows, row_length, len(members[0]), num_reads, self._column_shapes)
        columns = {kind: examples.columns_at(step) for kind, examples in self._sets.items()}
        for micro, slots in enumerate(members):
            batch.kind[micro], batch.index[micro] = np.transpose(slots)
            for kind, of_kind in columns.items():
                chosen = batch.kind[micro] == kind
                for name, column in of_kind.items():
                    batch.columns[name][micro, chosen] = column[batch.index[micro, chosen]]
        return batch


class EmbeddedBatches(_Steps):
    """The batches of one training run on embeddings, all of one shape: their examples are in no rows of tokens.

    Args are those of `TrainBatches` but for rows; the sets have the column `EMBEDDINGS`.
    """

    def batch_at(self, step: int) -> Batch:
        """The batch of one step, a pure function of the arguments of this object and the step."""
        batch = self._without_tokens(step, self._members(step), 0, 0, 0)
        batch.weight[:] = 1.0
        return batch

    @property
    def summary(self) -> dict[str, Any]:
        """How its rows are filled, for the summary of a run: there are none."""
        return {}


class TrainBatches(_Steps):
    """The batches of one training run, packed into few shapes of rows.

    Every step holds its own examples whatever the shapes; which one it takes is a function of all these arguments.

    Args:
        sets: the examples of each kind, with their labels in `columns`.
        batch_sizes: examples of each kind in a step.
        num_steps: steps of the run.
        num_micro: micro-batches in a step; divides every batch size.
        seed: of the order of batches; each kind draws a stream of its own.
        row_multiple: number of data-parallel groups, which the rows are divided over.
        most_shapes: shapes of rows in the run, each of which is compiled.

    Raises:
        ValueError: an answer is all of its example, or more.

    Attributes:
        num_tokens: of the examples of all steps.
        num_slots: of tokens in all rows, padding included.
    """

    def __init__(
        self,
        sets: dict[int, ExampleSet],
        batch_sizes: dict[int, int],
        *,
        num_steps: int,
        num_micro: int = 1,
        seed: int = 0,
        reshuffle: bool = True,
        row_multiple: int = 1,
        most_shapes: int = 6,
        openai_pooling: bool = False,
    ):
        super().__init__(
            sets, batch_sizes, num_steps=num_steps, num_micro=num_micro, seed=seed, reshuffle=reshuffle
        )
        self._lengths = {kind: examples.lengths for kind, examples in sets.items()}
        self._openai_pooling = openai_pooling
        counts = packing.row_counts(sum(batch_sizes[kind] for kind in sets) // num_micro, row_multiple)
        micros = [self._micro_lengths(step) for step in range(num_steps)]
        # All micro-batches of a step have one shape, as `lax.scan` over them needs: the longest row of any decides.
        needed = {
            num_rows: np.array(
                [max(packing.row_length_needed(micro, num_rows) for micro in step) for step in micros]
            )
            for num_rows in counts
        }
        self.num_tokens = sum(sum(map(sum, step)) for step in micros)
        self._shapes, self._taken = packing.choose_filled_shapes(
            needed, most_shapes, self.num_tokens // num_micro
        )
        self.num_slots = num_micro * sum(self._shapes[i].num_slots for i in self._taken)
        self._answer_counts = {
            kind: answer_tokens.checked_counts(
                examples.example_ids, examples.columns.get(answer_tokens.COLUMN), self._lengths[kind]
            )
            for kind, examples in sets.items()
        }
        self._has_answers = answer_tokens.COLUMN in self._column_shapes
        self._reads, self._answer_places = self._places_by_shape(micros)

    def _places_by_shape(self, micros: list[list[list[int]]]) -> tuple[list[int], list[int]]:
        """Places for the examples and for the answer tokens of a row, enough for all the steps that take a shape.

        Args:
            micros: of each step, `_micro_lengths`.
        """
        reads, places = [0] * len(self._shapes), [0] * len(self._shapes)
        for step, (taken, all_lengths) in enumerate(zip(self._taken, micros, strict=True)):
            packed = [packing.balance(lengths, self._shapes[taken].num_rows) for lengths in all_lengths]
            most = max(len(row) for rows in packed for row in rows)
            reads[taken] = max(reads[taken], reads_needed(most))
            if self._has_answers:
                needed = map(answer_tokens.places_needed, packed, self._micro_answers(step))
                places[taken] = max(places[taken], *needed)
        return reads, places

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The (rows, tokens) of a micro-batch that occur in the run."""
        return [tuple(shape) for shape in self._shapes]

    @property
    def answer_places(self) -> list[int]:
        """Of each of these, that a row has for answer tokens; 0 where examples have none."""
        return list(self._answer_places)

    def _micro_lengths(self, step: int) -> list[list[int]]:
        """Tokens of the example in each slot of each micro-batch."""
        return [[int(self._lengths[k][i]) for k, i in micro] for micro in self._members(step)]

    def _micro_answers(self, step: int) -> list[list[int]]:
        """Answer tokens of the example in each slot of each micro-batch."""
        return [[int(self._answer_counts[k][i]) for k, i in micro] for micro in self._members(step)]

    def batch_at(self, step: int) -> Batch:
        """The batch of one step, a pure function of the arguments of this object and the step."""
        members, taken = self._members(step), self._taken[step]
        shape, all_lengths = self._shapes[taken], self._micro_lengths(step)
        packed = [packing.balance(lengths, shape.num_rows) for lengths in all_lengths]
        batch = self._without_tokens(step, members, *shape, self._reads[taken])
        if self._has_answers:
            num_places = self._answer_places[taken]
            answers = answer_tokens.empty(len(members), shape.num_rows, num_places, len(members[0]))
            for micro, counts in enumerate(self._micro_answers(step)):
                answer_tokens.place(answers, micro, packed[micro], all_lengths[micro], counts)
            batch = batch._replace(answers=answers)
        for micro, (slots, rows) in enumerate(zip(members, packed, strict=True)):
            _place(batch, micro, rows, [self._sets[k].tokens[i] for k, i in slots], self._openai_pooling)
        return batch

    @property
    def largest_step(self) -> int:
        """A step whose batch has the largest shape: it needs the most memory."""
        costs = [shape.cost(packing.ATTENTION_TOKENS) for shape in self._shapes]
        return int(np.argmax(np.array(costs)[self._taken]))

    def padding_efficiency(self) -> float:
        """Share of token slots that hold a token, over the whole run."""
        return self.num_tokens / self.num_slots

    @property
    def summary(self) -> dict[str, Any]:
        """How its rows are filled, for the summary of a run."""
        return {"shapes": self.shapes, "padding_efficiency": self.padding_efficiency()}


def score_batches(
    tokens: Sequence[np.ndarray],
    *,
    batch_tokens: int,
    row_multiple: int = 1,
    past_slots: int = 0,
    keep: Sequence[int] | None = None,
    openai_pooling: bool = False,
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Batches for scoring every example once, of one shape or two, the longest rows first.

    So memory runs out at once or never.

    Args:
        tokens: ids of each example.
        batch_tokens: token slots of a batch, about.
        row_multiple: number of data-parallel groups.
        past_slots: keys that every row attends to besides its own.
        keep: last tokens of each example that are read, default 1.

    Yields:
        A batch with one micro-batch, and the indices into `tokens` of its slots of weight 1, in slot order.
    """
    rows = packing.scoring_rows([len(ids) for ids in tokens], batch_tokens // row_multiple)
    keep = [1] * len(tokens) if keep is None else np.asarray(keep).tolist()
    for row_length in sorted({length for length, _ in rows}, reverse=True):
        limit = min(batch_tokens, _MAX_KEYS * batch_tokens * row_length // (row_length + past_slots))
        packed = [members for length, members in rows if length == row_length]
        most_rows = packing.round_up(max(limit // row_length, 1), row_multiple)
        # The last batch is about as full as the others.
        num_batches = -(-len(packed) // most_rows)
        num_rows = packing.round_up(-(-len(packed) // num_batches), row_multiple)
        chunks = [packed[start : start + num_rows] for start in range(0, len(packed), num_rows)]
        most_slots = max(sum(map(len, chunk)) for chunk in chunks)
        num_reads = reads_needed(max(sum(keep[i] for i in row) for row in packed))
        for chunk in chunks:
            members = np.array([i for row in chunk for i in row])
            starts = np.cumsum([0, *map(len, chunk)])
            slots = [list(range(start, stop)) for start, stop in itertools.pairwise(starts.tolist())]
            batch = _empty(1, num_rows, row_length, packing.round_up(most_slots, _SLOTS_MULTIPLE), num_reads)
            own = [tokens[i] for i in members]
            _place(batch, 0, slots, own, openai_pooling, [keep[i] for i in members])
            batch.index[0, : len(members)] = members
            yield batch, members


def shardings(batch: NamedTuple, mesh: jax.sharding.Mesh) -> NamedTuple:
    """How a batch lies on the devices: grids of tokens split over the data-parallel axes, the rest whole on each.

    The loss is of all examples together, and what it needs of them is small beside the model's work on their tokens.

    Args:
        batch: a `Batch` or a `text_rows.TextBatch`, of arrays or shapes.

    Returns:
        The same structure of shardings.
    """
    rows = sharding.logical_sharding(mesh, ("micro", "rows", "time"))
    whole = sharding.replicated(mesh)
    return type(batch)(
        **{
            name: jax.tree.map(lambda _, placed=rows if name in _GRIDS else whole: placed, value)
            for name, value in batch._asdict().items()
        }
    )


def device_batch(batch: NamedTuple, mesh: jax.sharding.Mesh) -> NamedTuple:
    """Puts a batch, the same on every process, on the devices: see `shardings`."""
    return jax.tree.map(sharding.put, batch, shardings(batch, mesh))


def abstract_batch(batch: NamedTuple, mesh: jax.sharding.Mesh) -> NamedTuple:
    """`device_batch` without arrays: shapes with their shardings."""
    return jax.tree.map(
        lambda x, placed: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed),
        batch,
        shardings(batch, mesh),
    )
