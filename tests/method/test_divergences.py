"""Divergences against float64 formulas written apart from the code, and what mathematics says of them."""

import functools
import inspect

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import programs, random_arrays

from selw2s_jax.method import divergences, losses

PROPERTY = hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
PROBS = st.floats(1e-4, 1 - 1e-4)


def log64(ratio: np.ndarray) -> np.ndarray:
    """The logarithm, and 0 of 0: what multiplies it is 0 there, and so is the limit of the product."""
    return np.log(np.where(ratio > 0, ratio, 1.0))


# Of one row in float64: student probabilities f, weak probabilities w.
FORMULAS = {
    "forward_kl": lambda f, w: (w * log64(w / f)).sum(),
    "reverse_kl": lambda f, w: (f * np.log(f / w)).sum(),
    "jensen_shannon": lambda f, w: (
        0.5 * (f * np.log(2 * f / (f + w))).sum() + 0.5 * (w * log64(2 * w / (f + w))).sum()
    ),
    "hellinger": lambda f, w: 0.5 * ((np.sqrt(f) - np.sqrt(w)) ** 2).sum(),
    "total_variation": lambda f, w: 0.5 * np.abs(f - w).sum(),
    "chi_squared": lambda f, w: ((f - w) ** 2 / w).sum(),
}
# Their derivatives by f.
DERIVATIVES = {
    "forward_kl": lambda f, w: -w / f,
    "reverse_kl": lambda f, w: np.log(f / w) + 1,
    "jensen_shannon": lambda f, w: np.log(2 * f / (f + w)) / 2,
    "hellinger": lambda f, w: (1 - np.sqrt(w / f)) / 2,
    "total_variation": lambda f, w: np.sign(f - w) / 2,
    "chi_squared": lambda f, w: 2 * (f - w) / w,
}
NAMES = sorted(FORMULAS)
CLAMPED = ["chi_squared", "reverse_kl"]
SYMMETRIC = ["hellinger", "jensen_shannon", "total_variation"]


def softmax64(logits: np.ndarray) -> np.ndarray:
    exps = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return exps / exps.sum(-1, keepdims=True)


