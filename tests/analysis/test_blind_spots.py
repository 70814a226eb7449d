"""Errors where the ceiling knows and the weak model does not: by hand, inherited ones, areas without items."""

import numpy as np
import pytest

from selw2s_jax.analysis import blind_spots

AREA = "strong_known_weak_unknown"
# Truth 1 throughout: the ceiling knows the first four, the weak model items 2, 3 and 5.
TRUTH = np.ones(6, int)
CEILING = np.array([0.75, 0.9, 0.8, 0.99, 0.7, 0.2])
WEAK = np.array([0.3, 0.74, 0.8, 0.75, 0.1, 0.9])
STUDENT = np.array([0.2, 0.5, 0.4, 0.9, 0.3, 0.9])  # 0.5 is class 0


def test_areas_worked_out_by_hand():
    found = blind_spots.known_errors(WEAK, CEILING, STUDENT, TRUTH)
    assert (found["n"], found["errors"], found["score"]) == (6, 4, 0.5)
    assert found["share_of_area"] == pytest.approx(2 / 6) and found["lift"] == pytest.approx(1.5)
    assert found["errors_by_area"] == {
        "strong_known_weak_unknown": {"n": 2, "errors": 2, "error_rate": 1.0},
        "strong_known_weak_known": {"n": 2, "errors": 1, "error_rate": 0.5},
        "strong_unknown_weak_unknown": {"n": 1, "errors": 1, "error_rate": 1.0},
        "strong_unknown_weak_known": {"n": 1, "errors": 0, "error_rate": 0.0},
    }
    # The classes are exchangeable.
    flipped = blind_spots.known_errors(1 - WEAK, 1 - CEILING, 1 - STUDENT + 1e-9, 1 - TRUTH)
    assert flipped["errors_by_area"] == found["errors_by_area"]


def test_errors_against_another_model_are_what_it_gets_right():
    found = blind_spots.known_errors(WEAK, CEILING, STUDENT, TRUTH, reference=WEAK)
    assert (found["errors"], found["score"]) == (
        2,
        0.5,
    )  # items 1 and 2; of 0 and 4 the weak model is wrong too
    assert blind_spots.known_errors(WEAK, CEILING, STUDENT, TRUTH, reference=STUDENT)["score"] is None


def test_known_by_any_class_asks_how_sure_a_model_is():
    by_any = blind_spots.known_errors(WEAK, CEILING, STUDENT, TRUTH, known_by="any")["errors_by_area"]
    # The ceiling is sure of item 5, and wrong; the weak model of item 4.
    assert [by_any[name]["n"] for name in blind_spots.AREAS] == [2, 3, 0, 1]
    assert by_any["strong_unknown_weak_unknown"]["error_rate"] is None


def test_inherited_errors_alone_have_a_score_and_a_lift():
    """A student that copies its teacher errs in the area, without any conflict in training."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    right = rng.uniform(0.2, 1, 400)
    weak = np.where(truth == 1, right, 1 - right)
    ceiling = np.where(truth == 1, 0.9, 0.1)
    found = blind_spots.known_errors(weak, ceiling, weak, truth)
    # All its errors are where it does not know, which the ceiling does everywhere.
    assert found["score"] == 1 and found["lift"] == pytest.approx(1 / found["share_of_area"])
    assert found["lift"] > 1.2


def test_errors_spread_evenly_have_a_lift_of_one():
    weak, ceiling = np.repeat([0.6, 0.9], 8), np.tile(np.repeat([0.9, 0.6], 4), 2)
    student = np.tile([0.9, 0.1, 0.9, 0.1], 4)
    assert blind_spots.known_errors(weak, ceiling, student, np.ones(16))["lift"] == 1


@pytest.mark.parametrize(
    ("ceiling", "student", "score", "lift"),
    [(0.6, 0.1, 0.0, None), (0.9, 0.9, None, None), (0.6, 0.9, None, None), (0.9, 0.1, 1.0, 1.0)],
)
def test_areas_without_items_and_models_without_errors(ceiling, student, score, lift):
    found = blind_spots.known_errors([0.6] * 3, [ceiling] * 3, [student] * 3, [1] * 3)
    assert (found["score"], found["lift"]) == (score, lift)
    assert {part["error_rate"] is None for part in found["errors_by_area"].values()} == {True, False}
    assert found["share_of_area"] == (1.0 if ceiling == 0.9 else 0.0)


def test_blind_spots_are_sure_wrong_answers_where_the_teacher_was_unsure():
    student = np.array([0.1, 0.25, 0.3, 0.05, 0.95, 0.1])
    found = blind_spots.blind_spots(WEAK, student, TRUTH, student_threshold=0.75, weak_threshold=0.75)
    # Items 0 and 1; of 2 the student is unsure, of 3, 4 and 5 the weak model is sure or the student right.
    assert (found["spots"], found["errors"], found["n"]) == (2, 5, 6)
    assert found["share"] == pytest.approx(2 / 6) and found["share_of_errors"] == pytest.approx(2 / 5)
    assert found["variance"] == pytest.approx(np.var(student))
    none = blind_spots.blind_spots(WEAK, [0.9] * 6, TRUTH, student_threshold=0.5, weak_threshold=1)
    assert (none["share"], none["share_of_errors"]) == (0, None)


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ValueError, match="known by one of"):
        blind_spots.known_errors([0.5], [0.5], [0.5], [1], known_by="all")
    with pytest.raises(ValueError, match="no probabilities"):
        blind_spots.known_errors([0.5], [np.nan], [0.5], [1])
    with pytest.raises(ValueError, match="one length"):
        blind_spots.known_errors([0.5], [0.5], [0.5], [1], reference=[0.5, 0.5])
