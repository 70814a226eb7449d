"""Log-probabilities by parts of the vocabulary: values and gradients are those of the whole, in NumPy's float64."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from support import marks

from selw2s_jax.models import token_log_probs

SHAPE, WIDTH = (3, 5), 7


def draw(vocab_size: int, scale: float = 1.0):
    rng = np.random.default_rng(vocab_size)
    hidden = rng.standard_normal((*SHAPE, WIDTH)).astype(np.float32)
    weight = (scale * rng.standard_normal((vocab_size, WIDTH))).astype(np.float32)
    gradient = rng.standard_normal(SHAPE).astype(np.float32)
    return hidden, weight, rng.integers(0, vocab_size, SHAPE).astype(np.int32), gradient


def whole(hidden, weight, targets, gradient):
    """Log-probabilities, and the gradients of their sum weighted by `gradient`, in float64."""
    hidden, weight, gradient = (x.astype(np.float64) for x in (hidden, weight, gradient))
    logits = hidden @ weight.T
    largest = logits.max(-1, keepdims=True)
    log_probs = logits - largest - np.log(np.exp(logits - largest).sum(-1, keepdims=True))
    d_logits = gradient[..., None] * (np.eye(len(weight))[targets] - np.exp(log_probs))
    found = np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
    return found, d_logits @ weight, np.einsum("rtv,rtd->vd", d_logits, hidden)


def by_parts(hidden, weight, targets, gradient, num_parts):
    """The same by the module, and the gradient of `hidden` where the head is frozen."""

    @jax.jit
    def run(hidden, weight):
        def value(hidden, weight):
            return token_log_probs.log_probs(hidden, weight, targets, num_parts=num_parts)

        found, pull = jax.vjp(value, hidden, weight)
        (alone,) = jax.vjp(lambda hidden: value(hidden, weight), hidden)[1](gradient)
        return found, *pull(gradient), alone

    return run(hidden, weight)


@pytest.mark.parametrize(
    ("vocab_size", "num_parts"),
    [
        (53, 7),
        *(marks.in_ci(*sizes) for sizes in ((53, 1), (50, 5), (53, 2), (64, 64), (53, 52), (2, 2), (1, 1))),
    ],
)
def test_values_and_gradients_are_those_of_the_whole(vocab_size, num_parts):
    arrays = draw(vocab_size)
    expected, d_hidden, d_weight = whole(*arrays)
    found, *gradients, frozen = by_parts(*arrays, num_parts)
    assert found.dtype == jnp.float32
    for actual, wanted in zip((found, *gradients), (expected, d_hidden, d_weight), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(frozen, gradients[0])


@pytest.mark.slow
@pytest.mark.ci
def test_large_logits_do_not_overflow_wherever_the_largest_is():
    """Logits of some hundreds: their exponentials are no float32."""
    arrays = draw(53, scale=100.0)
    expected = whole(*arrays)
    assert (arrays[0] @ arrays[1].T).max() > 300
    for actual, wanted in zip(by_parts(*arrays, 6), expected, strict=False):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def arrays_of(jaxpr):
    """The shapes of all that a computation makes."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars if hasattr(variable.aval, "shape"))
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from arrays_of(inner)


@pytest.mark.parametrize("is_trained", [True, False])
def test_neither_pass_holds_the_logits_of_the_whole_vocabulary(is_trained):
    """Nor, where the head is frozen, anything of its size besides itself."""
    vocab_size, num_parts = 1024, 8
    hidden, weight, targets, _ = draw(vocab_size)

    def loss(hidden, weight):
        return jnp.sum(token_log_probs.log_probs(hidden, weight, targets, num_parts=num_parts))

    gradient = jax.grad(loss, argnums=(0, 1) if is_trained else 0)
    shapes = set(arrays_of(jax.make_jaxpr(gradient)(hidden, weight).jaxpr))
    of_logits = {shape for shape in shapes if shape[:-1] == SHAPE}
    assert (*SHAPE, vocab_size // num_parts) in of_logits
    assert max(shape[-1] for shape in of_logits) == vocab_size // num_parts
    reshaped = (vocab_size // num_parts, num_parts, WIDTH)
    of_weight = {shape for shape in shapes if np.prod(shape) >= vocab_size * WIDTH} - {reshaped}
    assert bool(of_weight) == is_trained


@pytest.mark.slow
@pytest.mark.ci
def test_bfloat16_products_and_float32_sums():
    hidden, weight, targets, gradient = draw(53)
    hidden, weight = jnp.asarray(hidden, jnp.bfloat16), jnp.asarray(weight, jnp.bfloat16)
    exact = whole(*(np.asarray(x, np.float32) for x in (hidden, weight)), targets, gradient)
    found = by_parts(hidden, weight, targets, gradient, 4)
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-5, atol=1e-5)  # not those of bfloat16 logits
    assert found[1].dtype == found[2].dtype == jnp.bfloat16
    for actual, wanted in zip(found[1:], exact[1:], strict=False):
        np.testing.assert_allclose(np.asarray(actual, np.float32), wanted, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("num_tokens", "vocab_size", "shard_size", "most", "expected"),
    [
        (10, 100, 100, 1000, 1),  # all fit
        (10, 100, 100, 999, 2),
        (10, 100, 50, 400, 5),  # 3 and 4 do not divide what a device holds
        (10, 53, 53, 200, 3),  # nothing up to 24 divides a prime number
        (384, 50257, 50257, 5_000_000, 29),  # of GPT-2
        (1000, 7, 7, 1, 7),
    ],
)
def test_the_number_of_parts(num_tokens, vocab_size, shard_size, most, expected):
    assert token_log_probs.choose_num_parts(num_tokens, vocab_size, shard_size, most) == expected
