"""The training state and the optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class TrainState(NamedTuple):
    """Everything that a step changes."""

    step: jax.Array  # [] int32, steps done
    params: Any  # nnx.State of the classifier, master dtype
    opt_state: Any


def learning_rate_schedule(base: float, num_steps: int) -> optax.Schedule:
    """Learning rate of step k: base (1 + cos(pi k / num_steps)) / 2, no warm-up."""
    return optax.cosine_decay_schedule(base, decay_steps=num_steps)


def make_optimizer(
    *, learning_rate: float, num_steps: int, b1: float, b2: float, eps: float, moment_dtype: str
) -> optax.GradientTransformation:
    """Adam as torch.optim.Adam computes it (eps outside the root), without decay or clipping.

    Args:
        learning_rate: of step 0.
        moment_dtype: dtype of both moments; they are updated in float32.
    """
    return optax.chain(
        scale_by_adam(b1=b1, b2=b2, eps=eps, moment_dtype=moment_dtype),
        optax.scale_by_learning_rate(learning_rate_schedule(learning_rate, num_steps)),
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
        updates, state = inner.update(grads, store(state, jnp.float32), params)
        return updates, store(state, moment_dtype)

    return optax.GradientTransformation(init, update)


def init_state(params, optimizer: optax.GradientTransformation, shardings=None) -> TrainState:
    """A fresh state around the given parameters; moments take the parameters' shardings."""

    def make(params):
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    if shardings is None:
        return jax.jit(make, donate_argnums=0)(params)
    return jax.jit(make, donate_argnums=0, out_shardings=shardings)(params)


def state_shardings(params_shardings, optimizer, params, replicated) -> TrainState:
    """Shardings of a `TrainState`: moments as their parameters, counters replicated.

    Args:
        params_shardings: of every parameter, in the structure of `params`.
        params: the parameters or their shapes.
        replicated: the sharding of counters.
    """
    abstract = jax.eval_shape(optimizer.init, params)
    opt_state = optax.tree.map_params(
        optimizer,
        lambda _, sharding: sharding,
        abstract,
        params_shardings,
        transform_non_params=lambda _: replicated,
    )
    return TrainState(replicated, params_shardings, opt_state)
