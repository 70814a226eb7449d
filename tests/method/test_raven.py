"""RAVEN's labels and weights: the design's numbers, the exact cases, and gradients as JAX takes them of the loss."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import random_arrays

from selw2s_jax.method import label_rules, losses, raven

MIXES = pytest.mark.parametrize("mix", raven.MIXES)
NUM = 23


def a_batch(num_members: int = 3, num_rows: int = NUM):
    """Weights on the simplex, members' probabilities, logits of the student and a mask."""
    weights = np.random.default_rng(2).dirichlet(np.ones(num_members)).astype(np.float32)
    weak = random_arrays.weak_each(5, num_rows, num_members)
    return weights, weak, random_arrays.random_batch(7, num_rows)[0], random_arrays.random_mask(8, num_rows)


def logits_of(prob_1: float) -> np.ndarray:
    return np.array([[math.log(1 - prob_1), math.log(prob_1)]], np.float32)


def test_two_members_who_contradict_each_other():
    weak = np.array([[[0, 1], [1, 0]]], np.float32)
    labels, gradient, weights = raven.update(np.full(2, 0.5), weak, logits_of(0.75), learning_rate=0.1)
    np.testing.assert_allclose(labels, [[0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(gradient, [-math.log(3) / 2, math.log(3) / 2], rtol=1e-6)
    np.testing.assert_allclose(weights, [0.5549, 0.4451], atol=5e-5)
    assert {array.dtype for array in (labels, gradient, weights)} == {jnp.dtype("float32")}


@MIXES
def test_the_gradient_is_that_of_the_loss_in_the_weights(mix):
    """Where probabilities are mixed, of the loss of a label that is divided by the sum of the weights."""
    weights, weak, logits, mask = a_batch()

    def label(v):
        if mix == "probabilities":
            return jnp.einsum("k,ekc->ec", v / jnp.sum(v), weak)
        return jax.nn.softmax(jnp.einsum("k,ekc->ec", v, jnp.log(weak)))

    loss = lambda v: jnp.mean(losses.cross_entropy(jnp.asarray(logits), label(v))[mask])  # noqa: E731
    rate = 0.7
    update = jax.jit(functools.partial(raven.update, learning_rate=rate, mix=mix))
    labels, gradient, moved = update(weights, weak, logits, example_mask=mask)
    expected = np.asarray(jax.jit(jax.grad(loss))(weights))
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(labels, label(weights), rtol=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    following = np.maximum(weights - rate * expected, 1e-6)
    np.testing.assert_allclose(moved, following / following.sum(), rtol=1e-4)


def test_the_gradient_is_the_formula_written_out():
    weights, weak, logits, _ = a_batch()
    log_f = np.log(
        np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(-1, keepdims=True)
    )
    cross_entropy = lambda probs: -(probs * log_f).sum(-1)  # noqa: E731
    mixed = (weights[:, None] * weak).sum(1)
    expected = [(cross_entropy(weak[:, k]) - cross_entropy(mixed)).mean() for k in range(3)]
    np.testing.assert_allclose(raven.update(weights, weak, logits, learning_rate=0.0)[1], expected, atol=1e-6)


@MIXES
def test_one_member_keeps_its_weight_and_its_labels(mix):
    _, weak, logits, _ = a_batch(1)
    labels, gradient, weights = raven.update(np.ones(1), weak, logits, learning_rate=3.0, mix=mix)
    np.testing.assert_array_equal(weights, [1.0])
    np.testing.assert_allclose(labels, weak[:, 0], rtol=1e-5)
    if mix == "probabilities":
        np.testing.assert_array_equal(gradient, [0.0])
        np.testing.assert_array_equal(labels, weak[:, 0])


@MIXES
def test_without_a_rate_labels_are_the_mean_and_stay_so(mix):
    _, weak, logits, _ = a_batch()
    weights = np.full(3, 1 / 3, np.float32)
    labels, _, moved = raven.update(weights, weak, logits, learning_rate=0.0, mix=mix)
    np.testing.assert_allclose(moved, weights, rtol=1e-7)
    if mix == "probabilities":
        np.testing.assert_allclose(labels, weak.mean(1), rtol=1e-6)


@MIXES
def test_copies_keep_equal_weights(mix):
    _, weak, logits, _ = a_batch()
    weak = weak[:, [0, 1, 0, 0]]
    weights = np.full(4, 0.25, np.float32)
    for _ in range(20):
        _, _, weights = raven.update(weights, weak, logits, learning_rate=0.5, mix=mix)
    assert weights[0] == weights[2] == weights[3] != weights[1]


@MIXES
@pytest.mark.parametrize("logit", [0.0, -3.3, 70.1])
def test_a_student_that_knows_nothing_moves_no_weight(mix, logit):
    weights, weak, logits, _ = a_batch()
    _, gradient, moved = raven.update(weights, weak, np.full_like(logits, logit), learning_rate=1e3, mix=mix)
    np.testing.assert_array_equal(gradient, 0.0)
    np.testing.assert_allclose(moved, weights, rtol=1e-6)


@MIXES
def test_masked_rows_may_hold_anything(mix):
    weights, weak, logits, mask = a_batch()
    expected = raven.update(weights, weak[mask], logits[mask], learning_rate=0.5, mix=mix)
    dirty = [random_arrays.with_garbage(array, mask) for array in (weak, logits)]
    found = raven.update(weights, *dirty, learning_rate=0.5, mix=mix, example_mask=mask)
    np.testing.assert_allclose(found[0][mask], expected[0], rtol=1e-6)
    for one, other in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    nothing = raven.update(weights, *dirty, learning_rate=0.5, mix=mix, example_mask=np.zeros(NUM, bool))
    np.testing.assert_array_equal(nothing[1], 0.0)


def test_a_weight_is_at_least_the_floor_before_the_sum_is_divided_by():
    weak = np.array([[[0, 1], [1, 0]]], np.float32)
    _, _, weights = raven.update(np.full(2, 0.5), weak, logits_of(0.9), learning_rate=0.9, floor=0.01)
    moved = 0.5 + 0.9 * math.log(9) / 2  # the other would fall to -0.49
    np.testing.assert_allclose(weights, np.array([moved, 0.01]) / (moved + 0.01), rtol=1e-5)


def test_hard_labels_may_be_mixed_as_logits():
    weak = np.array([[[0, 1], [1, 0]], [[0, 1], [0, 1]]], np.float32)
    found = raven.update(np.full(2, 0.5), weak, logits_of(0.75).repeat(2, 0), learning_rate=0.1, mix="logits")
    assert all(np.isfinite(array).all() for array in found)
    np.testing.assert_allclose(found[0], [[0.5, 0.5], [1e-6, 1 - 1e-6]], atol=1e-7)


def test_no_other_mix():
    with pytest.raises(ValueError, match="mix='votes' is not one of: probabilities, logits"):
        raven.update(*a_batch()[:3], learning_rate=0.1, mix="votes")


def test_a_weight_for_each_member():
    _, weak, logits, _ = a_batch()
    with pytest.raises(ValueError, match=r"weights of shape \(1,\) for members of shape \(23, 3, 2\)"):
        raven.update(np.ones(1), weak, logits, learning_rate=0.1)


# The label rule.


def inputs_at(step_fraction: float) -> label_rules.RuleInputs:
    return random_arrays.rule_inputs(4, NUM)._replace(step_fraction=jnp.float32(step_fraction))


def test_weights_start_alike():
    rule = label_rules.get("raven")
    weights = rule.init({"weak_each": (3, 2), "weak_probs": (2,)})
    np.testing.assert_array_equal(weights, np.full(3, 1 / 3, np.float32))


def test_labels_are_of_the_weights_before_the_step():
    rule, inputs = (
        label_rules.get("raven", learning_rate=0.5),
        inputs_at(0.1),
    )  # the first step that is not frozen
    weights = a_batch()[0]
    labels, following = jax.jit(rule.label)(inputs, weights)
    mixed, _, moved = raven.update(
        weights, inputs.columns["weak_each"], inputs.class_logits, learning_rate=0.5,
        example_mask=inputs.example_mask,
    )  # fmt: skip
    np.testing.assert_allclose(labels.targets, mixed, rtol=1e-6)
    np.testing.assert_allclose(following, moved, rtol=1e-6)
    assert np.abs(following - weights).max() > 1e-3 and labels.in_loss.all() and not labels.ik_mask.any()
    np.testing.assert_allclose([labels.metrics[f"weight_{k}"] for k in range(3)], weights)


@pytest.mark.parametrize("easy_only", [True, False])
def test_at_first_weights_stay_and_rows_whose_members_agree_count(easy_only):
    inputs, weights = inputs_at(0.099), a_batch()[0]
    labels, following = label_rules.get("raven", easy_only=easy_only).label(inputs, weights)
    np.testing.assert_array_equal(following, weights)
    classes = np.asarray(inputs.columns["weak_each"])[..., 1] > 0.5
    agrees = classes.all(1) | ~classes.any(1)
    assert 0 < agrees.sum() < NUM
    np.testing.assert_array_equal(labels.in_loss, agrees if easy_only else np.ones(NUM, bool))
    mask = np.asarray(inputs.example_mask)
    assert float(labels.metrics["agreement"]) == pytest.approx(agrees[mask].mean())
