"""Fits of reliability: the least log loss, found where there is one, and finite where there is none."""

import numpy as np
import pytest
from scipy import optimize, special

from selw2s_jax.method import calibration


def least(loss, start):
    return optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x


def test_the_weak_slope_has_the_least_log_loss():
    rng = np.random.default_rng(0)
    log_odds = 3 * rng.standard_normal(4001)
    labels = rng.random(4001) < special.expit(0.4 * log_odds)
    found = calibration.fit_weak_slope(log_odds, labels)
    sign = np.where(labels, 1, -1)
    (expected,) = least(lambda b: np.mean(np.log1p(np.exp(-b[0] * sign * log_odds))), [1.0])
    assert found == pytest.approx(expected, rel=1e-4) and found == pytest.approx(0.4, abs=0.03)


def test_p_ik_has_the_two_numbers_of_least_log_loss():
    rng = np.random.default_rng(1)
    p_ik = rng.random(3001)
    log_odds = special.logit(p_ik)
    right = rng.random(3001) < special.expit(0.8 + 0.5 * log_odds)
    found = calibration.fit_p_ik(p_ik, right)
    sign = np.where(right, 1, -1)
    expected = least(lambda c: np.mean(np.log1p(np.exp(-sign * (c[0] + c[1] * log_odds)))), [0.0, 1.0])
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    fitted = calibration.Fitted(1.0, *found, 0.5)
    np.testing.assert_allclose(
        calibration.reliability(p_ik, fitted), 1 / (1 + np.exp(-(found[0] + found[1] * log_odds))), rtol=1e-9
    )
    # A score that is calibrated is left as it is, and the mean is that of the answers.
    assert calibration.reliability(p_ik, fitted).mean() == pytest.approx(right.mean(), abs=1e-4)


@pytest.mark.parametrize(
    ("p_ik", "right", "sign"),
    [
        ([0.2, 0.4, 0.7], [1, 1, 1], None),  # all are right
        ([0.2, 0.4, 0.7], [0, 0, 0], None),
        ([0.1, 0.2, 0.8, 0.9] * 50, [0, 0, 1, 1] * 50, 1),  # separable
        ([0.1, 0.2, 0.8, 0.9] * 50, [1, 1, 0, 0] * 50, -1),
        ([0.6] * 7, [0, 1, 1, 0, 1, 1, 1], None),  # P(IK) says the same of all
        ([0.0, 1.0, 1e-30, 1 - 1e-16], [0, 1, 1, 0], None),
        ([0.3], [1], None),
    ],
)
def test_fits_of_degenerate_answers_are_finite(p_ik, right, sign):
    intercept, slope = calibration.fit_p_ik(p_ik, right)
    assert np.isfinite([intercept, slope]).all() and np.abs([intercept, slope]).max() < 100
    assert sign is None or np.sign(slope) == sign
    reliability = calibration.reliability(p_ik, calibration.Fitted(1.0, intercept, slope, 0.5))
    if len(set(right)) == 1:
        assert np.all(np.abs(reliability - right[0]) < 0.1)
    elif len(set(p_ik)) == 1:
        np.testing.assert_allclose(reliability, np.mean(right), atol=0.01)
    assert np.isfinite(calibration.fit_weak_slope(special.logit(np.clip(p_ik, 1e-9, 1 - 1e-9)), right))


def test_log_odds_are_those_of_both_probabilities():
    probs = np.array([[0.25, 0.75], [1.0, 0.0], [0.0, 1.0], [1.0, 1e-12]], np.float32)
    found = calibration.class_log_odds(probs)
    np.testing.assert_allclose(found[[0, 3]], [np.log(3), np.log(1e-12)], rtol=1e-6)
    assert found[1] == -found[2] and -90 < found[1] < -80
