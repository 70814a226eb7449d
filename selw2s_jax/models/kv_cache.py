"""Keys and values of tokens that a decoder has seen: what follows them attends to them without seeing them again.

A cache is a plain pytree. `Decoder.extend` reads one and returns the keys and values of its own tokens, which the
functions here write into another.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from selw2s_jax import sharding
from selw2s_jax.models import family

_AXES = ("layers", "rows", "kv_heads", "time", "head_dim")


class KVCache(NamedTuple):
    """Keys and values of C rows of S slots, which are a ring: row c has filled the `length[c]` slots before `end`.

    All rows end at one slot, so that a token of each is written by one copy in place, wherever the rows lie. Rows that
    begin at slots of their own would be a scatter, for which XLA copies the whole cache at every step.

    Rows of tokens may be a multiple of C: row c is then the common past of as many rows, one after the other. Where a
    decoder is given its layers one by one, keys and values are tuples of those of a layer: see `unstack`.
    """

    keys: jax.Array  # [L, C, K, S, H] in the compute dtype, K the number of kv heads
    values: jax.Array  # [L, C, K, S, H] in the compute dtype
    length: jax.Array  # [C] int32
    end: jax.Array  # [] int32, the slot that the next token goes to

    @property
    def num_slots(self) -> int:
        return jax.tree.leaves(self.keys)[0].shape[-2]


def empty(config: family.ModelConfig, settings: family.Settings, num_rows: int, num_slots: int) -> KVCache:
    """A cache without tokens."""
    shape = (config.num_layers, num_rows, config.kv_heads, num_slots, config.head_dim)
    zeros, none = jnp.zeros(shape, settings.compute_dtype), jnp.zeros((), jnp.int32)
    return constrain(KVCache(zeros, zeros, jnp.zeros(num_rows, jnp.int32), none), settings.mesh)


def of_tokens(keys: jax.Array, values: jax.Array, length: jax.Array) -> KVCache:
    """A cache of rows [L, C, T, K, H], of which row c has `length[c]` tokens and then padding, in T slots."""
    slots = slot_positions(length, jnp.zeros((), jnp.int32), keys.shape[2])
    index = jnp.maximum(slots, 0)[None, :, :, None, None]
    keys, values = (jnp.take_along_axis(x, index, axis=2).swapaxes(2, 3) for x in (keys, values))
    return KVCache(keys, values, length, jnp.zeros((), jnp.int32))


def constrain(cache: KVCache, mesh: jax.sharding.Mesh) -> KVCache:
    """The cache with rows and heads split over the devices."""
    return KVCache(
        sharding.constrain(cache.keys, _AXES, mesh),
        sharding.constrain(cache.values, _AXES, mesh),
        sharding.constrain(cache.length, ("rows",), mesh),
        sharding.constrain(cache.end, (), mesh),
    )


def append(cache: KVCache, keys: jax.Array, values: jax.Array, goes_on: jax.Array) -> KVCache:
    """Writes keys and values [L, C, T, K, H] of a few tokens behind what each row has.

    Args:
        goes_on: [C] bool; a row that does not is empty afterwards. One that does must have T free slots.
    """
    whole, end, num_tokens = (cache.keys, cache.values), cache.end, jax.tree.leaves(keys)[0].shape[-3]

    def write(slots, new, token, end):
        return jax.lax.dynamic_update_slice_in_dim(
            slots, new[..., token, :, None, :], end, axis=slots.ndim - 2
        )

    for token in range(num_tokens):
        whole = jax.tree.map(
            lambda slots, new, t=token, e=end: write(slots, new, t, e), whole, (keys, values)
        )
        end = (end + 1) % cache.num_slots
    return KVCache(*whole, jnp.where(goes_on, cache.length + num_tokens, 0), end)


def unstack(cache: KVCache) -> KVCache:
    """The cache with a tuple of arrays by layer in place of each stack of them."""
    return cache._replace(keys=tuple(cache.keys), values=tuple(cache.values))


def stack(cache: KVCache) -> KVCache:
    """The cache from before `unstack`."""
    return cache._replace(keys=jnp.stack(cache.keys), values=jnp.stack(cache.values))


def slot_positions(length: jax.Array, end: jax.Array, num_slots: int) -> jax.Array:
    """Which token of its row each slot holds, [C, S] int32; negative where it holds none."""
    return length[:, None] - 1 - (end - 1 - jnp.arange(num_slots)) % num_slots


def for_rows(past: jax.Array, num_rows: int, axis: int) -> jax.Array:
    """Rows of a cache, along `axis`, repeated for the rows of tokens that have them in common."""
    return jnp.repeat(past, num_rows // past.shape[axis], axis=axis)
