"""The loss of written answers (Eq. 5 of arXiv 2406.19032) against float64, one row at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import random_arrays

from selw2s_jax.method import losses


def make_batch(seed: int, num_rows: int = 7, length: int = 5):
    """Log-probabilities, answer mask, weights and example mask; a row that counts has no answer token."""
    rng = np.random.default_rng(seed)
    log_probs = -rng.exponential(2, (num_rows, length)).astype(np.float32)
    answer_mask = rng.random((num_rows, length)) < 0.6
    answer_mask[: min(2, num_rows)] = True
    weights = rng.random(num_rows).astype(np.float32)
    example_mask = np.arange(num_rows) % 3 != 2
    if num_rows > 3:
        answer_mask[3] = False
    return log_probs, answer_mask, weights, example_mask


def loss64(log_probs, answer_mask, weights, example_mask, mean="rows", normalize=False) -> float:
    total, divisor = 0.0, 0.0
    for row, answer, weight, counts in zip(
        log_probs.astype(np.float64), answer_mask, weights, example_mask, strict=True
    ):
        if counts:
            tokens = row[answer]
            size = 1 if mean == "rows" else len(tokens)
            total -= float(weight) * (tokens.sum() / (max(len(tokens), 1) if mean == "rows" else 1))
            divisor += size * (float(weight) if normalize else 1)
    return total / divisor


@pytest.mark.parametrize("num_rows", [1, 7, 11])
@pytest.mark.parametrize("mean", losses.COMPLETION_MEANS)
@pytest.mark.parametrize("normalize", [False, True])
def test_value_and_gradient_against_the_definition(num_rows, mean, normalize):
    log_probs, answer_mask, weights, example_mask = make_batch(num_rows, num_rows)
    options = {"mean": mean, "normalize": normalize}
    value, grads = jax.jit(
        jax.value_and_grad(lambda x: losses.completion_loss(x, answer_mask, weights, example_mask, **options))
    )(log_probs)
    assert value.dtype == jnp.float32 and value.shape == ()
    expected = loss64(log_probs, answer_mask, weights, example_mask, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for place in np.ndindex(log_probs.shape):  # linear in each log-probability
        up = log_probs.astype(np.float64)
        up[place] += 1
        slope = loss64(up, answer_mask, weights, example_mask, **options) - expected
        np.testing.assert_allclose(grads[place], slope, rtol=1e-5, atol=1e-7)


def test_with_weight_1_it_is_the_mean_of_the_rows_own_losses():
    """Eq. 1; and a weight of 1/2 everywhere halves it, as the number of rows divides and not the sum of weights."""
    log_probs, answer_mask, _, _ = make_batch(0)
    plain = [
        -(row[mask].mean() if mask.any() else 0.0) for row, mask in zip(log_probs, answer_mask, strict=True)
    ]
    ones = np.ones(7, np.float32)
    np.testing.assert_allclose(
        losses.completion_loss(log_probs, answer_mask, ones), np.mean(plain), rtol=1e-6
    )
    np.testing.assert_allclose(
        losses.completion_loss(log_probs, answer_mask, ones / 2), np.mean(plain) / 2, rtol=1e-6
    )
    np.testing.assert_allclose(
        losses.completion_loss(log_probs, answer_mask, ones / 2, normalize=True), np.mean(plain), rtol=1e-6
    )
    one = losses.completion_loss(log_probs[:1], answer_mask[:1], ones[:1])
    np.testing.assert_allclose(one, -log_probs[0].mean(), rtol=1e-6)


def test_a_weight_of_0_counts_as_a_row_and_padding_does_not():
    log_probs, answer_mask, weights, _ = make_batch(1)
    loss = losses.completion_loss(log_probs, answer_mask, weights)
    without = losses.completion_loss(log_probs, answer_mask, np.where(np.arange(7) == 1, 0, weights))
    masked = losses.completion_loss(log_probs, answer_mask, weights, np.arange(7) != 1)
    np.testing.assert_allclose(without * 7, masked * 6, rtol=1e-6)
    assert without < loss


@pytest.mark.parametrize("mean", losses.COMPLETION_MEANS)
def test_what_is_masked_changes_no_bit(mean):
    log_probs, answer_mask, weights, example_mask = make_batch(2)
    counts = answer_mask & example_mask[:, None]
    dirty = random_arrays.with_garbage(log_probs.reshape(-1), counts.reshape(-1)).reshape(log_probs.shape)
    dirty_weights = random_arrays.with_garbage(weights, example_mask)

    def run(log_probs, weights):
        return jax.value_and_grad(losses.completion_loss)(
            log_probs, answer_mask, weights, example_mask, mean=mean
        )

    for clean, other in zip(run(log_probs, weights), run(dirty, dirty_weights), strict=True):
        np.testing.assert_array_equal(clean, other)
    value, grads = jax.value_and_grad(losses.completion_loss)(
        dirty, answer_mask, dirty_weights, np.zeros(7, bool)
    )
    assert value == 0 and not grads.any()


def test_parts_of_a_batch_add_up():
    """By sums of rows, as they come from micro-batches: the same whatever the parts."""
    log_probs, answer_mask, weights, example_mask = make_batch(3, 11)
    sums = [
        np.where(answer_mask[part], log_probs[part], 0).sum(1) for part in np.split(np.arange(11), [3, 4, 9])
    ]
    whole = losses.completion_loss(log_probs, answer_mask, weights, example_mask)
    of_parts = losses.loss_of_sums(np.concatenate(sums), answer_mask.sum(1), weights, example_mask)
    np.testing.assert_allclose(whole, of_parts, rtol=1e-6)
    with pytest.raises(ValueError, match="mean is 'weights'; choose one of rows, tokens"):
        losses.completion_loss(log_probs, answer_mask, weights, mean="weights")


def test_low_precision_is_summed_in_float32():
    log_probs = jnp.full((1, 1000), -1.0, jnp.bfloat16)
    loss = losses.completion_loss(
        log_probs, jnp.ones((1, 1000), bool), jnp.ones(1, jnp.bfloat16), mean="tokens"
    )
    assert loss.dtype == jnp.float32 and loss == 1
