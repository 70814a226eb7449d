"""The choice of a step, on numbers worked out by hand."""

import numpy as np
import pytest

from selw2s_jax.analysis import training_curves

STEPS = np.array([0, 3, 6, 9])


def test_agreement_is_of_classes():
    probs = np.array([[0.5, 0.5, 0.5], [0.6, 0.2, 0.9], [0.6, 0.7, 0.9]])
    assert training_curves.agreement(probs, [0.9, 0.1, 0.8]).tolist() == pytest.approx([1 / 3, 1, 2 / 3])
    assert np.isnan(training_curves.agreement(np.zeros((2, 0)), [])).all()


def test_the_earliest_of_the_best_trained_steps_is_taken():
    assert training_curves.best_place(STEPS, [0.9, 0.6, 0.8, 0.8]) == 2
    assert training_curves.best_place(STEPS, [0.1, 0.1, 0.1, 0.1]) == 1
    for steps, scores in (([0], [0.5]), ([], []), ([0, 1], [0.5])):
        with pytest.raises(ValueError, match="no trained step"):
            training_curves.best_place(steps, scores)


def test_each_half_of_the_items_has_the_step_that_is_best_on_the_other():
    is_second = training_curves.second_half(5)
    assert is_second.sum() == 2
    first, second = [0, 1, 3, 2], [2, 2, 1, 0]  # right ones at each place: best at place 2, and at place 1
    correct = np.zeros((4, 5), bool)
    for place in range(4):
        correct[place, np.flatnonzero(~is_second)[: first[place]]] = True
        correct[place, np.flatnonzero(is_second)[: second[place]]] = True
    assert training_curves.crossed_places(STEPS, correct).tolist() == np.where(is_second, 2, 1).tolist()


def test_halves_are_no_halves_of_the_classes():
    """Right and wrong answers stand in turn: a model that calls all right is no better on either half."""
    labels = np.arange(1000) % 2 == 1
    share = labels[training_curves.second_half(1000)].mean()
    assert 0.4 < share < 0.6
