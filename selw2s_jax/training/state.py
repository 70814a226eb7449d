"""The training state and the optimizer."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from selw2s_jax import sharding


class TrainState(NamedTuple):
    """Everything that a step changes."""

    step: jax.Array  # [] int32, steps done
    params: Any  # nnx.State of the classifier, master dtype
    opt_state: Any


class OptimizerSettings(NamedTuple):
    """Adam with a cosine schedule, by default as in openai/weak-to-strong.

    Attributes:
        learning_rate: of step 0, or the highest where there is a warm-up.
        num_steps: steps of the run, over which the rate falls.
        moment_dtype: dtype that both moments are stored in; they are updated in float32.
        warmup_steps: over which the rate first rises from 0.
        final_fraction: of the learning rate, at the end.
        clip_norm: largest global norm of a gradient; None does not clip.
    """

    learning_rate: float
    num_steps: int
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    moment_dtype: str = "float32"
    warmup_steps: int = 0
    final_fraction: float = 0.0
    clip_norm: float | None = None


def learning_rate_schedule(settings: OptimizerSettings) -> optax.Schedule:
    """Learning rate of step k: base (1 + cos(pi k / num_steps)) / 2 where there is no warm-up and no floor."""
    if not settings.warmup_steps:
        return optax.cosine_decay_schedule(
            settings.learning_rate, decay_steps=settings.num_steps, alpha=settings.final_fraction
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        decay_steps=settings.num_steps,
        end_value=settings.final_fraction * settings.learning_rate,
    )


def make_optimizer(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Adam as torch.optim.Adam computes it (eps outside the root), without decay; clipped where asked for."""
    clip = () if settings.clip_norm is None else (optax.clip_by_global_norm(settings.clip_norm),)
    return optax.chain(
        *clip,
        scale_by_adam(b1=settings.b1, b2=settings.b2, eps=settings.eps, moment_dtype=settings.moment_dtype),
        optax.scale_by_learning_rate(learning_rate_schedule(settings)),
    )


def scale_by_adam(*, b1: float, b2: float, eps: float, moment_dtype: str) -> optax.GradientTransformation:
    """optax.scale_by_adam in float32, with both moments stored as `moment_dtype` (optax narrows only one)."""
    inner = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)

    def store(state, dtype):
        cast = lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree)  # noqa: E731
        return state._replace(mu=cast(state.mu), nu=cast(state.nu))

    def init(params):
        return store(inner.init(params), moment_dtype)

    def update(grads, state, params=None):
        grads = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
        updates, state = inner.update(grads, store(state, jnp.float32), params)
        return updates, store(state, moment_dtype)

    return optax.GradientTransformation(init, update)


def start(classifier, settings: OptimizerSettings, mesh: jax.sharding.Mesh):
    """A fresh state around a classifier's parameters, which it takes over (their buffers are donated).

    Returns:
        The classifier's graphdef, the `TrainState`, and the state's shardings on the mesh.
    """
    optimizer = make_optimizer(settings)
    graphdef, params = nnx.split(classifier)
    shardings = _state_shardings(params, optimizer, mesh)
    params = jax.device_put(params, shardings.params)
    make = jax.jit(functools.partial(_make_state, optimizer), donate_argnums=0, out_shardings=shardings)
    return graphdef, make(params), shardings


def abstract(classifier, settings: OptimizerSettings, mesh: jax.sharding.Mesh):
    """`start` without arrays.

    Args:
        classifier: a module of `ShapeDtypeStruct`s, as `nnx.eval_shape` makes it.

    Returns:
        Its graphdef, the `TrainState` of `ShapeDtypeStruct`s with their shardings, and the shardings alone.
    """
    optimizer = make_optimizer(settings)
    graphdef, params = nnx.split(classifier)
    shardings = _state_shardings(params, optimizer, mesh)
    shapes = jax.eval_shape(functools.partial(_make_state, optimizer), params)
    shapes = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    return graphdef, shapes, shardings


def _make_state(optimizer: optax.GradientTransformation, params) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def _state_shardings(params, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh) -> TrainState:
    """Moments are laid out as their parameters, counters are whole on every device."""
    of_params, whole = sharding.param_shardings(mesh, params), sharding.replicated(mesh)
    opt_state = optax.tree.map_params(
        optimizer,
        lambda _, param_sharding: param_sharding,
        jax.eval_shape(optimizer.init, params),
        of_params,
        transform_non_params=lambda _: whole,
    )
    return TrainState(whole, of_params, opt_state)
