"""Sampling, halves, shots and prompts."""

import hypothesis
import pytest
from hypothesis import strategies as st

from selw2s_jax import errors
from selw2s_jax.analysis import metrics
from selw2s_jax.data import prompts, splits, tasks


def make_examples(group_sizes: list[int]) -> list[tasks.Example]:
    return [
        tasks.Example(
            f"t/train/{group}:{point}", f"t/train/{group}", f"text {group} {point}", (group + point) % 2
        )
        for group, size in enumerate(group_sizes)
        for point in range(size)
    ]


example_lists = st.lists(st.integers(1, 4), min_size=2, max_size=20).map(make_examples)


@hypothesis.given(example_lists, st.integers(0, 99), st.sampled_from(splits.SAMPLES))
def test_halves_are_disjoint_whole_and_even(examples, seed, sample):
    weak, student = splits.sample_and_halve(examples, num_train=None, seed=seed, sample=sample)
    assert sorted(weak + student, key=str) == sorted(examples, key=str)
    weak_groups, student_groups = ({example.group for example in half} for half in (weak, student))
    assert not weak_groups & student_groups
    assert len(student_groups) - len(weak_groups) in (0, 1)


@hypothesis.given(example_lists, st.integers(0, 99), st.integers(8, 30), st.randoms(use_true_random=False))
def test_halves_do_not_depend_on_row_order(examples, seed, num_train, random):
    expected = splits.sample_and_halve(examples, num_train=num_train, seed=seed)
    shuffled = list(examples)
    random.shuffle(shuffled)
    assert splits.sample_and_halve(shuffled, num_train=num_train, seed=seed) == expected


@hypothesis.given(example_lists, st.integers(4, 40), st.integers(0, 9), st.sampled_from(splits.SAMPLES))
def test_sample_is_within_the_limit_and_of_whole_groups(examples, limit, seed, sample):
    taken = splits.sample_examples(examples, limit, seed=seed, sample=sample)
    assert len(taken) <= limit
    assert len(taken) > limit - 4 or len(taken) == len(examples)
    groups = {example.group for example in taken}
    assert taken == [example for example in examples if example.group in groups]
    if sample == "first":
        assert taken == examples[: len(taken)]


@hypothesis.given(example_lists, st.integers(0, 99), st.floats(0.01, 0.99))
def test_what_is_held_out_is_whole_groups_in_their_order(examples, seed, share):
    kept, held = splits.hold_out(examples, share, seed=seed)
    assert kept and held
    groups = {example.group for example in held}
    assert kept == [example for example in examples if example.group not in groups]
    assert held == [example for example in examples if example.group in groups]
    num_groups = len({example.group for example in examples})
    assert len(groups) == min(max(round(share * num_groups), 1), num_groups - 1)
    more = {example.group for example in splits.hold_out(examples, (1 + share) / 2, seed=seed)[1]}
    assert groups <= more, "a smaller share is part of a larger one"


def test_of_one_question_nothing_is_held_out():
    with pytest.raises(errors.UserError, match=r"evaluation\.held_out=0\.5 of 1 question"):
        splits.hold_out(make_examples([3]), 0.5, seed=0)


def test_one_point_per_question_gives_exact_sizes():
    examples = make_examples([1] * 57)
    weak, student = splits.sample_and_halve(examples, num_train=33, seed=0)
    assert (len(weak), len(student)) == (16, 17)
    assert len(splits.sample_examples(examples, 10, seed=0)) == 10
    other_weak, _ = splits.sample_and_halve(examples, num_train=33, seed=1)
    assert {example.example_id for example in weak} != {example.example_id for example in other_weak}


def test_bad_limits_and_samples():
    examples = make_examples([2, 2])
    with pytest.raises(errors.UserError, match="leaves no whole question"):
        splits.sample_examples(examples, 1, seed=0)
    with pytest.raises(errors.UserError, match="cannot be halved"):
        splits.sample_and_halve(examples, num_train=2, seed=0)
    with pytest.raises(errors.UserError, match="random, first"):
        splits.sample_examples(examples, 1, seed=0, sample="last")


