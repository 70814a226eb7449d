"""Losses against float64 formulas written apart from the code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import programs, random_arrays

from selw2s_jax.method import losses, registry

LOSSES = sorted({method.loss for method in registry.METHODS.values()})


def log_softmax64(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def confidence_targets64(logits, weak_probs, weight: float) -> np.ndarray:
    """(1 - c) w + c onehot(h) of Burns et al. 2023, one row at a time."""
    prob_0 = np.exp(log_softmax64(logits))[:, 0]
    threshold = np.quantile(prob_0, weak_probs[:, 1].astype(np.float64).mean())
    targets = []
    for p, w in zip(prob_0, weak_probs.astype(np.float64), strict=True):
        own = np.array([1.0, 0.0]) if p >= threshold else np.array([0.0, 1.0])
        targets.append((1 - weight) * w + weight * own)
    return np.array(targets)


def assert_loss_and_gradient(loss, logits, weak_probs, fraction, targets64):
    """The loss is the cross-entropy on fixed targets, and its gradient softmax - targets."""
    values, (grads,) = programs.value_and_gradients(lambda x: loss(x, weak_probs, fraction), logits)
    assert values.dtype == jnp.float32 and values.shape == (len(logits),)
    np.testing.assert_allclose(values, -(targets64 * log_softmax64(logits)).sum(-1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(grads, np.exp(log_softmax64(logits)) - targets64, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num_rows", [1, 11])
@pytest.mark.parametrize("fraction", [0.0, 0.03, 0.7])
def test_finetune_is_cross_entropy_on_soft_labels(num_rows, fraction):
    logits, weak_probs = random_arrays.random_batch(num_rows, num_rows)
    assert_loss_and_gradient(
        losses.get("finetune"), logits, weak_probs, fraction, weak_probs.astype(np.float64)
    )


@pytest.mark.parametrize("num_rows", [1, 11])
@pytest.mark.parametrize(
    ("options", "fraction", "weight"),
    [
        ({}, 0.0, 0.0),
        ({}, 0.03, 0.15),
        ({}, 0.1, 0.5),
        ({}, 0.9, 0.5),
        ({"confidence_coefficient": 0.8, "confidence_ramp_fraction": 0.25}, 0.125, 0.4),
        ({"openai_ramp": True}, 0.03, 0.015),
        ({"openai_ramp": True}, 0.1, 0.05),
        ({"openai_ramp": True}, 0.11, 0.5),
    ],
)
def test_confidence_against_its_definition(num_rows, options, fraction, weight):
    logits, weak_probs = random_arrays.random_batch(num_rows + 100, num_rows)
    targets = confidence_targets64(logits, weak_probs, weight)
    assert_loss_and_gradient(losses.get("confidence", **options), logits, weak_probs, fraction, targets)


def test_confidence_gradient_by_finite_differences():
    """Threshold and own class are constants of the gradient: check against differences of the formula."""
    logits, weak_probs = random_arrays.random_batch(5, 11)
    targets = confidence_targets64(logits, weak_probs, 0.5)
    grads = programs.gradient(lambda x: losses.get("confidence")(x, weak_probs, 1.0), logits)
    eps = 1e-5
    for index in np.ndindex(logits.shape):
        step = np.zeros(logits.shape)
        step[index] = eps
        up, down = (-(targets * log_softmax64(logits + s * step)).sum() for s in (1, -1))
        assert abs(float(grads[index]) - (up - down) / (2 * eps)) < 1e-6


def test_confidence_hardens_as_many_rows_as_the_weak_labels_have():
    logits, _ = random_arrays.random_batch(3, 11)
    weak_probs = np.eye(2, dtype=np.float32)[[1] * 4 + [0] * 7]
    only_own = jax.jit(losses.get("confidence", confidence_coefficient=1.0))
    own_1 = np.argsort(logits[:, 0] - logits[:, 1])[:4]  # the four least likely to be class 0
    expected = -log_softmax64(logits)[np.arange(11), np.isin(np.arange(11), own_1).astype(int)]
    np.testing.assert_allclose(only_own(logits, weak_probs, 1.0), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num_rows", [1, 11])
@pytest.mark.parametrize(("weak_power", "student_power"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.0), (0.0, 0.7)])
def test_product_against_its_definition(num_rows, weak_power, student_power):
    logits, weak_probs = random_arrays.random_batch(num_rows + 200, num_rows)
    product = weak_probs.astype(np.float64) ** weak_power * np.exp(student_power * log_softmax64(logits))
    targets = product / product.sum(-1, keepdims=True)
    loss = losses.get("product", product_weak_power=weak_power, product_student_power=student_power)
    assert_loss_and_gradient(loss, logits, weak_probs, 0.5, targets)


def product_targets64(logits, weak_probs, weak_power: float, student_power: float) -> np.ndarray:
    """w^a f^b, normalised, with 0^0 = 1; f by its logarithm, as float64 does not hold it either."""
    zeros = (weak_probs == 0) & (weak_power > 0)
    log_weak = weak_power * np.log(np.where(weak_probs > 0, weak_probs.astype(np.float64), 1.0))
    log_product = log_weak + student_power * log_softmax64(logits)
    largest = np.where(zeros, -np.inf, log_product).max(-1, keepdims=True)
    product = np.where(zeros, 0.0, np.exp(np.where(zeros, 0.0, log_product - largest)))
    return product / product.sum(-1, keepdims=True)


@pytest.mark.parametrize("powers", [(1.0, 1.0), (0.5, 2.0), (2.0, 0.0), (0.0, 0.7), (0.0, 0.0)])
def test_product_of_hard_labels_and_a_sure_student_is_exact(powers):
    """No floor under w: what a hard label rules out stays out, however sure of it the student is."""
    sizes = [*np.random.default_rng(5).uniform(-110, 110, 13), 0.0, -1e4, 1e4]
    size, w_1 = np.array([(s, w) for s in sizes for w in (0.0, 1e-9, 1e-6, 0.3, 1.0)], np.float32).T
    logits, weak_probs = np.stack([0 * size, size], -1), np.stack([1 - w_1, w_1], -1)
    targets = product_targets64(logits, weak_probs, *powers)
    loss = losses.get("product", product_weak_power=powers[0], product_student_power=powers[1])
    assert_loss_and_gradient(loss, logits, weak_probs, 0.5, targets)
    if powers[0] > 0:
        is_hard = (w_1 == 0) | (w_1 == 1)
        np.testing.assert_array_equal(targets[is_hard], weak_probs[is_hard])
        plain = losses.get("finetune")(logits, weak_probs, 0.5)
        np.testing.assert_array_equal(loss(logits, weak_probs, 0.5)[is_hard], plain[is_hard])


def test_product_whose_products_are_both_0_is_even():
    """As only powers reach that take the logarithms beyond float32."""
    logits, weak_probs = np.array([[0.0, 1e30]], np.float32), np.array([[1.0, 0.0]], np.float32)
    loss = losses.get("product", product_student_power=1e10)
    grads = programs.gradient(lambda x: loss(x, weak_probs, 0.5), logits)
    np.testing.assert_array_equal(grads, [[-0.5, 0.5]])


@pytest.mark.parametrize("size", [0.3, 20.0, 1e4])
@pytest.mark.parametrize("w_1", [0.0, 1.0])
def test_adaptive_of_hard_labels_is_exact(size, w_1):
    """KL(w‖f) of a hard label is its cross-entropy; c is 1/2 where the student agrees, near 0 where not."""
    logits, weak_probs = np.array([[0.0, size]], np.float32), np.array([[1 - w_1, w_1]], np.float32)
    log_f = log_softmax64(logits)[0]
    own, weak = -log_f[1], -log_f[int(w_1)]
    weight = 1 / (1 + np.exp(np.clip(weak - own, -700, 700)))
    loss = losses.get("adaptive")
    values, (grads,) = programs.value_and_gradients(lambda x: loss(x, weak_probs, 0.5), logits)
    np.testing.assert_allclose(values, [(1 - weight) * weak + weight * own], rtol=3e-6, atol=1e-7)
    expected = np.exp(log_f) - (1 - weight) * weak_probs[0] - weight * np.array([0.0, 1.0])
    np.testing.assert_allclose(grads[0], expected, rtol=3e-6, atol=3e-6)


def adaptive64(logits, weak_probs, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Guo et al. 2024, one row at a time: the loss `[B]`, and its gradient `[B, 2]` at a constant weight."""
    values, grads = [], []
    for log_f, w in zip(log_softmax64(logits), weak_probs.astype(np.float64), strict=True):
        own, weak = int(log_f[1] > log_f[0]), int(w[1] > w[0])
        a, b = np.exp(-log_f[own] / temperature), np.exp(-log_f[weak] / temperature)
        c = a / (a + b)
        values.append((1 - c) * (w * (np.log(w) - log_f)).sum() - c * log_f[own])
        grads.append(np.exp(log_f) - (1 - c) * w - c * np.eye(2)[own])
    return np.array(values), np.array(grads)


