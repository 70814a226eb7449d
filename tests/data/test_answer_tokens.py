"""Where batches say that answers are: every answer token once, with its example, and nothing else."""

import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from selw2s_jax.data import answer_tokens, batches


def make_examples(sizes, weights=None) -> batches.ExampleSet:
    """Examples of (prompt, answer) tokens, all of them different."""
    ends = np.cumsum([0, *(sum(size) for size in sizes)])
    tokens = [np.arange(start, start + sum(size)) for start, size in zip(ends, sizes, strict=False)]
    prompts = [ids[:prompt] for ids, (prompt, _) in zip(tokens, sizes, strict=True)]
    answers = [ids[prompt:] for ids, (prompt, _) in zip(tokens, sizes, strict=True)]
    return batches.completion_examples([f"q{i}" for i in range(len(sizes))], prompts, answers, weights)


@hypothesis.settings(max_examples=15, deadline=None, derandomize=True)
@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=25),
    st.integers(1, 3),
    st.integers(1, 5),
    st.sampled_from([1, 3]),
)
def test_every_answer_token_is_found_once(sizes, num_micro, batch_size, row_multiple):
    examples = make_examples(sizes)
    data = batches.TrainBatches(
        {batches.TASK: examples},
        {batches.TASK: batch_size * num_micro},
        num_steps=4,
        num_micro=num_micro,
        row_multiple=row_multiple,
    )
    widths = {}
    for step in range(4):
        batch = data.batch_at(step)
        num_rows, num_places = batch.answers.column.shape[1:]
        assert num_rows == batch.tokens.shape[1] and num_places % 8 == 0
        assert (
            widths.setdefault(batch.tokens.shape, num_places) == num_places
        )  # one compilation for each shape
        for micro in range(num_micro):
            found = {slot: [] for slot in range(batch_size)}
            for row in range(num_rows):
                slots, columns = batch.answers.slot[micro, row], batch.answers.column[micro, row]
                num_used = (slots < batch_size).sum()
                assert np.all(slots[num_used:] == batch_size) and np.all(columns[num_used:] == 0)
                for slot, column in zip(slots[:num_used], columns[:num_used], strict=True):
                    assert batch.row[micro, slot] == row
                    found[slot].append(batch.tokens[micro, row, column])
            for slot, tokens in found.items():
                index = batch.index[micro, slot]
                assert tokens == examples.tokens[index][-sizes[index][1] :].tolist()
                assert batch.columns[answer_tokens.COLUMN][micro, slot] == sizes[index][1]


def test_examples_without_answers_have_no_places():
    task = make_examples([(2, 3), (4, 1)])
    bare = batches.ExampleSet(task.example_ids, task.tokens)
    assert batches.TrainBatches({0: bare}, {0: 2}, num_steps=1).batch_at(0).answers is None
    mixed = batches.TrainBatches({0: task, 1: bare}, {0: 2, 1: 2}, num_steps=1).batch_at(0)
    used = mixed.answers.slot[mixed.answers.slot < 4]
    assert len(used) == 4 and np.all(mixed.kind[0, used] == batches.TASK)


def test_examples_are_prompts_with_answers_and_weights():
    examples = make_examples([(2, 3), (1, 1)], weights=[0.25, 0])
    np.testing.assert_array_equal(examples.columns["example_weight"], np.float32([0.25, 0]))
    assert [ids.tolist() for ids in examples.tokens] == [[0, 1, 2, 3, 4], [5, 6]]
    assert "example_weight" not in make_examples([(2, 3)]).columns


@pytest.mark.parametrize("sizes", [(0, 3), (2, 0)])
def test_a_prompt_and_an_answer_are_needed(sizes):
    message = f"q1 has {sizes[0]} tokens of prompt and {sizes[1]} of answer"
    with pytest.raises(ValueError, match=message):
        make_examples([(1, 1), sizes])


@pytest.mark.parametrize("count", [2.0, 3.0, 0.5, -1.0, np.nan])
def test_an_answer_that_does_not_fit_its_example(count):
    examples = make_examples([(1, 1), (1, 1)])
    examples.columns[answer_tokens.COLUMN][1] = count
    with pytest.raises(ValueError, match=re.escape(f"q1 has 2 tokens, of which {count} cannot be")):
        batches.TrainBatches({0: examples}, {0: 2}, num_steps=1)
