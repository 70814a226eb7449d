"""Packing and order of batches: every example where it belongs, as often as it should be."""

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from selw2s_jax import sharding
from selw2s_jax.data import answer_tokens, batches, example_order

PROPERTY = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)
KINDS = (batches.TASK, batches.P_IK)


def example_set(lengths, *, kind: int = 0, zeros: bool = False) -> batches.ExampleSet:
    """Examples whose tokens and columns tell which one they are."""
    num = len(lengths)
    tokens = []
    for i, length in enumerate(lengths):
        ids = (kind + 1) * 100_000 + 100 * i + np.arange(length, dtype=np.int32) + 1
        tokens.append(np.where(np.arange(length) % 3 == 2, 0, ids).astype(np.int32) if zeros else ids)
    prob = (np.arange(num, dtype=np.float32) + 1) / (num + 1)
    if kind == batches.TASK:
        columns = {
            "weak_probs": np.stack([1 - prob, prob], axis=-1),
            "self_labels": prob**2,
            "given_p_ik": prob / 3,
        }
    else:
        columns = {"ik_target": prob}
    return batches.ExampleSet([f"{kind}/{i}" for i in range(num)], tokens, columns)


def assert_placed(batch: batches.Batch, sets: dict[int, batches.ExampleSet], openai_pooling: bool = False):
    """Every slot of weight 1 is found at its coordinates, and nothing else is in the rows."""
    _, num_rows, row_length = batch.tokens.shape
    covered = np.zeros(batch.tokens.shape, int)
    for micro, slot in zip(*np.nonzero(batch.weight), strict=True):
        kind, index = int(batch.kind[micro, slot]), int(batch.index[micro, slot])
        ids = sets[kind].tokens[index]
        row, last = int(batch.row[micro, slot]), int(batch.last[micro, slot])
        assert 0 <= row < num_rows and 0 <= last < row_length
        segment = batch.segment_ids[micro, row, last]
        columns = np.flatnonzero(batch.segment_ids[micro, row] == segment)
        assert segment > 0 and (np.diff(columns) == 1).all()
        np.testing.assert_array_equal(batch.tokens[micro, row, columns], ids)
        np.testing.assert_array_equal(batch.positions[micro, row, columns], np.arange(len(ids)))
        length = max(int((ids != 0).sum()), 1) if openai_pooling else len(ids)
        assert last == columns[0] + length - 1 and last in batch.reads[micro, row]
        covered[micro, row, columns] += 1
        for name, values in sets[kind].columns.items():
            np.testing.assert_array_equal(batch.columns[name][micro, slot], values[index])
    np.testing.assert_array_equal(covered, batch.segment_ids > 0)
    padded = batch.segment_ids == 0
    assert not batch.tokens[padded].any() and not batch.positions[padded].any()
    for row in batch.segment_ids.reshape(-1, row_length):
        used = row[row > 0]  # 1, 2, ... from the left, padding last
        np.testing.assert_array_equal(row[: len(used)], used)
        assert set(np.diff(used, prepend=0)) <= {0, 1}
    for values in (*batch[:7], batch.reads):
        assert values.dtype == np.int32
    for values in (batch.weight, *batch.columns.values()):
        assert values.dtype == np.float32


def kinds_and_indices(batch: batches.Batch) -> list[tuple[int, int]]:
    return sorted(zip(batch.kind.reshape(-1).tolist(), batch.index.reshape(-1).tolist(), strict=True))


def train_batches(sets, sizes, **options) -> batches.TrainBatches:
    options = {"num_steps": 7} | options
    return batches.TrainBatches(sets, sizes, **options)