@pytest.mark.parametrize("num_rows", [1, 11])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_adaptive_against_its_definition(num_rows, temperature):
    logits, weak_probs = random_arrays.random_batch(num_rows + 300, num_rows)
    loss = losses.get("adaptive", adaptive_temperature=temperature)
    values, (grads,) = programs.value_and_gradients(lambda x: loss(x, weak_probs, 0.5), logits)
    expected, expected_grads = adaptive64(logits, weak_probs, temperature)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(grads, expected_grads, rtol=1e-6, atol=1e-6)


def test_adaptive_trusts_the_weak_label_where_both_agree_no_more_than_half():
    """c is 1/2 where the classes agree, and falls to 0 as the student grows sure of the other class."""
    weak_probs = np.array([[0.2, 0.8]] * 3, np.float32)
    logits = np.array([[0.0, 3.0], [3.0, 0.0], [300.0, 0.0]], np.float32)
    grads = programs.gradient(lambda x: losses.get("adaptive")(x, weak_probs, 0.5), logits)
    probs = np.exp(log_softmax64(logits))
    weights = (np.asarray(grads, np.float64) - probs + weak_probs)[:, 1] / [-0.2, 0.8, 0.8]
    np.testing.assert_allclose(weights, [0.5, 1 / (1 + np.exp(3)), 0.0], atol=1e-6)


