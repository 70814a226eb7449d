"""Products of bfloat16 on CPUs, in the forms that XLA computes with the processor's own instructions.

XLA multiplies two bfloat16 arrays natively where the result is float32, the left side's last axis is the one that is
summed over and in memory too, and there are two rows or more. Anything else it converts to float32 first: both sides
where the result is bfloat16, in a gradient the bfloat16 side where the other is float32, and the whole of a weight
where it is multiplied with one row, as in a step of generation. Stacks of bfloat16 that a scan reads it keeps as
float32; what is saved for the backward pass is therefore saved as bits.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

OUTPUT = "cpu_product"  # for policies of `jax.checkpoint`: the results of `project`
_LEAST_ROWS = 2


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def einsum(spec: str, x: jax.Array, y: jax.Array, dtype) -> jax.Array:
    """`jnp.einsum(spec, x, y)` of bfloat16, summed in float32; so is its gradient, of a cotangent in bfloat16.

    Args:
        spec: of two terms and a result, each axis in two of the three or in all.
        x, y: bfloat16.
        dtype: of the result.
    """
    return product(spec, x, y).astype(dtype)


def _einsum_forward(spec, x, y, dtype):
    return product(spec, x, y).astype(dtype), (x, y)


def _einsum_backward(spec, dtype, saved, d_out):
    del dtype
    x, y = saved
    d_x, d_y = _gradients(spec, x, y, d_out.astype(x.dtype))
    return d_x.astype(x.dtype), d_y.astype(y.dtype)


einsum.defvjp(_einsum_forward, _einsum_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 4))
def project(spec: str, x: jax.Array, weight: jax.Array, bias: jax.Array | None, is_merged: bool) -> jax.Array:
    """The einsum of x with a weight, and a bias, rounded once: the gradients of both stay as they are summed.

    Args:
        spec: as of `layers.project`.
        x: [...] bfloat16.
        weight: of any dtype, rounded to that of x to be multiplied.
        bias: in the shape of the result's last axes, those of the weight; or None.
        is_merged: whether the axes of each side may be merged; not where some of them are sharded.
    """
    return _project(spec, x, weight, bias, is_merged)


def _project(spec, x, weight, bias, is_merged):
    spec, x, weight, shape = _operands(spec, x, weight, is_merged)
    out = product(spec, x, weight).reshape(shape)
    out = (out if bias is None else out + bias.astype(jnp.float32)).astype(x.dtype)
    return _from_bits(checkpoint_name(_to_bits(out), OUTPUT), out.dtype)


def _project_forward(spec, x, weight, bias, is_merged):
    return _project(spec, x, weight, bias, is_merged), (_to_bits(x), weight, bias, jnp.zeros((), x.dtype))


def _project_backward(spec, is_merged, saved, d_out):
    bits, weight, bias, like = saved
    x = _from_bits(bits, like.dtype)
    spec, rows, matrix, _ = _operands(spec, x, weight, is_merged)
    out_axes = _split(spec)[2]
    d_rows = d_out.reshape(-1, math.prod(matrix.shape) // rows.shape[-1]) if is_merged else d_out
    d_x, d_weight = _gradients(spec, rows, matrix, d_rows)
    d_bias = None
    if bias is not None:
        # A product with ones: XLA's own sum of bfloat16 over rows takes as long as a product with weights.
        kept = out_axes[1:] if is_merged else out_axes[-bias.ndim :]
        ones = jnp.ones(
            [d_rows.shape[out_axes.index(axis)] for axis in out_axes if axis not in kept], x.dtype
        )
        d_bias = product(f"{out_axes[: ones.ndim]},{out_axes}->{kept}", ones, d_rows)
        d_bias = d_bias.reshape(bias.shape).astype(bias.dtype)
    return d_x.reshape(x.shape).astype(x.dtype), d_weight.reshape(weight.shape).astype(weight.dtype), d_bias


project.defvjp(_project_forward, _project_backward)


def _operands(spec, x, weight, is_merged):
    """The einsum that is computed, both sides in the dtype of x, and the shape of its result."""
    weight = weight.astype(x.dtype)
    shape = shape_of(spec, x, weight)
    if is_merged:
        spec, x, weight = as_matrices(spec, x, weight)
    return spec, x, weight, shape


def shape_of(spec: str, x: jax.Array, y: jax.Array) -> tuple[int, ...]:
    """The shape of an einsum's result."""
    x_axes, y_axes, out_axes = _split(spec)
    sizes = dict(zip(x_axes + y_axes, x.shape + y.shape, strict=True))
    return tuple(sizes[axis] for axis in out_axes)


def as_matrices(spec: str, x: jax.Array, weight: jax.Array) -> tuple[str, jax.Array, jax.Array]:
    """The einsum with the axes of each side merged, which spares XLA's CPU copies of weights and of their gradients."""
    x_axes, weight_axes, _ = _split(spec)
    inner = math.prod(x.shape[x_axes.index(axis)] for axis in x_axes if axis in weight_axes)
    x = x.reshape(-1, inner)
    if weight_axes[0] in x_axes:
        return "tk,kn->tn", x, weight.reshape(inner, -1)
    return "tk,nk->tn", x, weight.reshape(-1, inner)


def _gradients(spec, x, y, d_out):
    """Those of `product`, in float32."""
    x_axes, y_axes, out_axes = _split(spec)
    d_x = product(f"{out_axes},{y_axes}->{x_axes}", d_out, y)
    if y_axes[0] in out_axes and y_axes[-1] in x_axes and not set(x_axes) & set(y_axes) & set(out_axes):
        return d_x, product(f"{out_axes},{x_axes}->{y_axes}", d_out, x)
    return d_x, product(f"{x_axes},{out_axes}->{y_axes}", x, d_out)


def product(spec: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """The einsum of two bfloat16 arrays, float32."""
    x_axes, y_axes, out_axes = _split(spec)
    summed = [axis for axis in x_axes if axis not in out_axes]
    if len(summed) == 1 and x_axes[-1] != summed[0]:
        x, x_axes = _with_last(x, x_axes.index(summed[0])), x_axes.replace(summed[0], "") + summed[0]
    rows = [axis for axis in x_axes if axis not in y_axes]
    if rows and math.prod(x.shape[x_axes.index(axis)] for axis in rows) < _LEAST_ROWS:
        place, last = x_axes.index(rows[-1]), out_axes.index(rows[-1])
        x = jnp.pad(x, [(0, int(axis == place)) for axis in range(x.ndim)])
        out = _sum_in_float32(f"{x_axes},{y_axes}->{out_axes}", x, y)
        return jax.lax.slice_in_dim(out, 0, 1, axis=last)
    return _sum_in_float32(f"{x_axes},{y_axes}->{out_axes}", x, y)


def _sum_in_float32(spec, x, y):
    return jnp.einsum(spec, x, y, preferred_element_type=jnp.float32)


def _split(spec: str) -> list[str]:
    return spec.replace("->", ",").split(",")


def _with_last(x, axis: int):
    """x with an axis moved to the end, in memory too.

    A transposition that XLA sees it makes a part of the product, which then is none that it computes natively. What
    comes out of a barrier in another shape has its axes in order.
    """
    moved = jnp.moveaxis(x, axis, -1)
    return jnp.squeeze(jax.lax.optimization_barrier(jnp.expand_dims(moved, -2)), -2)


def _to_bits(x):
    return jax.lax.bitcast_convert_type(x, jnp.uint16)


def _from_bits(bits, dtype):
    return jax.lax.bitcast_convert_type(bits, dtype)