@PROPERTY
@hypothesis.given(st.integers(1, 23), st.integers(1, 40), st.integers(0, 2**32), st.booleans())
def test_every_epoch_takes_every_example_once_across_batch_borders(num_examples, batch_size, seed, reshuffle):
    order = example_order.ExampleOrder(num_examples, batch_size, seed=seed, reshuffle=reshuffle)
    num_steps = -(-3 * num_examples // batch_size)
    stream = np.concatenate([order.indices(step) for step in range(num_steps)])
    epochs = [stream[start : start + num_examples] for start in range(0, 3 * num_examples, num_examples)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(num_examples))
    if not reshuffle:
        np.testing.assert_array_equal(epochs[1], epochs[0])
        np.testing.assert_array_equal(epochs[2], epochs[0])


def test_order_is_reshuffled_each_epoch_and_by_seed():
    epochs = [
        example_order.ExampleOrder(50, 50, seed=seed).indices(step) for seed, step in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_order_of_a_late_step_needs_no_earlier_one():
    order = example_order.ExampleOrder(5, 3, seed=4)
    in_turn = [order.indices(step) for step in range(40)]  # more epochs than are remembered
    for step in (39, 0, 17):
        np.testing.assert_array_equal(example_order.ExampleOrder(5, 3, seed=4).indices(step), in_turn[step])
        np.testing.assert_array_equal(order.indices(step), in_turn[step])


def test_an_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        example_order.ExampleOrder(0, 3, seed=0)


@PROPERTY
@hypothesis.given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=20),
    p_ik_lengths=st.lists(st.integers(1, 200), min_size=1, max_size=9),
    num_micro=st.sampled_from([1, 2, 3]),
    row_multiple=st.sampled_from([1, 4]),
    openai_pooling=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_train_batches_hold_their_examples(
    lengths, p_ik_lengths, num_micro, row_multiple, openai_pooling, seed
):
    sets = {
        batches.TASK: example_set(lengths, zeros=openai_pooling),
        batches.P_IK: example_set(p_ik_lengths, kind=batches.P_IK, zeros=openai_pooling),
    }
    data = train_batches(
        sets,
        {batches.TASK: 6, batches.P_IK: 3 * num_micro},
        num_micro=num_micro,
        row_multiple=row_multiple,
        openai_pooling=openai_pooling,
        seed=seed,
    )
    shapes, taken, used, slots = set(), [], 0, 0
    for step in range(data.num_steps):
        batch = data.batch_at(step)
        assert_placed(batch, sets, openai_pooling)
        assert batch.weight.all() and batch.weight.shape == (num_micro, 6 // num_micro + 3)
        assert batch.tokens.shape[0] == num_micro and batch.tokens.shape[1] % row_multiple == 0
        assert (batch.kind == batches.TASK).sum(axis=-1).tolist() == [6 // num_micro] * num_micro
        shapes.add(batch.tokens.shape[1:])
        used, slots = used + np.count_nonzero(batch.segment_ids), slots + batch.tokens.size
        names = [sets[kind].example_ids[index] for kind, index in kinds_and_indices(batch)]
        assert sorted(data.example_ids(step)) == sorted(names)
        taken += batch.index[batch.kind == batches.TASK].tolist()
    assert data.shapes == sorted(shapes) and len(shapes) <= 6
    assert data.padding_efficiency() == pytest.approx(used / slots)
    # 7 steps of 6: over whole epochs every example as often, whatever the batch borders.
    counts = np.bincount(taken, minlength=len(lengths))
    assert counts.max() - counts.min() <= 1


def test_a_batch_is_a_function_of_seed_and_step():
    sets = {batches.TASK: example_set(range(1, 30))}
    first = train_batches(sets, {batches.TASK: 8}, seed=3)
    in_turn = [first.batch_at(step) for step in range(7)]
    for step in (6, 2):
        fresh = train_batches(sets, {batches.TASK: 8}, seed=3).batch_at(step)
        jax.tree.map(np.testing.assert_array_equal, fresh, in_turn[step])
    other = train_batches(sets, {batches.TASK: 8}, seed=4).batch_at(2)
    assert kinds_and_indices(other) != kinds_and_indices(in_turn[2])


def test_returned_batches_share_no_memory():
    data = train_batches({batches.TASK: example_set(range(1, 30))}, {batches.TASK: 8})
    data.batch_at(0).tokens[:] = -1
    assert data.batch_at(0).tokens.min() >= 0


def test_streams_of_the_two_kinds_are_independent():
    task, p_ik = example_set(range(1, 24)), example_set(range(1, 24), kind=batches.P_IK)
    other_p_ik = example_set(range(5, 12), kind=batches.P_IK)
    alone = train_batches({batches.TASK: task}, {batches.TASK: 6})
    both = train_batches({batches.TASK: task, batches.P_IK: p_ik}, {batches.TASK: 6, batches.P_IK: 6})
    swapped = train_batches(
        {batches.P_IK: other_p_ik, batches.TASK: task}, {batches.P_IK: 4, batches.TASK: 6}
    )

    def of_kind(data, step, kind):
        batch = data.batch_at(step)
        return batch.index[batch.kind == kind].tolist()

    for step in range(7):
        expected = of_kind(alone, step, batches.TASK)
        assert of_kind(both, step, batches.TASK) == of_kind(swapped, step, batches.TASK) == expected
    # Sets of one size and batches of one size, yet another order.
    assert any(of_kind(both, step, batches.TASK) != of_kind(both, step, batches.P_IK) for step in range(7))


def test_micro_batches_hold_the_examples_of_the_whole_batch():
    sets = {kind: example_set(range(1, 30), kind=kind) for kind in KINDS}
    whole, parts = (
        train_batches(sets, dict.fromkeys(KINDS, 8), num_micro=num_micro, seed=5) for num_micro in (1, 4)
    )
    for step in range(7):
        assert kinds_and_indices(whole.batch_at(step)) == kinds_and_indices(parts.batch_at(step))
        assert sorted(whole.example_ids(step)) == sorted(parts.example_ids(step))


def test_without_reshuffling_epochs_repeat():
    sets = {batches.TASK: example_set(range(1, 13))}
    repeated, fresh = (
        train_batches(sets, {batches.TASK: 6}, reshuffle=reshuffle) for reshuffle in (False, True)
    )
    for step in (0, 1, 2):
        assert repeated.example_ids(step) == repeated.example_ids(step + 2) == repeated.example_ids(step + 4)
    assert fresh.example_ids(0) != fresh.example_ids(2)


@pytest.mark.parametrize("most_shapes", [1, 2, 6])
def test_shapes_change_no_step_but_its_rows(most_shapes):
    rng = np.random.default_rng(0)
    sets = {kind: example_set(rng.integers(5, 200, 90), kind=kind) for kind in KINDS}
    options = {"num_steps": 30, "row_multiple": 2, "num_micro": 2}
    data = train_batches(sets, dict.fromkeys(KINDS, 8), most_shapes=most_shapes, **options)
    other = train_batches(sets, dict.fromkeys(KINDS, 8), **options)
    assert len(data.shapes) <= most_shapes and (most_shapes == 1 or len(data.shapes) > 1)
    for step in range(30):
        ours, theirs = data.batch_at(step), other.batch_at(step)
        same = (ours.weight, ours.columns), (theirs.weight, theirs.columns)
        jax.tree.map(np.testing.assert_array_equal, *same)
        np.testing.assert_array_equal(ours.index, theirs.index)


def test_columns_of_any_name_are_where_their_examples_are_and_neutral_elsewhere():
    task, p_ik = example_set(range(1, 12)), example_set(range(1, 9), kind=batches.P_IK)
    num_steps, rng = 3, np.random.default_rng(5)
    task.columns["answers"] = rng.random((11, 4, 3), np.float32)
    task.columns_by_step["masks"] = rng.random((num_steps, 11), np.float32)
    p_ik.columns["example_weight"] = rng.random(8, np.float32)
    sizes = {batches.TASK: 4, batches.P_IK: 6}
    data = train_batches({batches.TASK: task, batches.P_IK: p_ik}, sizes, num_steps=num_steps, num_micro=2)
    for step in range(num_steps):
        batch = data.batch_at(step)
        is_task, columns = batch.kind == batches.TASK, batch.columns
        assert set(columns) == {*task.columns, "masks", *p_ik.columns}
        of_task, of_p_ik = batch.index[is_task], batch.index[~is_task]
        np.testing.assert_array_equal(columns["answers"][is_task], task.columns["answers"][of_task])
        np.testing.assert_array_equal(columns["masks"][is_task], task.columns_by_step["masks"][step, of_task])
        np.testing.assert_array_equal(columns["ik_target"][~is_task], p_ik.columns["ik_target"][of_p_ik])
        np.testing.assert_array_equal(batch.example_weight[~is_task], p_ik.columns["example_weight"][of_p_ik])
        assert (columns["weak_probs"][~is_task] == 0.5).all() and (
            columns["example_weight"][is_task] == 1
        ).all()
        assert not any(columns[name][~is_task].any() for name in ("answers", "masks", "self_labels"))
        assert not columns["ik_target"][is_task].any()


def test_a_batch_that_nobody_weighs_has_no_weights():
    data = train_batches({batches.TASK: example_set(range(1, 9))}, {batches.TASK: 4})
    assert data.batch_at(0).example_weight == 1.0


def test_a_column_of_two_shapes_is_refused():
    task, p_ik = example_set(range(1, 9)), example_set(range(1, 9), kind=batches.P_IK)
    p_ik.columns["weak_probs"] = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match=r"'weak_probs' is \(2,\) of some examples, \(\) of others"):
        train_batches({batches.TASK: task, batches.P_IK: p_ik}, dict.fromkeys(KINDS, 4))


def test_grids_are_split_by_rows_and_the_rest_is_whole():
    mesh = sharding.single_device_mesh()
    examples = example_set(range(2, 10))
    examples.columns[answer_tokens.COLUMN] = np.ones(8, np.float32)
    batch = train_batches({batches.TASK: examples}, {batches.TASK: 4}).batch_at(0)
    found = batches.shardings(batch, mesh)
    assert jax.tree.structure(found) == jax.tree.structure(batch)
    rows = sharding.logical_sharding(mesh, ("micro", "rows", "time"))
    grids = ("tokens", "positions", "segment_ids", "answers")
    for name in batch._fields:
        expected = rows if name in grids else sharding.replicated(mesh)
        assert set(jax.tree.leaves(getattr(found, name))) == {expected}, name


def test_a_batch_that_micro_batches_do_not_divide_is_refused():
    with pytest.raises(ValueError):
        train_batches({batches.TASK: example_set(range(1, 9))}, {batches.TASK: 5}, num_micro=2)


@PROPERTY
@hypothesis.given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    batch_tokens=st.sampled_from([1, 300, 1024, 5000]),
    row_multiple=st.sampled_from([1, 3]),
    openai_pooling=st.booleans(),
)
def test_score_batches_cover_every_example_once(lengths, batch_tokens, row_multiple, openai_pooling):
    examples = example_set(lengths, zeros=openai_pooling)
    bare = batches.ExampleSet(examples.example_ids, examples.tokens)
    scored, seen, row_lengths = np.full(len(lengths), -1), [], []
    for batch, members in batches.score_batches(
        examples.tokens,
        batch_tokens=batch_tokens,
        row_multiple=row_multiple,
        openai_pooling=openai_pooling,
    ):
        assert_placed(batch, {batches.TASK: bare}, openai_pooling)
        num_micro, num_rows, row_length = batch.tokens.shape
        assert num_micro == 1 and num_rows % row_multiple == 0 and row_length % 16 == 0
        assert row_length <= max(batch_tokens // row_multiple, max(lengths) + 15)
        assert num_rows <= row_multiple or num_rows * row_length <= batch_tokens + row_multiple * row_length
        np.testing.assert_array_equal(np.flatnonzero(batch.weight[0]), np.arange(len(members)))
        np.testing.assert_array_equal(batch.index[0, : len(members)], members)
        # What a model would score at (row, last), put back in order as `inference.classify` does.
        scored[members] = batch.tokens[0, batch.row[0], batch.last[0]][: len(members)]
        seen += members.tolist()
        row_lengths.append(row_length)
    assert sorted(seen) == list(range(len(lengths)))
    assert row_lengths == sorted(row_lengths, reverse=True) and len(set(row_lengths)) <= 2
    last = [max(np.count_nonzero(ids), 1) - 1 if openai_pooling else -1 for ids in examples.tokens]
    np.testing.assert_array_equal(scored, [ids[i] for ids, i in zip(examples.tokens, last, strict=True)])


def test_score_batches_have_one_shape_or_two():
    rng = np.random.default_rng(0)
    even, uneven = rng.integers(1, 400, size=500), np.r_[rng.integers(1, 40, size=900), 2000, 1990]
    for lengths, num_shapes in ((even, 1), (uneven, 2)):
        tokens = example_set(lengths).tokens
        found = list(batches.score_batches(tokens, batch_tokens=4096, row_multiple=2))
        assert len({(batch.tokens.shape, batch.weight.shape) for batch, _ in found}) == num_shapes
        assert lengths.sum() / sum(batch.tokens.size for batch, _ in found) > 0.85


def test_a_past_leaves_room_for_fewer_rows():
    tokens = example_set([60] * 200).tokens
    plain, behind = (
        next(batches.score_batches(tokens, batch_tokens=4096, past_slots=slots))[0].tokens.shape
        for slots in (0, 20_000)
    )
    assert plain[2] == behind[2] and behind[1] < plain[1] / 4


def test_reads_are_the_last_tokens_that_are_kept():
    tokens = example_set([5, 2, 9]).tokens
    ((batch, members),) = batches.score_batches(tokens, batch_tokens=32, keep=np.array([3, 2, 1]))
    assert batch.tokens.shape == (1, 1, 16) and members.tolist() == [2, 0, 1]
    assert batch.reads.tolist() == [[[8, 11, 12, 13, 14, 15, 0, 0]]]


def test_openai_pooling_counts_ids_that_are_not_0():
    tokens = [np.array([5, 0, 7, 0, 9], np.int32), np.array([0, 0], np.int32), np.array([3], np.int32)]
    ((plain, members),) = batches.score_batches(tokens, batch_tokens=128)
    ((openai, _),) = batches.score_batches(tokens, batch_tokens=128, openai_pooling=True)
    assert members.tolist() == [0, 1, 2]
    assert plain.last[0, :3].tolist() == [4, 6, 7]
    # Three of five ids count; no id counts as one; one of one.
    assert openai.last[0, :3].tolist() == [2, 5, 7]
    np.testing.assert_array_equal(openai.tokens, plain.tokens)
