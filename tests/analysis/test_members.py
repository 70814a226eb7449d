"""What several weak models are worth, by hand."""

import numpy as np
import pytest

from selw2s_jax.analysis import comparisons, members, results


def test_each_model_by_hand():
    labels = np.array([[1.0, 0.9, 0.2], [0.0, 0.4, 0.7], [1.0, 0.6, 0.6], [0.0, 0.8, 0.5]])  # [N=4, K=3]
    first, second, third = members.describe(labels, [1, 0, 1, 1])
    assert (first["accuracy"], second["accuracy"], third["accuracy"]) == (0.75, 1.0, 0.25)
    assert first["entropy"] == 0 and third["entropy"] > second["entropy"]
    # Classes 1010, 1011 and 0110.
    assert (first["agreement"], second["agreement"], third["agreement"]) == (0.625, 0.5, 0.375)


def test_pgr_is_of_the_models_mean():
    correct = {"weak": 8, "ceiling": 10, "finetune": 9}
    records = results.make_records(
        task="t", weak="a + b", strong="s", seed=0, total=10, correct=correct, members=[4, 8]
    )
    by_method = {record["method"]: record for record in records}
    assert by_method["weak"]["members_accuracy"] == 0.6 and by_method["weak"]["accuracy"] == 0.8
    assert by_method["finetune"]["pgr"] == pytest.approx((0.9 - 0.6) / (1.0 - 0.6))
    (row,) = [row for row in results.summarize(records) if row["method"] == "finetune"]
    assert row["pgr"] == pytest.approx(0.75)
    weak = np.array([[0.5] * 4 + [1.0] * 4 + [0.0] * 2])
    student, ceiling = np.array([[True] * 9 + [False]]), np.ones((1, 10), bool)
    assert comparisons.bootstrap_pgr(weak, student, ceiling).value == pytest.approx(0.75)


def test_the_best_is_the_first_of_those_that_are_right_most_often():
    entries = [
        {"seed": 3, "member": f"weak-{n}", "test_correct": c, "test_n": 8, "together_correct": 7}
        for n, c in enumerate((2, 6, 6))
    ]
    (row,) = members.summarize(entries)
    assert (row["best_member"], row["best_accuracy"], row["together_accuracy"]) == ("weak-1", 0.75, 0.875)
    assert row["mean_accuracy"] == pytest.approx(14 / 24)
