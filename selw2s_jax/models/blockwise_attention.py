"""Attention in blocks of tokens, for XLA on one CPU: blocks that see nothing of each other are skipped.

XLA's own attention on CPUs writes and reads the logits of whole rows several times, and packed rows mask most of
them: several examples share a row and see nothing of each other. Here the logits of one block at a time stay in the
processor's cache: the softmax is taken as blocks come (Milakov and Gimelshein, arXiv 1805.02867), and the gradient
makes them anew (FlashAttention, arXiv 2205.14135).
"""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from selw2s_jax.models import cpu_products

OUTPUT = "blockwise_attention"  # for policies of `jax.checkpoint`: where it is saved, no block is run again
_BLOCK_TOKENS = 64
_MASKED = -1e30  # finite, so that the difference of two of them is no NaN


def attend(q, k, v, mask):
    """`jax.nn.dot_product_attention` under a causal mask.

    Args:
        q: [R, T, N, H].
        k, v: [R, T, K, H], K a divisor of N; each head is copied for those of q that share it.
        mask: [R, 1, T, T], in which every token sees at least itself.

    Returns:
        [R, T, N, H] in the dtype of q. Products sum in float32, and the softmax is float32.
    """
    num_rows, num_tokens, num_heads, head_dim = q.shape
    if k.shape[2] != num_heads:
        k, v = (jnp.repeat(x, num_heads // x.shape[2], axis=2) for x in (k, v))
    padding = -num_tokens % _BLOCK_TOKENS

    def to_blocks(x):  # [R, B, N, C, H], where each lies in one piece
        x = jnp.pad(x, ((0, 0), (0, padding), (0, 0), (0, 0)))
        return x.reshape(num_rows, -1, _BLOCK_TOKENS, num_heads, head_dim).swapaxes(2, 3)

    mask = jnp.pad(mask[:, 0], ((0, 0), (0, padding), (0, padding)))
    out = _attend(to_blocks(q), to_blocks(k), to_blocks(v), mask)
    return out.swapaxes(2, 3).reshape(num_rows, -1, num_heads, head_dim)[:, :num_tokens]


@jax.custom_vjp
def _attend(q, k, v, mask):
    """Of blocks [R, B, N, C, H] with a mask [R, B * C, B * C]."""
    return _forward(q, k, v, mask)[0]


def _forward(q, k, v, mask):
    """The output, and what the gradient needs: the inputs, the output and the logarithm of each softmax's sum."""
    num_rows, num_blocks, num_heads, size, head_dim = q.shape
    first = _first_blocks(mask, size)

    def of_block(place):
        row, block = place // num_blocks, place % num_blocks
        own_q = q[row, block]

        def add(other, carry):
            largest, total, out = carry
            logits = _dot("ntd,nsd->nts", own_q, k[row, other]) * head_dim**-0.5
            logits = jnp.where(_mask_of(mask, row, block, other, size), logits, _MASKED)
            new_largest = jnp.maximum(largest, logits.max(axis=-1))
            probs, scale = jnp.exp(logits - new_largest[..., None]), jnp.exp(largest - new_largest)
            out = out * scale[..., None] + _dot("nts,nsd->ntd", probs.astype(v.dtype), v[row, other])
            return new_largest, total * scale + probs.sum(axis=-1), out

        start = jnp.full((num_heads, size), _MASKED), jnp.zeros((num_heads, size))
        start = (*start, jnp.zeros((num_heads, size, head_dim)))
        largest, total, out = jax.lax.fori_loop(first[row, block], block + 1, add, start)
        return (out / total[..., None]).astype(q.dtype), largest + jnp.log(total)

    out, log_total = jax.lax.map(of_block, jnp.arange(num_rows * num_blocks))
    out = checkpoint_name(out.reshape(q.shape), OUTPUT)
    log_total = checkpoint_name(log_total.reshape(q.shape[:-1]), OUTPUT)
    return out, (q, k, v, mask, out, log_total)


def _backward(saved, d_out):
    q, k, v, mask, out, log_total = saved
    num_rows, num_blocks, _, size, head_dim = q.shape
    first = _first_blocks(mask, size)
    # Of each softmax: the mean of its gradient, which the gradient of its logits is without.
    mean = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)

    def of_block(carry, place):
        row, block = place // num_blocks, place % num_blocks
        own_q, own_d, own_total, own_mean = (x[row, block] for x in (q, d_out, log_total, mean))

        def add(other, carry):
            d_q, d_k, d_v = carry
            # Keys in front of queries, so that only one of the products is of a transposed array.
            logits = _dot("nsd,ntd->nst", k[row, other], own_q) * head_dim**-0.5
            visible = _mask_of(mask, row, block, other, size).T
            probs = jnp.where(visible, jnp.exp(logits - own_total[:, None]), 0.0)
            d_probs = _dot("nsd,ntd->nst", v[row, other], own_d)
            d_logits = (probs * (d_probs - own_mean[:, None]) * head_dim**-0.5).astype(q.dtype)
            d_v = d_v.at[row, other].add(_dot("nst,ntd->nsd", probs.astype(q.dtype), own_d))
            d_k = d_k.at[row, other].add(_dot("nst,ntd->nsd", d_logits, own_q))
            return d_q + _dot("nst,nsd->ntd", d_logits, k[row, other]), d_k, d_v

        start = jnp.zeros(own_q.shape), *carry
        d_q, *carry = jax.lax.fori_loop(first[row, block], block + 1, add, start)
        return tuple(carry), d_q

    zeros = jnp.zeros(k.shape), jnp.zeros(v.shape)
    (d_k, d_v), d_q = jax.lax.scan(of_block, zeros, jnp.arange(num_rows * num_blocks))
    return d_q.reshape(q.shape).astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype), None


_attend.defvjp(_forward, _backward)


def _dot(spec, a, b):
    if a.dtype == jnp.bfloat16:
        return cpu_products.product(spec, a, b)
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)


def _first_blocks(mask, size):
    """For each block [R, B] the first that any of its tokens sees."""
    num_rows, num_tokens, _ = mask.shape
    num_blocks = num_tokens // size
    by_block = mask.reshape(num_rows, num_blocks, size, num_tokens).any(axis=2)
    return jnp.argmax(by_block, axis=-1) // size


def _mask_of(mask, row, block, other, size):
    """The mask [C, C] of one block's tokens over another's."""
    return jax.lax.dynamic_slice(mask, (row, block * size, other * size), (1, size, size))[0]