def test_adaptive_starts_with_the_weak_labels_where_the_student_knows_nothing():
    """Zero heads: every gradient pulls to the class of its own weak label, none to one class for all."""
    weak_probs = np.array([[0.2, 0.8], [0.6, 0.4]], np.float32)
    grads = programs.gradient(
        lambda x: losses.get("adaptive")(x, weak_probs, 0.0), np.zeros((2, 2), np.float32)
    )
    targets = (weak_probs + np.array([[0, 1], [1, 0]])) / 2
    np.testing.assert_allclose(grads, 0.5 - targets, atol=1e-6)


def random_batches(count: int, scales=(2.0,)) -> tuple[np.ndarray, np.ndarray]:
    """Logits and weak probabilities `[N, 11, 2]` of so many batches of each scale."""
    drawn = [random_arrays.random_batch(seed, 11, scale) for scale in scales for seed in range(count)]
    return tuple(np.stack(arrays) for arrays in zip(*drawn, strict=True))


@pytest.mark.parametrize("name", ["finetune", "confidence", "product"])
def test_targets_of_cross_entropies_are_probabilities(name):
    """The gradient of a cross-entropy is softmax - target: it shows the target, one in the simplex."""
    logits, weak_probs = random_batches(20, scales=(0.1, 2.0, 50.0))
    gradient = jax.grad(lambda x, w: jnp.sum(losses.get(name)(x, w, 0.5)))
    grads = jax.jit(jax.vmap(gradient))(logits, weak_probs)
    targets = np.exp(log_softmax64(logits)) - np.asarray(grads, np.float64)
    assert targets.min() > -1e-6 and targets.max() < 1 + 1e-6
    np.testing.assert_allclose(targets.sum(-1), 1.0, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_no_gradient_reaches_the_targets(name):
    logits, weak_probs = random_arrays.random_batch(4, 11)
    grads = programs.gradient(lambda w: losses.get(name)(logits, w, 0.5), weak_probs)
    np.testing.assert_array_equal(grads, 0.0)


@pytest.mark.parametrize("num_rows", [1, 11])
def test_masked_quantile_is_the_quantile_of_unmasked_values(num_rows):
    rng = np.random.default_rng(num_rows)
    values = rng.random((40, num_rows)).astype(np.float32)
    mask = np.stack([random_arrays.random_mask(seed, num_rows) for seed in range(40)])
    levels = np.concatenate([[0.0, 1.0, 0.5], rng.random(37)]).astype(np.float32)
    garbage = np.stack([random_arrays.with_garbage(*pair) for pair in zip(values, mask, strict=True)])
    found = jax.jit(jax.vmap(losses.masked_quantile))(garbage, levels, mask)
    expected = [
        np.quantile(v[m].astype(np.float64), np.float64(level))
        for v, m, level in zip(values, mask, levels, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2e-6)


def test_masked_quantile_of_ties_ends_and_nothing():
    values, mask = jnp.array([0.3, 0.3, 0.9]), jnp.ones(3, bool)
    assert [float(losses.masked_quantile(values, level, mask)) for level in (0.0, 0.5)] == [values[0]] * 2
    assert float(losses.masked_quantile(values, 1.0, mask)) == values[2]
    assert float(losses.masked_quantile(values, 0.5, jnp.zeros(3, bool))) == 0.0


@pytest.mark.parametrize("name", LOSSES)
def test_masked_rows_change_no_loss_and_no_gradient(name):
    loss = losses.get(name)
    logits, weak_probs = random_batches(20)
    mask = np.stack([random_arrays.random_mask(seed, 11, count=7) for seed in range(20)])

    @jax.jit
    @jax.vmap
    def values_and_grads(logits, weak_probs, mask):
        def total(x):
            values = loss(x, weak_probs, 0.5, mask)
            return jnp.sum(jnp.where(mask, values, 0.0)), values

        grads, values = jax.grad(total, has_aux=True)(logits)
        return values, grads

    def garbage(arrays):
        return np.stack([random_arrays.with_garbage(*pair) for pair in zip(arrays, mask, strict=True)])

    clean = values_and_grads(logits, weak_probs, mask)
    dirty = values_and_grads(garbage(logits), garbage(weak_probs), mask)
    kept = (20, 7, 2)
    alone = values_and_grads(
        logits[mask].reshape(kept), weak_probs[mask].reshape(kept), np.ones(kept[:2], bool)
    )
    for expected, found, without in zip(clean, dirty, alone, strict=True):
        np.testing.assert_array_equal(np.asarray(found)[mask], np.asarray(expected)[mask])
        without = np.asarray(without).reshape(np.asarray(expected)[mask].shape)
        np.testing.assert_allclose(without, np.asarray(expected)[mask], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_permutation_equivariant(name):
    logits, weak_probs = random_batches(20)
    mask = np.stack([random_arrays.random_mask(seed, 11) for seed in range(20)])
    order = np.stack([np.random.default_rng([seed, 2]).permutation(11) for seed in range(20)])
    values_of = jax.jit(jax.vmap(lambda x, w, m: losses.get(name)(x, w, 0.5, m)))
    values = np.asarray(values_of(logits, weak_probs, mask))

    def permuted(array):
        return np.take_along_axis(array, order.reshape(order.shape + (1,) * (array.ndim - 2)), axis=1)

    found = np.asarray(values_of(permuted(logits), permuted(weak_probs), permuted(mask)))
    kept = permuted(mask)
    np.testing.assert_allclose(found[kept], permuted(values)[kept], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_float32_of_bfloat16_logits(name):
    logits, weak_probs = random_arrays.random_batch(1, 11)
    rounded = jnp.asarray(logits, jnp.bfloat16)
    values = losses.get(name)(rounded, weak_probs, jnp.float32(0.5))
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(values, losses.get(name)(rounded.astype(jnp.float32), weak_probs, 0.5))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_finite_at_certain_probabilities(name):
    """Student and weak probabilities of exactly 0 and 1, in every combination, in value and gradient."""
    weak = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], np.float32)
    student = np.array([[1, -1], [-1, 1], [0, 1], [1, 0]], np.float32)
    one_batch, weak_probs = np.repeat(student, len(weak), axis=0), np.tile(weak, (len(student), 1))
    logits = np.float32([0.0, 200.0, 1e4, 1e30])[:, None, None] * one_batch
    assert set(np.exp(log_softmax64(logits[1:])).astype(np.float32).reshape(-1).tolist()) == {0.0, 1.0}
    loss = losses.get(name)
    of_sizes = jax.vmap(lambda x, fraction: loss(x, weak_probs, fraction), in_axes=(0, None))
    for fraction in np.float32([0.0, 0.5]):
        values, (grads, _) = programs.value_and_gradients(of_sizes, logits, fraction)
        assert np.isfinite(values).all() and np.isfinite(grads).all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_run_under_jit_with_a_traced_step(name):
    loss = losses.get(name)
    logits, weak_probs = random_arrays.random_batch(2, 11)
    mask = random_arrays.random_mask(2, 11)
    jitted = jax.jit(loss)(logits, weak_probs, jnp.float32(0.05), mask)
    np.testing.assert_allclose(jitted, loss(logits, weak_probs, 0.05, mask), rtol=1e-6, atol=1e-6)


def test_an_unknown_option_of_a_loss_is_an_error():
    with pytest.raises(TypeError, match="strength"):
        losses.get("confidence", strength=1.0)
