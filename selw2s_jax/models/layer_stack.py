"""Layers whose parameters are stacked, run one after the other: all in one loop, or the last by itself."""

import functools

import jax
import jax.numpy as jnp


def run(run_layer, x, stacks, policy):
    """All layers, each saving for its gradient what `policy` of `jax.checkpoint` lets it.

    Args:
        run_layer: `run_layer(x, layer) -> (x, y)`.
        stacks: a pytree of arrays [L, ...], of which a layer gets its slices.

    Returns:
        x behind the last layer, and the pytree of y, [L, ...] each.
    """
    # Inside a scan the loop already keeps XLA from merging the recomputation with the forward pass.
    return jax.lax.scan(jax.checkpoint(run_layer, policy=policy, prevent_cse=False), x, stacks)


def run_and_read(run_layer, x, stacks, policy, columns):
    """As `run`, with the last layer called as `run_layer(x, layer, columns)`.

    The loop is of the layers before it. Sliced off for that, `stacks[:-1]` would be a copy of nearly all weights; so
    each layer is picked out of the whole stack, by its index.
    """
    num_before = jax.tree.leaves(stacks)[0].shape[0] - 1
    whole = jax.lax.stop_gradient(stacks)

    def run_picked(x, place):
        index, own = place
        return run_layer(x, jax.tree.map(functools.partial(_pick, index), whole, own))

    parts = jax.tree.map(_split_last, stacks)
    before, last = jax.tree.transpose(jax.tree.structure(stacks), jax.tree.structure((0, 0)), parts)
    places = (jnp.arange(num_before), before)
    run_picked = jax.checkpoint(run_picked, policy=functools.partial(_saves, policy), prevent_cse=False)
    x, ys = jax.lax.scan(run_picked, x, places)
    # Its gradient comes right behind it: nothing to be gained by making it again.
    x, y = run_layer(x, last, columns)
    return x, jax.tree.map(lambda ys, y: jnp.concatenate([ys, y[None]]), ys, y)


def _split_last(stack):
    """All of a stack but the last, and the last."""
    return _split(stack) if jnp.issubdtype(stack.dtype, jnp.floating) else (stack[:-1], stack[-1])


@jax.custom_vjp
def _split(stack):
    return stack[:-1], stack[-1]


def _split_forward(stack):
    return _split(stack), None


def _join(_, gradients):
    # Left to itself: the sum of both, each padded to the whole stack.
    before, last = gradients
    return (jnp.concatenate([before, last[None]]),)


_split.defvjp(_split_forward, _join)


def _saves(policy, primitive, *args, **params):
    """A policy that saves no picked weight, which would be their stack once more: they are picked again.

    What else is a `custom_jvp` in a layer is elementwise, and soon made again.
    """
    picks = primitive in (
        jax.custom_derivatives.custom_jvp_call_p,
        jax.lax.dynamic_slice_p,
        jax.lax.squeeze_p,
    )
    return not picks and policy(primitive, *args, **params)


def _pick(index, stack, own):
    """The array at an index of a stack, which is also `own`: never read, it stands for the gradient.

    As a gradient of `own` it is stacked by the loop; one of `stack` would be summed over whole stacks at each turn.
    """
    if not jnp.issubdtype(stack.dtype, jnp.floating):
        return jax.lax.dynamic_index_in_dim(stack, index, keepdims=False)
    return _pick_differentiable(index, stack, own)


@jax.custom_jvp
def _pick_differentiable(index, stack, own):
    del own
    return jax.lax.dynamic_index_in_dim(stack, index, keepdims=False)


@_pick_differentiable.defjvp
def _pick_jvp(primals, tangents):
    return _pick_differentiable(*primals), tangents[2]
