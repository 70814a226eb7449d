"""Products of bfloat16 on CPUs, in the forms that XLA computes with the processor's own instructions.

XLA multiplies two bfloat16 arrays natively where the result is float32, the left side's last axis is the one that is
summed over and in memory too, and there are two rows or more. Anything else it converts to float32 first: both sides
where the result is bfloat16, in a gradient the bfloat16 side where the other is float32, and the whole of a weight
where it is multiplied with one row, as in a step of generation.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

OUTPUT = "cpu_product"  # for policies of `jax.checkpoint`: of products with weights, in half the bytes of their sums
_LEAST_ROWS = 2


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def einsum(spec: str, x: jax.Array, y: jax.Array, dtype) -> jax.Array:
    """`jnp.einsum(spec, x, y)` of bfloat16, summed in float32; so is its gradient, from a cotangent in bfloat16.

    Args:
        spec: of two terms and a result, each axis in two of the three or in all.
        x, y: bfloat16.
        dtype: of the result.
    """
    return _product(spec, x, y).astype(dtype)


def _forward(spec, x, y, dtype):
    out = _product(spec, x, y).astype(dtype)
    x_axes, y_axes, out_axes = map(set, _split(spec))
    has_batch = bool(x_axes & y_axes & out_axes)
    return out if has_batch else checkpoint_name(out, OUTPUT), (x, y)


def _backward(spec, dtype, saved, d_out):
    del dtype
    x, y = saved
    x_axes, y_axes, out_axes = _split(spec)
    d_out = d_out.astype(x.dtype)
    d_x = _product(f"{out_axes},{y_axes}->{x_axes}", d_out, y)
    d_y = _product(f"{x_axes},{out_axes}->{y_axes}", x, d_out)
    return d_x.astype(x.dtype), d_y.astype(y.dtype)


einsum.defvjp(_forward, _backward)


def _split(spec: str) -> list[str]:
    return spec.replace("->", ",").split(",")


def _product(spec, x, y):
    """The einsum of bfloat16 in float32."""
    x_axes, y_axes, out_axes = _split(spec)
    summed = [axis for axis in x_axes if axis not in out_axes]
    if len(summed) == 1 and x_axes[-1] != summed[0]:
        x, x_axes = _with_last(x, x_axes.index(summed[0])), x_axes.replace(summed[0], "") + summed[0]
    rows = [axis for axis in x_axes if axis not in y_axes]
    is_padded = bool(rows) and math.prod(x.shape[x_axes.index(axis)] for axis in rows) < _LEAST_ROWS
    if is_padded:
        place = x_axes.index(rows[-1])
        x = jnp.pad(x, [(0, int(axis == place)) for axis in range(x.ndim)])
    out = jnp.einsum(f"{x_axes},{y_axes}->{out_axes}", x, y, preferred_element_type=jnp.float32)
    return jax.lax.slice_in_dim(out, 0, 1, axis=out_axes.index(rows[-1])) if is_padded else out


def _with_last(x, axis: int):
    """x with an axis moved to the end, in memory too.

    A transposition that XLA sees it makes a part of the product, which then is none that it computes natively. What
    comes out of a barrier in another shape has its axes in order.
    """
    moved = jnp.moveaxis(x, axis, -1)
    return jnp.squeeze(jax.lax.optimization_barrier(jnp.expand_dims(moved, -2)), -2)
