"""The training state and the optimizer."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.training import checkpointing

TRAINED = ("all", "heads", "lora")
OPTIMIZERS = ("adam", "adamw", "adafactor")
SCHEDULES = ("cosine", "linear", "constant")


class TrainState(NamedTuple):
    """Everything that a step reads and changes, besides its batch."""

    step: jax.Array  # [] int32, steps done
    params: Any  # nnx.State of what is trained, master dtype
    frozen: Any  # nnx.State of the rest of the model, which no step changes
    opt_state: Any
    rule_state: Any = ()  # what the computation's loss keeps from step to step: that of a label rule with a state


class OptimizerSettings(NamedTuple):
    """Optimizer and schedule; the defaults, Adam with a cosine, are those of openai/weak-to-strong.

    A run takes all of them from its config; where both have a default, a test holds it to be the same.

    Attributes:
        learning_rate: of step 0, or the highest where there is a warm-up.
        num_steps: steps of the run, over which the rate falls.
        b1, b2, eps: of Adam and AdamW.
        moment_dtype: dtype that both moments of Adam are stored in; they are updated in float32.
        warmup_steps: over which the rate first rises from 0.
        final_fraction: of the learning rate, at the end.
        clip_norm: largest global norm of a gradient; None does not clip.
        optimizer: of `OPTIMIZERS`.
        schedule: of `SCHEDULES`, the first two of which decay.
        weight_decay: decoupled, of AdamW and Adafactor.
        trained: "all" parameters; the "heads" alone (a linear probe); or heads and adapters ("lora").
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
    optimizer: str = "adam"
    schedule: str = "cosine"
    weight_decay: float = 0.0
    trained: str = "all"


def learning_rate_schedule(settings: OptimizerSettings) -> optax.Schedule:
    """Learning rate of step k: base (1 + cos(pi k / num_steps)) / 2 where there is no warm-up and no floor."""
    rate, decay_steps = settings.learning_rate, settings.num_steps - settings.warmup_steps
    if settings.schedule == "constant":
        decay = optax.constant_schedule(rate)
    elif settings.schedule == "linear":
        decay = optax.linear_schedule(rate, settings.final_fraction * rate, decay_steps)
    else:
        decay = optax.cosine_decay_schedule(rate, decay_steps, alpha=settings.final_fraction)
    if not settings.warmup_steps:
        return decay
    warmup = optax.linear_schedule(0.0, rate, settings.warmup_steps)
    return optax.join_schedules([warmup, decay], [settings.warmup_steps])


def make_optimizer(settings: OptimizerSettings) -> optax.GradientTransformation:
    """The optimizer of the settings.

    Adam is as torch.optim.Adam computes it (eps outside the root), without decay; AdamW is the same with decoupled
    decay; Adafactor (Shazeer & Stern 2018) keeps no first moment and factors the second.
    """
    clip = () if settings.clip_norm is None else (optax.clip_by_global_norm(settings.clip_norm),)
    decay = (optax.add_decayed_weights(settings.weight_decay),) if settings.weight_decay else ()
    if settings.optimizer == "adafactor":
        scale = (optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))
    else:
        scale = (
            scale_by_adam(
                b1=settings.b1, b2=settings.b2, eps=settings.eps, moment_dtype=settings.moment_dtype
            ),
        )
    rate = optax.scale_by_learning_rate(learning_rate_schedule(settings))
    return optax.chain(*clip, *scale, *decay, rate)


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


def split(model: nnx.Module, trained: str) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """The graphdef of a model, its parameters that are trained, and the rest of its variables.

    Args:
        trained: of `TRAINED`; but for "all", what is beside the model's `backbone`.
    """
    is_trained = nnx.Param
    if trained != "all":
        is_trained = nnx.All(nnx.Param, lambda path, _: path[0] != "backbone")
    return nnx.split(model, is_trained, ...)