def random_rows(seed: int, num_rows: int, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and weak probabilities, of which the last four are 0 or 1 where there are as many."""
    logits, weak_probs = random_arrays.random_batch(seed, num_rows, scale)
    if num_rows > 4:
        weak_probs[-4:] = np.eye(2)[[0, 1, 0, 1]]
    return logits, weak_probs


def weak64(name: str, weak_probs: np.ndarray) -> np.ndarray:
    """Weak probabilities as the divergence takes them: at least 1e-6 where it is infinite at 0."""
    return np.maximum(weak_probs.astype(np.float64), 1e-6 if name in CLAMPED else 0.0)


@functools.partial(jax.jit, static_argnums=0)
def of_probabilities(name: str, f, w):
    return getattr(divergences, name)(jnp.log(f), w)


def value(name: str, f_1: float, w_1: float) -> float:
    """The divergence of two pairs of probabilities."""
    return float(of_probabilities(name, *(np.array([[1 - p, p]], np.float32) for p in (f_1, w_1)))[0])


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(name: str, logits, weak_probs):
    """Of the loss of one row."""
    value, gradient = jax.value_and_grad(lambda x: losses.get(name)(x, weak_probs, 0.5)[0])(logits)
    return value, gradient[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("num_rows", "scale", "logit_scale"), [(1, 1.0, 2.0), (11, 1.0, 2.0), (11, 0.3, 2.0), (11, 1.0, 8.0)]
)
def test_values_and_gradients_against_float64(name, num_rows, scale, logit_scale):
    logits, weak_probs = random_rows(num_rows, num_rows, logit_scale)
    loss = losses.get(name, scale=scale)
    values, (grads,) = programs.value_and_gradients(lambda x: loss(x, weak_probs, 0.5), logits)
    assert values.dtype == jnp.float32 and values.shape == (num_rows,)
    expected, expected_grads = [], []
    for f, w in zip(softmax64(logits), weak64(name, weak_probs), strict=True):
        by_f = DERIVATIVES[name](f, w)
        expected.append(scale * FORMULAS[name](f, w))
        expected_grads.append(scale * f * (by_f - (f * by_f).sum()))  # through the softmax
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(grads, expected_grads, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_of_this_file_are_those_of_its_formulas(name):
    """By central differences along the simplex, so that the gradients above do not rest on algebra alone."""
    logits, weak_probs = random_rows(3, 11)
    eps = 1e-6
    for f, w in zip(softmax64(logits), weak64(name, weak_probs), strict=True):
        along = np.array([-eps, eps])
        slope = (FORMULAS[name](f + along, w) - FORMULAS[name](f - along, w)) / (2 * eps)
        by_f = DERIVATIVES[name](f, w)
        assert abs(slope - (by_f[1] - by_f[0])) < 1e-6 * max(1, abs(slope))


@pytest.mark.parametrize("name", NAMES)
@PROPERTY
@hypothesis.given(f_1=PROBS, w_1=PROBS)
def test_a_divergence_is_0_where_both_are_equal_and_positive_elsewhere(name, f_1, w_1):
    assert abs(value(name, f_1, f_1)) < 1e-6
    if abs(f_1 - w_1) > 0.01:
        assert value(name, f_1, w_1) > 1e-6
    assert value(name, f_1, w_1) > -1e-6


@pytest.mark.parametrize("name", SYMMETRIC)
@PROPERTY
@hypothesis.given(f_1=PROBS, w_1=PROBS)
def test_symmetric_ones(name, f_1, w_1):
    assert value(name, f_1, w_1) == pytest.approx(value(name, w_1, f_1), abs=1e-6)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SYMMETRIC)))
def test_the_others_tell_student_and_weak_apart(name):
    assert abs(value(name, 0.9, 0.4) - value(name, 0.4, 0.9)) > 0.01


@PROPERTY
@hypothesis.given(f_1=PROBS, w_1=PROBS)
def test_the_kl_divergences_mirror_each_other(f_1, w_1):
    assert value("forward_kl", f_1, w_1) == pytest.approx(value("reverse_kl", w_1, f_1), rel=1e-5, abs=1e-6)


@PROPERTY
@hypothesis.given(f_1=PROBS, w_1=PROBS)
def test_known_inequalities(f_1, w_1):
    found = {name: value(name, f_1, w_1) for name in NAMES}
    hellinger, variation, slack = max(found["hellinger"], 0.0), found["total_variation"], 1e-6
    assert hellinger <= variation + slack
    assert variation <= np.sqrt(2 * hellinger) + 1e-3  # the root of an error of 1e-7 or so
    assert 2 * variation**2 <= found["reverse_kl"] + slack  # Pinsker
    assert 2 * variation**2 <= found["forward_kl"] + slack
    assert found["reverse_kl"] <= np.log1p(found["chi_squared"]) + slack
    assert found["jensen_shannon"] <= np.log(2) * variation + slack  # Lin 1991
    assert found["jensen_shannon"] >= variation**2 / 2 - slack  # Pinsker, to the mean
    assert 4 * variation**2 <= found["chi_squared"] + slack


@pytest.mark.parametrize("name", NAMES)
@PROPERTY
@hypothesis.given(f_1=PROBS, w_1=PROBS)
def test_the_names_of_the_classes_do_not_matter(name, f_1, w_1):
    """Within what float32 holds of 1 - p."""
    assert value(name, 1 - f_1, 1 - w_1) == pytest.approx(value(name, f_1, w_1), rel=1e-2, abs=1e-5)


def test_forward_kl_has_the_gradient_of_finetune():
    logits, weak_probs = random_arrays.random_batch(4, 11)
    gradients = [
        jax.grad(lambda x, name=name: jnp.sum(losses.get(name)(x, weak_probs, 0.5)))(jnp.asarray(logits))
        for name in ("forward_kl", "finetune")
    ]
    np.testing.assert_allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("forward_kl", 2e4),  # log f of the class that the weak model is sure of
        ("reverse_kl", np.log(1e6)),
        ("jensen_shannon", np.log(2)),
        ("hellinger", 1.0),
        ("total_variation", 1.0),
        ("chi_squared", 1e6),
    ],
)
def test_a_student_sure_of_the_class_that_the_weak_model_rules_out(name, expected):
    """Weak probabilities of 0 count as 1e-6 where the divergence is infinite."""
    loss = losses.get(name)(np.array([[1e4, -1e4]], np.float32), np.array([[0.0, 1.0]], np.float32), 0.5)
    np.testing.assert_allclose(loss, expected, rtol=2e-5)


@pytest.mark.parametrize("name", NAMES)
@PROPERTY
@hypothesis.given(
    size=st.one_of(st.floats(-110, 110), st.sampled_from([-600.0, 600.0])), w_1=st.sampled_from([0.0, 1.0])
)
def test_hard_labels_and_a_sure_student_against_float64(name, size, w_1):
    """f representable in float32, next to its least number, and below it."""
    logits, weak_probs = np.array([[0.0, size]], np.float32), np.array([[1 - w_1, w_1]], np.float32)
    value, gradient = value_and_gradient(name, logits, weak_probs)
    f, w = softmax64(logits)[0], weak64(name, weak_probs)[0]
    np.testing.assert_allclose(value, FORMULAS[name](f, w), rtol=3e-6, atol=1e-6)
    by_f = DERIVATIVES[name](f, w)
    expected = f * (by_f - (f * by_f).sum())
    np.testing.assert_allclose(gradient, expected, rtol=3e-6, atol=1e-6)


def test_an_agreement_of_hard_labels_and_a_student_beyond_float32_is_exactly_0():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    for name in sorted(set(NAMES) - set(CLAMPED)):
        np.testing.assert_array_equal(losses.get(name)(logits, np.eye(2, dtype=np.float32), 0.5), 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_agreement_at_certainty_costs_nothing(name):
    logits = np.array([[30.0, -30.0], [-30.0, 30.0]], np.float32)
    np.testing.assert_allclose(losses.get(name)(logits, np.eye(2, dtype=np.float32), 0.5), 0.0, atol=1e-4)


@pytest.mark.usefixtures("registrations")
def test_the_code_of_a_divergence_of_ones_own_is_that_of_its_loss():
    @divergences.register("mine")
    def mine(log_probs, weak_probs):
        return jnp.sum(weak_probs, axis=-1) - jnp.sum(log_probs, axis=-1)

    factory = losses.LOSSES["mine"]
    assert factory.__module__ == __name__ and inspect.unwrap(factory) is mine
    assert losses.LOSSES.option_names("mine") == {"scale"}
    assert losses.LOSSES["hellinger"].__module__ == divergences.__name__