@hypothesis.given(
    st.lists(st.integers(1, 3), min_size=14, max_size=20).map(make_examples),
    st.sampled_from([0, 2, 4, 6]),
    st.integers(0, 99),
    st.randoms(use_true_random=False),
)
def test_shots_are_balanced_distinct_and_fixed(examples, num_shots, seed, random):
    shots = splits.pick_shots(examples, num_shots=num_shots, seed=seed)
    assert sorted(shot.label for shot in shots) == [0] * (num_shots // 2) + [1] * (num_shots // 2)
    assert len({shot.group for shot in shots}) == num_shots
    shuffled = list(examples)
    random.shuffle(shuffled)
    assert splits.pick_shots(shuffled, num_shots=num_shots, seed=seed) == shots


@hypothesis.given(st.integers(0, 9), st.integers(0, 5), st.integers(0, 99), st.randoms(use_true_random=False))
def test_shots_with_solutions_are_any_questions(more, num_shots, seed, random):
    examples = [
        tasks.Example(f"t/train/{row}", f"t/train/{row}", f"text {row}", 0, f"#### {row}")
        for row in range(num_shots + more)
    ]
    shots = splits.pick_shots(examples, num_shots=num_shots, seed=seed)
    assert len(set(shots)) == num_shots and set(shots) <= set(examples)
    random.shuffle(examples)
    assert splits.pick_shots(examples, num_shots=num_shots, seed=seed) == shots
    # One more shot adds to those there were.
    if more:
        assert splits.pick_shots(examples, num_shots=num_shots + 1, seed=seed)[:-1] == shots


def test_shots_of_other_tasks_are_what_they_were():
    # Fixed: prompts and cached answers of earlier runs depend on them.
    shots = splits.pick_shots(make_examples([1, 2, 3, 1, 1, 2, 1]), seed=5)
    assert [shot.example_id for shot in shots] == ["t/train/2:0", "t/train/3:0", "t/train/0:0", "t/train/1:0"]


def test_order_of_shots_is_mixed():
    examples = make_examples([1] * 30)
    orders = {tuple(shot.label for shot in splits.pick_shots(examples, seed=seed)) for seed in range(60)}
    assert len(orders) == 6


def test_shots_that_cannot_be_had():
    examples = [example for example in make_examples([1] * 9) if example.label == 0]
    with pytest.raises(errors.UserError, match="2 questions of label 1, found 0"):
        splits.pick_shots(examples, seed=0)
    with pytest.raises(errors.UserError, match="must be even"):
        splits.pick_shots(examples, num_shots=3, seed=0)
    solved = [tasks.Example(name, name, name, 0, "#### 1") for name in "abc"]
    with pytest.raises(errors.UserError, match="4 shots need 4 solved questions, found 3; raise"):
        splits.pick_shots(solved, seed=0)
    with pytest.raises(errors.UserError, match="-1; it must be 0 or more"):
        splits.pick_shots(solved, num_shots=-1, seed=0)


def test_majority_class_accuracy():
    assert metrics.majority_class_accuracy([1, 1, 0, 1]) == 0.75
    assert metrics.majority_class_accuracy([0, 0, 0]) == 1.0
    with pytest.raises(ValueError, match="no labels"):
        metrics.majority_class_accuracy([])


def test_few_shot_prompt():
    shots = [("Q: x A: y", 1), ("Q: z A: w", 0)]
    assert prompts.few_shot_prompt("Judge.", shots, "Q: u A: v") == (
        "Judge.\n\nQ: x A: y R: 1\n\nQ: z A: w R: 0\n\nQ: u A: v R:"
    )
    assert prompts.ANSWERS == (" 0", " 1")
    solved = [("1+1?", "1+1=2\n#### 2"), ("0?", "#### 0")]
    assert prompts.few_shot_prompt("Solve.", solved, "2+2?") == (
        "Solve.\n\n1+1? R: 1+1=2\n#### 2\n\n0? R: #### 0\n\n2+2? R:"
    )


def test_classifier_input():
    kwargs = {"instruction": "Judge.", "shots": [("x", 1)]}
    assert prompts.classifier_input("u", prompt="bare", **kwargs) == "u"
    assert prompts.classifier_input("u", prompt="instruction", **kwargs) == "Judge.\n\nu R:"
    assert prompts.classifier_input("u", prompt="fewshot", **kwargs) == "Judge.\n\nx R: 1\n\nu R:"
    with pytest.raises(errors.UserError, match="bare, instruction, fewshot"):
        prompts.classifier_input("u", prompt="long", **kwargs)
