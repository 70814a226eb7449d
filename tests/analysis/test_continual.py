"""What is kept of tasks that are learnt one after the other, from accuracies on all of them after each."""

import numpy as np
import pytest

from selw2s_jax.analysis import continual

# After each of three tasks, on each of three.
ACCURACY = np.array([[0.9, 0.5, 0.4], [0.7, 0.8, 0.6], [0.75, 0.7, 0.95]])


def test_numbers_of_a_sequence_by_hand():
    found = continual.summary(ACCURACY)
    wanted = {
        "average": (0.75 + 0.7 + 0.95) / 3,
        "learning": (0.9 + 0.8 + 0.95) / 3,
        "backward_transfer": ((0.75 - 0.9) + (0.7 - 0.8)) / 2,
        # The best of the first task before the last was 0.9, of the second 0.8.
        "forgetting": ((0.9 - 0.75) + (0.8 - 0.7)) / 2,
        "before_learning": (0.5 + 0.6) / 2,
    }
    assert found == pytest.approx(wanted)


def test_forgetting_is_measured_from_the_best_before_the_last_task():
    accuracy = np.array([[0.6, 0.5, 0.5], [0.8, 0.6, 0.5], [0.7, 0.9, 0.5]])
    found = continual.summary(accuracy)
    assert found["forgetting"] == pytest.approx(((0.8 - 0.7) + (0.6 - 0.9)) / 2)  # the second was helped
    assert found["backward_transfer"] == pytest.approx(((0.7 - 0.6) + (0.9 - 0.6)) / 2)


def test_one_task_leaves_nothing_to_forget():
    found = continual.summary(np.array([[0.7]]))
    assert found == {
        "average": 0.7,
        "learning": 0.7,
        **dict.fromkeys(("backward_transfer", "forgetting", "before_learning")),
    }
    for wrong in (np.zeros((2, 3)), np.zeros((0, 0)), np.zeros(3)):
        with pytest.raises(ValueError, match="give one of each task after each"):
            continual.summary(wrong)


def test_a_matrix_is_there_when_all_of_it_is():
    entries = [
        {"learnt": first, "tested": second, "correct": 10 * place + number, "n": 40}
        for place, first in enumerate("ab")
        for number, second in enumerate("ab")
    ]
    found = continual.matrix(entries[::-1], ("a", "b"))
    np.testing.assert_array_equal(found, np.array([[0, 1], [10, 11]]) / 40)
    assert continual.matrix(entries[:-1], ("a", "b")) is None
