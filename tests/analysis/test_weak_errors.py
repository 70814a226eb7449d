"""What tells that a written weak label is wrong, beside the agreement of the weak model's answers."""

import math

import numpy as np
import pytest

from selw2s_jax.analysis import metrics, weak_errors

ANSWERS = [[0, 0, 1], [1, 1, 1], [2, 2, 0], [None, 1, 1], [3, None, None], [0, 0, 0]]
TRUTHS = [0, 0, 2, 1, 3, 1]
OWN = [[0, 0, 0], [0, 0, 1], [1, 2, 1], [0, 0, 0], [0, 0, 0], [None, None, None]]
P_IK = [0.9, 0.4, 0.3, 0.2, 0.1, 0.5]
LOG_PROBS = [-0.1, -0.7, -0.3, -0.2, -0.4, -0.5]


def test_scores_by_hand():
    found = weak_errors.areas(ANSWERS, TRUTHS, log_probs=LOG_PROBS, own=OWN, p_ik=P_IK)
    # The fourth question has no label, the fifth no answer to a variation: neither takes part.
    asked, wrong = [0, 1, 2, 5], [False, True, False, True]
    two = math.log(2)
    scores = {
        "confidence": [-LOG_PROBS[question] for question in asked],
        "own_entropy": [0.0, two, two, two],  # the last says nothing, and counts as most in doubt
        "own_agreement": [-1.0, -0.5, -0.5, 0.0],
        "p_ik": [-P_IK[question] for question in asked],
    }
    of_own = found.pop()
    assert [one["score"] for one in found] == list(scores)
    for one in found:
        assert one["label"] == "original" and (one["n"], one["wrong"]) == (4, 2)
        assert one["auroc"] == pytest.approx(metrics.auroc(np.array(scores[one["score"]]), np.array(wrong)))
        assert one["auroc_low"] is None or one["auroc_low"] <= one["auroc"] <= one["auroc_high"]
    # Own answers to the original prompts: the first two are right, the last says nothing.
    assert (of_own["score"], of_own["label"], of_own["n"], of_own["wrong"]) == ("p_ik", "own", 6, 4)
    assert of_own["auroc"] == 7 / 8


def test_only_what_there_is():
    assert weak_errors.areas(ANSWERS, TRUTHS) == []
    written = [math.nan] * len(ANSWERS)
    assert weak_errors.areas(ANSWERS, TRUTHS, log_probs=written) == []
    alone = weak_errors.areas([[0]], [0], own=[[0]])
    assert alone == [] or all(one["auroc"] is None for one in alone)
