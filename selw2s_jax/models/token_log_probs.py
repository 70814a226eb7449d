"""Log-probabilities of given tokens under a language-model head, a part of the vocabulary at a time.

The logits [..., V] of many tokens are far larger than anything else of a training step. Here neither the forward nor
the backward pass holds more than those of one part of the vocabulary: the log-sum-exp is carried from part to part,
and the backward pass makes each part's logits again. A part's weights get their gradient once and whole.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

_MOST_EXTRA = 8  # times as many parts as are needed, if these divide the vocabulary


class _Parts(NamedTuple):
    """How the vocabulary is divided: part c holds the entries c, c + count, c + 2 count, ...

    Strided, so that a part is spread over devices as the whole vocabulary is.
    """

    count: int
    vocab_size: int

    @property
    def size(self) -> int:
        """Entries of a part, the last of which may lie behind the vocabulary."""
        return -(-self.vocab_size // self.count)

    def divide(self, weight: jax.Array) -> jax.Array:
        """Rows [V, D] as [size, count, D], zeros behind the vocabulary."""
        missing = self.size * self.count - self.vocab_size
        if missing:
            weight = jnp.pad(weight, ((0, missing), (0, 0)))
        return weight.reshape(self.size, self.count, -1)

    def join(self, of_parts: jax.Array) -> jax.Array:
        """Rows [count, size, D] of the parts as [V, D]."""
        return of_parts.swapaxes(0, 1).reshape(self.size * self.count, -1)[: self.vocab_size]


def log_probs(hidden: jax.Array, weight: jax.Array, targets: jax.Array, *, num_parts: int) -> jax.Array:
    """log softmax(hidden weight^T) at the targets.

    Products are in the dtype of `hidden`; logits, log-sum-exp and the sums over parts are float32.

    Args:
        hidden: [..., D].
        weight: [V, D] of the head.
        targets: [...] int32, entries of the vocabulary.
        num_parts: of the vocabulary, 1 to V; see `choose_num_parts`.

    Returns:
        [...] float32.
    """
    return _log_probs(hidden, weight, targets, _Parts(num_parts, weight.shape[0]))


def choose_num_parts(num_tokens: int, vocab_size: int, shard_size: int, most_logits: int) -> int:
    """The number of parts whose logits are at most about `most_logits`.

    Args:
        shard_size: entries of the vocabulary that one device holds. Parts that divide it need no padded copy of the
            weights, and are taken where there are few enough for products of a good size.
    """
    needed = min(max(-(-num_tokens * vocab_size // most_logits), 1), vocab_size)
    return next((n for n in range(needed, _MOST_EXTRA * needed + 1) if shard_size % n == 0), needed)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _log_probs(hidden, weight, targets, parts):
    return _forward(hidden, weight, targets, parts)[0]


def _part(hidden, divided, number, parts):
    """Of one part: its weights [K, D], the entries [K] that it holds, and its logits [..., K]."""
    weight = jax.lax.dynamic_index_in_dim(divided, number, axis=1, keepdims=False).astype(hidden.dtype)
    entries = number + parts.count * jnp.arange(parts.size)
    logits = _product("...d,kd->...k", hidden, weight)
    return weight, entries, jnp.where(entries < parts.vocab_size, logits, -jnp.inf)


def _product(spec, x, y):
    # float32 means float32, as `Decoder` has it; named here, for the backward pass is traced outside of its context.
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.einsum(spec, x, y, precision=precision, preferred_element_type=jnp.float32)


def _forward(hidden, weight, targets, parts):
    """Log-probabilities and log-sum-exps [...]."""
    divided = parts.divide(weight)

    def add(carry, number):
        largest, total, at_target = carry
        _, entries, logits = _part(hidden, divided, number, parts)
        new_largest = jnp.maximum(largest, jnp.max(logits, axis=-1))
        total *= jnp.exp(largest - new_largest)
        total += jnp.sum(jnp.exp(logits - new_largest[..., None]), axis=-1)
        at_target += jnp.sum(jnp.where(entries == targets[..., None], logits, 0.0), axis=-1)
        return (new_largest, total, at_target), None

    zeros = jnp.zeros(targets.shape, jnp.float32)
    # Every part holds an entry of the vocabulary, so that the largest is finite from the first on.
    (largest, total, at_target), _ = jax.lax.scan(
        add, (jnp.full_like(zeros, -jnp.inf), zeros, zeros), jnp.arange(parts.count)
    )
    log_sum = largest + jnp.log(total)
    return at_target - log_sum, log_sum


def _forward_rule(hidden, weight, targets, parts):
    found, log_sum = _forward(hidden.value, weight.value, targets.value, parts)
    # A frozen head gets no gradient. Said by structure, as what is kept for the backward pass must be arrays.
    is_trained = () if weight.perturbed else None
    return found, (hidden.value, weight.value, targets.value, log_sum, is_trained)


def _backward_rule(parts, kept, gradient):
    hidden, weight, targets, log_sum, is_trained = kept
    if isinstance(gradient, jax.custom_derivatives.SymbolicZero):
        return None, None, None
    divided = parts.divide(weight)

    def add(d_hidden, number):
        part, entries, logits = _part(hidden, divided, number, parts)
        is_target = (entries == targets[..., None]).astype(jnp.float32)
        d_logits = gradient[..., None] * (is_target - jnp.exp(logits - log_sum[..., None]))
        d_logits = d_logits.astype(hidden.dtype)
        d_hidden += _product("...k,kd->...d", d_logits, part)
        if is_trained is None:
            return d_hidden, None
        return d_hidden, _product("...k,...d->kd", d_logits, hidden).astype(weight.dtype)

    d_hidden, d_parts = jax.lax.scan(add, jnp.zeros(hidden.shape, jnp.float32), jnp.arange(parts.count))
    d_weight = None if is_trained is None else parts.join(d_parts)
    return d_hidden.astype(hidden.dtype), d_weight, None


_log_probs.defvjp(_forward_rule, _backward_rule, symbolic_zeros=True)