def start(
    classifier: nnx.Module, settings: OptimizerSettings, mesh: jax.sharding.Mesh, rule_state: Any = ()
) -> tuple[nnx.GraphDef, TrainState, TrainState]:
    """A fresh state around a classifier's variables, which it takes over (their buffers are donated).

    Args:
        rule_state: of the computation.

    Returns:
        The classifier's graphdef, the `TrainState`, and the state's shardings on the mesh.
    """
    optimizer = make_optimizer(settings)
    graphdef, params, frozen = split(classifier, settings.trained)
    shardings = _state_shardings(params, frozen, optimizer, mesh, rule_state)
    params, frozen = jax.device_put((params, frozen), (shardings.params, shardings.frozen))
    make = jax.jit(functools.partial(_make_state, optimizer), donate_argnums=(0, 1), out_shardings=shardings)
    return graphdef, make(params, frozen, rule_state), shardings


def resume(
    saved: TrainState, classifier: nnx.Module, settings: OptimizerSettings, mesh: jax.sharding.Mesh
) -> TrainState:
    """A state that was saved without what is frozen, with that of a fresh classifier."""
    _, _, frozen = split(classifier, settings.trained)
    return saved._replace(frozen=jax.device_put(frozen, sharding.param_shardings(mesh, frozen)))


def load_trained(
    folder,
    abstract: nnx.Module,
    trained: str,
    load_pretrained: Callable[[], nnx.Module],
    mesh: jax.sharding.Mesh,
) -> nnx.Module:
    """A trained model: the parameters that were trained, as `checkpointing.save_params` wrote them, and the others.

    Args:
        abstract: the model of `ShapeDtypeStruct`s, as `nnx.eval_shape` makes it.
        trained: as for `split`.
        load_pretrained: the model before training; called where a part of it was not trained.
    """
    graphdef, params, frozen = split(abstract, trained)
    params = checkpointing.load_params(folder, params, mesh)
    if trained == "all":
        return nnx.merge(graphdef, params, frozen)
    model = load_pretrained()
    nnx.update(model, params)
    return model


def abstract(
    classifier: nnx.Module, settings: OptimizerSettings, mesh: jax.sharding.Mesh, rule_state: Any = ()
) -> tuple[nnx.GraphDef, TrainState, TrainState]:
    """`start` without arrays.

    Args:
        classifier: a module of `ShapeDtypeStruct`s, as `nnx.eval_shape` makes it.
        rule_state: of the computation.

    Returns:
        Its graphdef, the `TrainState` of `ShapeDtypeStruct`s with their shardings, and the shardings alone.
    """
    optimizer = make_optimizer(settings)
    graphdef, params, frozen = split(classifier, settings.trained)
    shardings = _state_shardings(params, frozen, optimizer, mesh, rule_state)
    shapes = jax.eval_shape(functools.partial(_make_state, optimizer), params, frozen, rule_state)
    shapes = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    return graphdef, shapes, shardings


def _make_state(optimizer: optax.GradientTransformation, params, frozen, rule_state) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, frozen, optimizer.init(params), rule_state)


def _state_shardings(
    params, frozen, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh, rule_state
) -> TrainState:
    """Moments are laid out as their parameters; counters, factored moments and rules' states are whole everywhere."""
    of_params, whole = sharding.param_shardings(mesh, params), sharding.replicated(mesh)
    leaves = zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree_util.tree_leaves(of_params), strict=True
    )
    by_path = {path: (param.shape, sharded) for (path, param), sharded in leaves}

    def of_moment(path, moment) -> jax.sharding.NamedSharding:
        # The path of a parameter ends that of its moments, however optimizers are chained and masked.
        for start in range(len(path)):
            shape, sharded = by_path.get(path[start:], (None, None))
            if shape == moment.shape:
                return sharded
        return whole

    opt_state = jax.tree_util.tree_map_with_path(of_moment, jax.eval_shape(optimizer.init, params))
    of_rule = jax.tree.map(lambda _: whole, rule_state)
    return TrainState(whole, of_params, sharding.param_shardings(mesh, frozen), opt_state, of_rule)
