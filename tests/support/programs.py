"""Functions and their gradients as one compiled program: called alone, each of their operations is compiled."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def value_and_gradients(function: Callable, *args, d_out: Callable = jnp.ones_like):
    """What `function(*args)` is, an array, and the gradients of its products with `d_out` of it by every argument."""

    @jax.jit
    def run(*args):
        out, pull = jax.vjp(function, *args)
        return out, pull(d_out(out))

    return run(*map(jnp.asarray, args))


def gradient(function: Callable, at) -> jax.Array:
    """The gradient of the sum of `function(at)`."""
    return value_and_gradients(function, at)[1][0]
