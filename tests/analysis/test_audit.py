"""What gains are made of: parts that add up exactly, and what became of labels."""

import numpy as np
import pytest

from selw2s_jax.analysis import audit, replay


def random_models(seed: int, num_models: int, num_seeds: int, num_items: int) -> np.ndarray:
    return np.random.default_rng(seed).random((num_models, num_seeds, num_items)) < 0.6


@pytest.mark.parametrize(("num_seeds", "num_items"), [(1, 1), (1, 37), (3, 101)])
def test_parts_add_up_to_the_gain_exactly(num_seeds, num_items):
    weak, baseline, control, method = random_models(7, 4, num_seeds, num_items)
    chance, own = audit.steps(weak, baseline, control, method)
    (whole,) = audit.steps(weak, baseline, method)
    gain = int(method.sum()) - int(baseline.sum())
    nets = [change.gained - change.lost for step in (chance, own) for change in step]
    assert nets[0] == nets[1] + nets[2] and nets[3] == nets[4] + nets[5]
    assert nets[0] + nets[3] == gain == whole.all.gained - whole.all.lost
    assert whole.all.mean == gain / (num_seeds * num_items)
    for step in (chance, own, whole):
        assert step.all.gained == step.weak_wrong.gained + step.weak_right.gained
        assert all(change.low <= change.mean <= change.high for change in step)


def test_events_are_counted_where_they_are():
    weak = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    before = np.array([[0, 0, 1, 1, 0, 0, 1, 1]])
    after = np.array([[1, 1, 0, 1, 1, 0, 0, 0]])
    (step,) = audit.steps(weak, before, after)
    assert step.weak_wrong[:3] == (2, 1, 8) and step.weak_right[:3] == (1, 2, 8) and step.all[:3] == (3, 3, 8)
    assert (step.all.mean, step.weak_wrong.mean) == (0, 1 / 8)


def test_a_model_gains_nothing_over_itself():
    weak, model = random_models(3, 2, 5, 33)
    (step,) = audit.steps(weak, model, model)
    assert all(change == (0, 0, 165, 0.0, 0.0) for change in step)


@pytest.mark.parametrize("path", [(np.ones((1, 3)),), (np.ones((1, 3)), np.ones((2, 3)))])
def test_paths_that_are_none_are_refused(path):
    with pytest.raises(ValueError, match="two models or more"):
        audit.steps(np.ones((1, 3)), *path)


def test_label_changes_of_rows_that_were_seen():
    truth = np.array([1, 1, 0, 0, 1, 1])
    weak = np.array([0.2, 0.9, 0.1, 0.8, 0.3, 0.3])
    own = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    chosen = np.array([1, 1, 0, 0, 0, np.nan])
    prior = np.array([1.0, 0.0, 0.1, 0.8, 0.3, np.nan])
    target = np.array([1.0, 0.0, 0.1, 0.4, 0.3, np.nan])
    found = audit.label_changes(truth, weak, own, chosen=chosen, prior=prior, target=target)
    assert found["n"] == 5
    assert (found["choice_corrected"], found["choice_spoiled"]) == (1, 1)
    assert (found["smoothing_corrected"], found["smoothing_spoiled"]) == (1, 0)
    expected = replay.random_choice([1, 0, 1, 1, 1], [0, 1, 1, 0, 0], 2)
    assert (found["random"], found["random_deviation"]) == (
        pytest.approx(expected.mean - 0.4),
        expected.deviation,
    )
    assert found["random"] == pytest.approx(2 / 5 * 2 / 5)
    without = audit.label_changes(truth, weak, None, chosen=chosen, prior=prior, target=target)
    assert without == found | {"random": None, "random_deviation": None}


def test_interval_of_a_net_change():
    low, high = audit.net_interval(30, 10, 100)
    assert (low + high) / 2 == pytest.approx(0.2)
    assert high - low == pytest.approx(2 * 1.96 * np.std(np.repeat([1, -1, 0], [30, 10, 60])) / 10)
