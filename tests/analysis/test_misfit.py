"""Misfit and gain: the design's numbers, identities of any three vectors, and heads that obey the equality exactly."""

import numpy as np
import pytest

from selw2s_jax.analysis import misfit


def test_numbers_worked_out_by_hand():
    found = misfit.misfit_gain([0.2, 0.6], [0.1, 0.8], [0, 1])
    expected = {"error_weak": 0.1, "error_student": 0.025, "gain": 0.075, "misfit": 0.025, "slack": 0.05}
    assert found == pytest.approx(expected | {"predicted_error": 0.075})
    found = misfit.misfit_gain([0.25], [0.5], [1], kind="kl")
    assert found["error_weak"] == pytest.approx(np.log(4)) and found["gain"] == pytest.approx(np.log(2))
    assert found["misfit"] == pytest.approx((np.log(2) + np.log(2 / 3)) / 2)


@pytest.mark.parametrize("num_items", [1, 7, 200])
def test_slack_of_any_three_vectors(num_items):
    rng = np.random.default_rng(num_items)
    weak, student, soft = rng.uniform(size=(3, num_items))
    weak[0], student[-1] = 0.0, 1.0  # which KL clips
    for target in (soft, np.round(soft)):
        found = misfit.misfit_gain(weak, student, target)
        assert found["slack"] == pytest.approx(2 * np.mean((weak - student) * (student - target)))
        found = misfit.misfit_gain(weak, student, target, kind="kl")
        w, f = (np.clip(one, 1e-6, 1 - 1e-6) for one in (weak, student))
        both = (target - f) * (np.log(f) - np.log(w)) + (f - target) * (np.log1p(-f) - np.log1p(-w))
        assert found["slack"] == pytest.approx(np.mean(both))
        for kind in misfit.KINDS:
            found = misfit.misfit_gain(weak, student, target, kind=kind)
            assert found["gain"] == pytest.approx(found["error_weak"] - found["error_student"])
            assert found["predicted_error"] == pytest.approx(found["error_weak"] - found["misfit"])
            items = misfit.item_errors(weak, student, target, kind=kind)
            assert (items >= -1e-12).all() and items.shape == (3, num_items)


def test_a_copy_of_the_weak_model_has_no_gain_and_no_misfit():
    weak = np.random.default_rng(0).uniform(size=9)
    for kind in misfit.KINDS:
        found = misfit.misfit_gain(weak, weak, np.arange(9) % 2, kind=kind)
        assert found["gain"] == found["misfit"] == found["slack"] == 0


def fit_head(features, labels):
    """The logistic head of least cross-entropy to soft labels on these rows, by Newton's method."""
    weights = np.zeros(features.shape[1])
    for _ in range(50):
        probs = 1 / (1 + np.exp(-features @ weights))
        curvature = features.T @ (features * (probs * (1 - probs))[:, None])
        weights -= np.linalg.solve(curvature, features.T @ (probs - labels))
    return 1 / (1 + np.exp(-features @ weights))


def test_heads_at_the_optimum_have_no_slack_to_any_head():
    rng = np.random.default_rng(3)
    features = np.c_[np.ones(60), rng.normal(size=(60, 3))]
    weak = rng.uniform(0.05, 0.95, 60)
    student = fit_head(features, weak)
    for _ in range(3):
        head = 1 / (1 + np.exp(-features @ rng.normal(size=4)))
        # KL(weak || head) = KL(weak || student) + KL(student || head)
        found = misfit.misfit_gain(head, student, weak, kind="kl")
        assert found["slack"] == pytest.approx(0, abs=1e-9) and found["misfit"] > 1e-2


def test_the_nearest_model_of_a_convex_class_gains_its_misfit_exactly_where_the_class_is_linear():
    """Least squares on the weak labels: the error of the projection, for every target in its space."""
    rng = np.random.default_rng(4)
    features = np.c_[np.ones(40), rng.uniform(-1, 1, size=(40, 2))]
    weak = np.clip(0.5 + features @ [0.0, 0.1, -0.2] + rng.uniform(-0.1, 0.1, 40), 0, 1)
    student = features @ np.linalg.lstsq(features, weak, rcond=None)[0]
    target = 0.5 + features @ [0.0, 0.2, 0.2]
    assert misfit.misfit_gain(weak, student, target)["slack"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "arrays", [([], [], []), ([0.5], [0.5, 0.5], [1]), ([np.nan], [0.5], [1]), ([0.5], [1.5], [1])]
)
def test_what_is_no_probability_is_refused(arrays):
    with pytest.raises(ValueError):
        misfit.misfit_gain(*arrays)
    with pytest.raises(ValueError, match="one of squared, kl"):
        misfit.misfit_gain([0.5], [0.5], [1], kind="reverse_kl")
