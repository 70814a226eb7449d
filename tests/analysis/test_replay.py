"""The numbers of replayed labels: random choices of rows against all of them, and a case by hand."""

import itertools

import numpy as np
import pytest

from selw2s_jax.analysis import replay


@pytest.mark.parametrize("num_chosen", [0, 1, 3, 6, 7])
def test_random_choice_is_the_mean_over_all_sets_of_rows(num_chosen):
    rng = np.random.default_rng(num_chosen)
    own, weak = rng.integers(2, size=(2, 7)).astype(bool)
    shares = [
        np.where(np.isin(np.arange(7), rows), own, weak).mean()
        for rows in itertools.combinations(range(7), num_chosen)
    ]
    found = replay.random_choice(own, weak, num_chosen)
    assert found.mean == pytest.approx(np.mean(shares))
    assert found.deviation == pytest.approx(np.std(shares), abs=1e-12)
    low, high = found.interval
    assert 0 <= low <= found.mean <= high <= 1


def test_one_row_is_chosen_or_not():
    assert replay.random_choice([True], [False], 1) == (1.0, 0.0)


def test_description_of_labels_by_hand():
    found = replay.describe(
        [1, 0, 1, 0],
        [0.9, 0.4, 0.2, 0.7],
        [1, 1, 1, 1],
        chosen=[0, 0, 1, 0],
        prior=[0.9, 0.4, 1.0, 0.7],
        target=[0.8, 0.4, 1.0, 0.45],
        trained=[0.8, 0.4, 0.3, 0.45],
    )
    assert (found["n"], found["chosen"], found["changed"]) == (4, 0.25, 0.25)
    assert (found["right"], found["right_before"], found["right_disagreeing"]) == (1, 0.75, 1)
    assert found["brier"] == pytest.approx((0.2**2 + 0.4**2 + 0.45**2) / 4)
    assert found["moved"] == pytest.approx(0.7 / 4)
    assert found["right_at_random"] == pytest.approx(0.75 * 0.5 + 0.25 * 0.5)
    labels = [1, 0]
    same = replay.describe(labels, labels, labels, chosen=[0, 0], prior=labels, target=labels, trained=labels)
    assert same["right_disagreeing"] is None and same["changed"] == 0
