"""Attention in blocks is that of jax.nn, in values and gradients, and runs no block that it need not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import marks

from selw2s_jax.models import blockwise_attention, decoder, layers

BLOCK = blockwise_attention._BLOCK_TOKENS


def _inputs(num_tokens, seed=0, dtype=jnp.float32):
    """q, k, v and a cotangent."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(4, 2, num_tokens, 3, 8)), dtype)


def _mask(lengths, num_tokens):
    """Of two rows: one of examples of these lengths, cut or padded, and one of the same in reverse."""
    rows = np.zeros((2, num_tokens), np.int32)
    for row, of_row in enumerate((lengths, lengths[::-1])):
        segments = np.repeat(np.arange(1, len(of_row) + 1), of_row)[:num_tokens]
        rows[row, : len(segments)] = segments
    return layers.attention_mask(jnp.asarray(rows))


@functools.partial(jax.jit, static_argnums=0)
def _values_and_gradients(attend, q, k, v, d, mask):
    out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, mask), q, k, v)
    return out, *pull(d)


def _whole(q, k, v, mask):
    return jax.nn.dot_product_attention(q, k, v, mask=mask)


@pytest.mark.parametrize("num_tokens", [1, 2 * BLOCK, *map(marks.in_ci, (BLOCK - 1, 3 * BLOCK + 5))])
@settings(max_examples=5, deadline=None)
@given(lengths=st.lists(st.integers(1, 3 * BLOCK), min_size=1, max_size=9))
def test_values_and_gradients_are_those_of_jax(num_tokens, lengths):
    inputs, mask = _inputs(num_tokens), _mask(lengths, num_tokens)
    found = _values_and_gradients(blockwise_attention.attend, *inputs, mask)
    for ours, theirs in zip(found, _values_and_gradients(_whole, *inputs, mask), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-6, rtol=1e-5)


def test_bfloat16_loses_no_more_than_jax_does():
    num_tokens = 3 * BLOCK + 5
    mask, inputs = _mask([100, 30, 60], num_tokens), _inputs(num_tokens, dtype=jnp.bfloat16)
    exact = _values_and_gradients(_whole, *inputs.astype(jnp.float32), mask)
    found = _values_and_gradients(blockwise_attention.attend, *inputs, mask)
    theirs = _values_and_gradients(_whole, *inputs, mask)
    for ours, other, right in zip(found, theirs, exact, strict=True):
        assert ours.dtype == jnp.bfloat16
        largest = jnp.max(jnp.abs(other - right))
        assert jnp.max(jnp.abs(ours - right)) <= 1.5 * largest


def test_blocks_of_other_examples_are_not_read():
    """What is not a number there would make all of it so, were it only masked."""
    q, k, v, d = _inputs(4 * BLOCK)
    mask = _mask([2 * BLOCK, 2 * BLOCK], 4 * BLOCK)
    expected = _values_and_gradients(blockwise_attention.attend, q, k, v, d, mask)
    k, v = (x.at[:, : 2 * BLOCK].set(jnp.nan) for x in (k, v))
    found = _values_and_gradients(blockwise_attention.attend, q, k, v, d, mask)
    for one, other in zip(found, expected, strict=True):
        assert np.isnan(one[:, : 2 * BLOCK]).any()
        np.testing.assert_array_equal(one[:, 2 * BLOCK :], other[:, 2 * BLOCK :])


@pytest.mark.parametrize(("remat", "times_run"), [("full", 2), ("dots", 1), ("none", 1)])
def test_blocks_run_again_only_where_nothing_is_kept(remat, times_run):
    q, k, v, _ = _inputs(2 * BLOCK)
    mask = _mask([BLOCK], 2 * BLOCK)

    def loss(q):
        attend = jax.checkpoint(
            lambda q: blockwise_attention.attend(q, k, v, mask), policy=decoder.REMAT_POLICIES[remat]
        )
        return jnp.sum(jnp.sin(attend(q)))

    num_loops = jax.jit(jax.grad(loss)).lower(q).compile().as_text().count(" while(")
    assert num_loops == 2 * (times_run + 1)  # over blocks, and over those that each sees; and of the gradient
