"""What answers to a file say together: counts, and what is measured where the file has labels."""

import pytest

from selw2s_jax.predict import summary


def record(p_ik, prob, few_shot, weak):
    return {
        "p_ik": p_ik,
        "class": int(prob > 0.5),
        "prob_1": prob,
        "few_shot": {"prob_1": few_shot, "answer": int(few_shot > 0.5)},
        "weak": {"prob_1": weak},
    }


RECORDS = [
    record(0.9, 0.8, 0.9, 0.4),
    record(0.8, 0.3, 0.2, 0.6),
    record(0.2, 0.6, 0.9, 0.3),
    record(0.85, 0.1, 0.4, 0.1),
]


def test_without_labels_shares_alone():
    assert summary.of_classes(RECORDS, [None] * 4, gamma=0.8) == [
        "P(IK) above gamma=0.8: 2 of 4 (50.00 %)",
        "class 1: 2 of 4 (50.00 %)",
    ]


def test_with_labels_all_who_judge_are_measured_on_those_that_have_one():
    lines = summary.of_classes(RECORDS, [1, 0, 0, None], gamma=0.8)
    assert lines[2:] == [
        "student: accuracy 2 of 3 (66.67 %), AUROC 1.000",
        "weak model: accuracy 1 of 3 (33.33 %), AUROC 0.500",
        "few-shot answers: accuracy 2 of 3 (66.67 %), AUROC 0.750",
        "P(IK) of whether the few-shot answer is right, AUROC 1.000",
    ]
    of_one = summary.of_classes(RECORDS, [1, None, None, None], gamma=0.8)
    assert len(of_one) == 5 and not any("AUROC" in line or "is right" in line for line in of_one)


@pytest.mark.parametrize("missing", ["few_shot", "weak", "p_ik"])
def test_what_is_null_is_not_spoken_of(missing):
    lines = summary.of_classes([one | {missing: None} for one in RECORDS], [1, 0, 0, 1], gamma=0.8)
    named = {"few_shot": "few-shot", "weak": "weak model", "p_ik": "P(IK)"}[missing]
    assert not any(line.startswith(named) for line in lines)


def test_of_written_answers():
    records = [
        {"answer": "yes", "agreeing": 3, "variations": 4},
        {"answer": None, "agreeing": None, "variations": 4},
        {"answer": "no", "agreeing": 1, "variations": 4},
    ]
    assert summary.of_written(records) == [
        "an answer was read of 2 of 3 (66.67 %)",
        "variations that agree with it: 50.00 % on average",
    ]
