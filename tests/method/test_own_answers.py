"""Rows that choose between weak answers and the strong model's own, one question at a time."""

import functools

import numpy as np
import pytest

from selw2s_jax.data import by_id
from selw2s_jax.method import completion_methods, row_weights

# By question: the original answer and three to variations, of both models.
WEAK = [[0, 0, 0, 0], [1, 1, 2, 1], [2, 0, 1, 2], [None, 1, 1, 1], [3, 3, 0, None], [None, None, None, None]]
OWN = [[0, 1, 1, 2], [2, 3, 3, 3], [1, 1, 1, 1], [0, 1, 2, 0], [3, None, None, None], [2, 0, 1, 2]]
MAJORITY = [1, 3, 1, 1, None, 0]  # of own answers to variations, the earliest of tied ones; None says nothing


def make(weak=WEAK, own=OWN, seed=3):
    ids = [f"task/{number}" for number in range(len(weak))]
    p_ik = np.full(len(weak), 0.5)
    return row_weights.RowInputs(ids, weak, functools.partial(by_id.keyed_uniform, seed), own, p_ik)


def chosen(name, inputs=None, **options):
    """The prediction of each row; None where there is none."""
    rows = row_weights.get(name, **options)(inputs or make())
    row_weights.check_rows(rows, [4] * len(rows.weights))
    assert not rows.weights[:, 1:].any()
    return [
        prediction if weight else None
        for prediction, weight in zip(rows.predictions, rows.weights[:, 0], strict=True)
    ]


def test_own_answers_everywhere():
    assert chosen("self_training") == MAJORITY


def test_own_answers_where_the_strong_model_agrees_with_itself():
    # Entropies of own answers: (2, 1), 0, 0, (1, 1, 1), none, (1, 1, 1); the median of the five is that of (2, 1).
    assert chosen("selective_by_consistency") == [1, 3, 1, None, 3, None]
    # The lowest alone: two questions are tied there.
    assert chosen("selective_by_consistency", percentile=0.0) == [0, 3, 1, None, 3, None]


def test_weak_answers_where_the_weak_model_agrees_with_itself():
    # Entropies of weak answers: 0, (2, 1), (1, 1, 1), 0, (1, 1, 1) with what is unparsed one prediction, none.
    assert chosen("selective_by_entropy", percentile=0.0) == [0, 3, 1, None, None, 0]
    assert chosen("selective_by_entropy") == [0, 1, 1, None, None, 0]


def test_the_control_takes_as_many_own_answers_as_the_selection():
    weak = [[0] * 4] * 40
    own = [[1] * 4 if number % 4 else [1, 1, 2, 3] for number in range(40)]
    inputs = make(weak, own)
    selected, control = (chosen(name, inputs) for name in ("selective_by_consistency", "random_selection"))
    assert selected.count(1) == control.count(1) == 30
    assert selected != control
    assert control == chosen("random_selection", inputs)
    order = np.random.default_rng(0).permutation(40)
    moved = inputs._replace(example_ids=[inputs.example_ids[i] for i in order], own=[own[i] for i in order])
    # Which questions are drawn depends on their ids, and what stands there on these.
    assert chosen("random_selection", moved) == [control[i] for i in order]


def test_a_method_that_is_given_no_own_answers_says_so():
    names = [name for name, method in completion_methods.METHODS.items() if method.uses_self_labels]
    assert len(names) == 6
    for name in names:
        with pytest.raises(ValueError, match="uses_self_labels=True"):
            row_weights.get(name)(make(own=None))
