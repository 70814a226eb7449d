"""Modules of shapes alone, traced once for what they are a function of: each takes a tenth of a second."""

import functools
from collections.abc import Callable, Hashable

import jax
from flax import nnx


def of(make: Callable[..., nnx.Module], *arguments: Hashable) -> nnx.Module:
    """`nnx.eval_shape(lambda: make(*arguments))`, a module of the caller's own.

    Args:
        make: a function of a module, which depends on nothing but its arguments.
    """
    graphdef, state = _traced(make, *arguments)
    return nnx.merge(graphdef, jax.tree.map(lambda shape: shape, state))


@functools.lru_cache(maxsize=64)
def _traced(make: Callable[..., nnx.Module], *arguments: Hashable) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: make(*arguments)))
