"""Keys and values of tokens that a decoder has seen: what follows them attends to them without seeing them again.

A cache is a plain pytree. `Decoder.extend` reads one and returns the keys and values of its own tokens, which the
functions here write into another.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from selw2s_jax import sharding
from selw2s_jax.models import family

_AXES = ("layers", "rows", "time", "kv_heads", "head_dim")


class KVCache(NamedTuple):
    """Keys and values of C rows of S slots, of which row c has filled the first `length[c]`.

    Rows of tokens may be a multiple of C: row c is then the common past of as many rows, one after the other.
    """

    keys: jax.Array  # [L, C, S, K, H] in the compute dtype, K the number of kv heads
    values: jax.Array  # [L, C, S, K, H] in the compute dtype
    length: jax.Array  # [C] int32


def empty(config: family.ModelConfig, settings: family.Settings, num_rows: int, num_slots: int) -> KVCache:
    """A cache without tokens."""
    shape = (config.num_layers, num_rows, num_slots, config.kv_heads, config.head_dim)
    zeros = jnp.zeros(shape, settings.compute_dtype)
    return constrain(KVCache(zeros, zeros, jnp.zeros(num_rows, jnp.int32)), settings.mesh)


def constrain(cache: KVCache, mesh: jax.sharding.Mesh) -> KVCache:
    """The cache with rows and heads split over the devices."""
    return KVCache(
        sharding.constrain(cache.keys, _AXES, mesh),
        sharding.constrain(cache.values, _AXES, mesh),
        sharding.constrain(cache.length, ("rows",), mesh),
    )


def append(cache: KVCache, keys: jax.Array, values: jax.Array, count: jax.Array) -> KVCache:
    """Writes keys and values [L, C, T, K, H] behind what each row has, and counts the first `count` [C] of T.

    Every row must have T free slots, also one that counts none.
    """

    def write_row(slots, new, start):
        return jax.lax.dynamic_update_slice_in_dim(slots, new, start, axis=1)

    # Each row has a start of its own. Mapped over rows, the write stays on the device that holds the row.
    write = jax.vmap(write_row, in_axes=(1, 1, 0), out_axes=1)
    return KVCache(
        write(cache.keys, keys, cache.length), write(cache.values, values, cache.length), cache.length + count
    )


def for_rows(past: jax.Array, num_rows: int, axis: int) -> jax.Array:
    """Rows of a cache, along `axis`, repeated for the rows of tokens that have them in common."""
    return jnp.repeat(past, num_rows // past.shape[axis], axis=axis)
