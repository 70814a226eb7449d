"""Prompts that begin alike are neighbours, and most of what they begin with is read once."""

import itertools

import numpy as np

from selw2s_jax.inference import request_order


def prompts_of(*texts):
    return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]


def test_permutations_of_a_question_are_a_group():
    texts = ("a? xy", "bbb? xy", "a? yx", "bbb? yx", "bbb? yxz", "q")
    order, stems = request_order.find(prompts_of(*texts))
    assert [(texts[i], stem) for i, stem in zip(order, stems, strict=True)] == [
        ("bbb? xy", 5),
        ("bbb? yx", 5),
        ("bbb? yxz", 5),
        ("a? xy", 3),
        ("a? yx", 3),
        ("q", 0),
    ]


def test_equal_prompts_keep_a_token_each():
    order, stems = request_order.find(prompts_of("same", "same", "same"))
    assert order == [0, 1, 2] and stems == [3, 3, 3]
    assert request_order.find(prompts_of("a")) == ([0], [0])


def test_no_other_groups_save_more():
    rng = np.random.default_rng(0)
    for _ in range(20):
        prompts = [rng.integers(0, 2, length) for length in rng.integers(1, 9, 7)]
        order, stems = request_order.find(prompts)
        assert sorted(order) == list(range(7))
        groups = [
            list(own) for _, own in itertools.groupby(zip(order, stems, strict=True), lambda one: one[1])
        ]
        for members in groups:
            stem = members[0][1]
            assert all(len(prompts[i]) > stem for i, _ in members)
        ordered = sorted(prompt.tolist() for prompt in prompts)
        most = max(
            sum(saved(ordered[a:b]) for a, b in itertools.pairwise((0, *cuts, 7)))
            for size in range(7)
            for cuts in itertools.combinations(range(1, 7), size)
        )
        found = sum(stems) - sum(stem for stem in firsts(prompts, order, stems))
        assert found == most


def saved(group):
    length = min(map(len, group)) - 1
    while any(own[:length] != group[0][:length] for own in group):
        length -= 1
    return (len(group) - 1) * length


def firsts(prompts, order, stems):
    """The stem of each prompt that begins otherwise than the one before it."""
    last = None
    for i, stem in zip(order, stems, strict=True):
        begin = (stem, *prompts[i][:stem].tolist())
        if stem and begin != last:
            yield stem
        last = begin
