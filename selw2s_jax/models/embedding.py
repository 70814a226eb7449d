"""Rows looked up in a table that is split over devices, and the gradient of the table."""

import functools

import jax
import jax.numpy as jnp

from selw2s_jax import sharding


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def look_up(table: jax.Array, indices: jax.Array, dtype, mesh: jax.sharding.Mesh) -> jax.Array:
    """`table[indices]`, [R, T, D] in `dtype`: those beyond the table are clipped.

    The way across a mesh is said step by step, forward and back: left to itself the partitioner copies everything to
    every device where a mesh has more than one axis ("involuntary full rematerialization"). Each device looks up its
    part of the width for the rows of its data group, then the devices of fsdp exchange parts. Back, indices and
    gradients of all rows are gathered, since a table has many times as many rows as a batch has tokens, and none of its
    gradient then needs a sum over devices.

    Args:
        table: [V, D] with the logical axes (any, "embed").
        indices: [R, T] int32.
    """
    x = _take(table, indices, dtype)
    x = sharding.constrain(x, ("row_groups", "time", "embed"), mesh)
    return sharding.constrain(x, ("rows", "time", "features"), mesh)


def _forward(table, indices, dtype, mesh):
    return look_up(table, indices, dtype, mesh), (table, indices)


def _backward(dtype, mesh, kept, gradient):
    table, indices = kept
    indices = sharding.constrain(indices, ("all_rows", "time"), mesh)
    for axes in (
        ("rows", "time", "features"),
        ("row_groups", "time", "embed"),
        ("all_rows", "time", "embed"),
    ):
        gradient = sharding.constrain(gradient, axes, mesh)
    (of_table,) = jax.linear_transpose(lambda table: _take(table, indices, dtype), table)(gradient)
    return of_table, None


def _take(table, indices, dtype):
    return jnp.take(table, indices, axis=0, mode="clip").astype(dtype)


look_up.defvjp(_forward, _backward)
