"""Rows and shapes: every example in one row that has room for it, every step in a shape that holds it."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from support import marks

from selw2s_jax.data import batches, packing, sources, tasks
from selw2s_jax.hf import tokenizers

ATTENTION_TOKENS = 4096
PROPERTY = hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@PROPERTY
@hypothesis.given(LENGTHS, st.integers(1, 45))
def test_balanced_rows_hold_every_example_once(lengths, num_rows):
    rows = packing.balance(lengths, num_rows)
    assert len(rows) == num_rows and sorted(i for row in rows for i in row) == list(range(len(lengths)))
    used = [sum(lengths[i] for i in row) for row in rows]
    # The last example of the fullest row went where the least was.
    assert max(used) - min(used) <= max(lengths)
    assert packing.row_length_needed(lengths, num_rows) == packing.round_up(max(used), 16)


@PROPERTY
@hypothesis.given(LENGTHS, st.integers(0, 40), st.integers(0, 200))
def test_filled_rows_hold_every_example_once(lengths, slack, more):
    row_lengths = (max(lengths) // 2 + slack, max(lengths) + slack + more)
    rows = packing.fill(lengths, row_lengths)
    assert sorted(i for _, row in rows for i in row) == list(range(len(lengths)))
    used = [sum(lengths[i] for i in row) for _, row in rows]
    for (row_length, row), total in zip(rows, used, strict=True):
        assert total <= row_length
        assert row_length == next(most for most in row_lengths if most >= lengths[row[0]])
    # No example went to a new row that an older one had room for.
    for (length, _), total, (_, later) in zip(rows, used, rows[1:], strict=False):
        assert length - total < lengths[later[0]]


@PROPERTY
@hypothesis.given(st.integers(1, 200), st.sampled_from([1, 2, 8, 24]))
def test_row_counts_are_multiples_up_to_one_example_per_row(num_examples, multiple):
    counts = packing.row_counts(num_examples, multiple)
    assert counts == sorted(set(counts)) and not any(count % multiple for count in counts)
    assert counts[-1] - num_examples in range(multiple) and len(counts) < 30


@PROPERTY
@hypothesis.given(
    st.lists(st.lists(st.integers(1, 90), min_size=8, max_size=8), min_size=1, max_size=12),
    st.integers(1, 6),
    st.sampled_from([1, 2, 4]),
)
def test_every_step_takes_the_cheapest_shape_that_holds_it(steps, most_shapes, multiple):
    needed = {
        count: np.array([packing.row_length_needed(step, count) for step in steps])
        for count in packing.row_counts(8, multiple)
    }
    shapes, taken = packing.choose_shapes(needed, most_shapes, ATTENTION_TOKENS)
    assert shapes == sorted(set(shapes)) and len(shapes) <= most_shapes
    assert set(taken) == set(range(len(shapes)))
    for step, index in enumerate(taken):
        fitting = [shape for shape in shapes if needed[shape.num_rows][step] <= shape.row_length]
        assert shapes[index] in fitting and shapes[index].cost(ATTENTION_TOKENS) == min(
            shape.cost(ATTENTION_TOKENS) for shape in fitting
        )
    # One shape is the best single one; more never cost more.
    candidates = [packing.Shape(n, int(length)) for n, needs in needed.items() for length in needs]
    best = min(s.cost(ATTENTION_TOKENS) for s in candidates if (needed[s.num_rows] <= s.row_length).all())
    total = sum(shapes[index].cost(ATTENTION_TOKENS) for index in taken)
    assert total <= best * len(steps) * (1 + 1e-9)
    if most_shapes == 1:
        assert total == pytest.approx(best * len(steps))


def test_two_shapes_are_nearly_the_best_two():
    rng = np.random.default_rng(0)
    steps = rng.integers(5, 60, (40, 12))
    needed = {
        n: np.array([packing.row_length_needed(list(step), n) for step in steps]) for n in (1, 2, 3, 4, 6, 12)
    }
    shapes, taken = packing.choose_shapes(needed, 2, ATTENTION_TOKENS)
    candidates = {packing.Shape(n, int(length)) for n, needs in needed.items() for length in needs}

    def total(pair) -> float:
        return sum(
            min(s.cost(ATTENTION_TOKENS) if needed[s.num_rows][k] <= s.row_length else np.inf for s in pair)
            for k in range(40)
        )

    best = min(map(total, itertools.combinations(candidates, 2)))
    assert sum(shapes[i].cost(ATTENTION_TOKENS) for i in taken) <= 1.01 * best


def test_rows_are_no_longer_than_filling_them_takes():
    """Each step has examples of 16 and of 96 tokens; rows of 96 are full with one of these, or with six of those."""
    lengths = [96] * 6 + [16] * 12
    counts = packing.row_counts(len(lengths), 1)
    needed = {n: np.full(10, packing.row_length_needed(lengths, n)) for n in counts}
    shapes, _ = packing.choose_filled_shapes(needed, 1, 10 * sum(lengths))
    assert shapes == [packing.Shape(8, 96)] and 8 in counts
    # One more token opens a ninth row or lengthens all: what fills most is taken, however long.
    needed = {n: np.full(10, packing.row_length_needed([*lengths, 1], n)) for n in counts}
    (shape,), _ = packing.choose_filled_shapes(needed, 1, 10 * (sum(lengths) + 1))
    assert (sum(lengths) + 1) / shape.num_slots >= 0.93 and shape.row_length > 96


_CASES = [(task, name) for name in ("gpt2", "qwen1") for task in ("sciq", "boolq", "cosmos_qa", "gsm8k")]
_QUICK = (("sciq", "gpt2"), ("gsm8k", "qwen1"))


@pytest.mark.parametrize(
    ("task", "tokenizer"),
    [
        *_QUICK,
        *(marks.in_ci(*case) for case in _CASES if case not in _QUICK),
    ],
)
def test_real_questions_fill_their_rows(real_data, task, tokenizer):
    """32 examples a step: at least 0.93 of the slots, in at most 6 shapes; scoring as much, in at most 2.

    Over the steps of a run: two epochs of 5,000 examples.
    """
    task = tasks.get_task(task)
    questions = sources.load_questions(task, "train", source=str(real_data))[:3000]
    texts = [example.text for example in tasks.convert(task, questions, mode="coin", seed=0)]
    encode = tokenizers.load_tokenizer(real_data / "tokenizers" / tokenizer).encode_batch
    tokens = [np.array(ids, np.int32) for ids in encode(texts)]
    examples = batches.ExampleSet([str(i) for i in range(len(tokens))], tokens)
    data = batches.TrainBatches({batches.TASK: examples}, {batches.TASK: 32}, num_steps=312)
    assert data.padding_efficiency() >= 0.93 and len(data.shapes) <= 6
    scored = [batch for batch, _ in batches.score_batches(tokens, batch_tokens=16_384)]
    assert len({batch.tokens.shape for batch in scored}) <= 2
    assert sum(map(len, tokens)) / sum(batch.tokens.size for batch in scored) >= 0.93
