"""The train step: one jitted function for every method (Selective W2SG, Eq. 1-4).

The loss is a function of the model's outputs on the whole global batch: class logits, P(IK) logits and
embeddings of every example. With several micro-batches, a first pass computes those outputs, the loss and
its gradient with respect to them are taken over the full batch, and a second pass pulls that gradient back
through the model one micro-batch at a time. So every method, the graph and batch statistics included, gives
the full-batch gradient whatever the micro-batch size.
"""

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.method import label_rules, losses, objectives
from selw2s_jax.models import heads, lora
from selw2s_jax.training import state as state_lib


class Computation(NamedTuple):
    """What a step trains: `forward(model, micro_batch, step) -> outputs` and a loss of the global batch's outputs.

    Here `classification`; `completion.completion` and `pretraining.next_token` in files of their own.

    `step` [] int32 is all that randomness in `forward` may depend on besides its other arguments: it is called twice.
    `loss(outputs, batch, step_fraction, rule_state) -> (scalar, (metrics, trace, rule_state))` sees outputs and
    per-example fields with the micro-batches joined; it alone couples examples, so that micro-batching is exact.
    What it keeps from step to step is `rule_state`, a pytree of arrays: here as it is before the first step.
    """

    forward: Callable[..., Any]
    loss: Callable[..., Any]
    rule_state: Any = ()


def classification(
    objective: objectives.Objective,
    forward: Callable[..., Any] | None = None,
    column_shapes: Mapping[str, tuple[int, ...]] = types.MappingProxyType({}),
) -> Computation:
    """The computation of every method: both heads, a label rule and a loss.

    Args:
        forward: `classify` (the default), or `classify_embeddings`.
        column_shapes: of one example's values of each column of the task's examples; the first state of a rule that
            keeps one is made of them.
    """
    rule = label_rules.with_state(label_rules.get(objective.label_rule, **dict(objective.rule_options)))
    loss = losses.get(objective.loss, **dict(objective.loss_options))
    return Computation(
        forward or classify,
        functools.partial(batch_loss, rule=rule, loss=loss, objective=objective),
        rule.init(column_shapes) if objective.task_weight != 0 else (),
    )


def classify(model: heads.Classifier, micro: batches.Batch, step: jax.Array) -> heads.Outputs:
    """Outputs for the examples of one micro-batch, with the dropout of adapters that have some."""
    dropout = adapter_dropout(model, micro, step)
    example = (micro.tokens, micro.segment_ids, micro.positions, micro.row, micro.last)
    return model(*example, reads=micro.reads, dropout=dropout)


def classify_embeddings(probe: heads.Probe, micro: batches.Batch, step: jax.Array) -> heads.Outputs:
    """Outputs for the examples of one micro-batch, whose embeddings are a column of it."""
    del step
    return probe(micro.columns[batches.EMBEDDINGS])


def adapter_dropout(model, micro: batches.Batch, step: jax.Array) -> lora.Dropout | None:
    """The dropout of a model's `adapters` for one micro-batch, None where they have none."""
    if model.adapters is None or not model.adapters.settings.dropout:
        return None
    return lora.Dropout(step, _example_of_tokens(micro), micro.positions)


def _example_of_tokens(micro: batches.Batch) -> jax.Array:
    """A number [R, T] for the example of each token, the same however a step is packed; 0 for padding."""
    num_rows, num_slots = micro.tokens.shape[0], micro.row.shape[0]
    number = jnp.where(micro.weight > 0, 1 + 2 * micro.index + micro.kind, 0)
    segment = micro.segment_ids[micro.row, micro.last]
    by_segment = jnp.zeros((num_rows, num_slots + 1), jnp.int32).at[micro.row, segment].max(number)
    return jnp.take_along_axis(by_segment, micro.segment_ids, axis=1)


class Trace(NamedTuple):
    """What the step did with each example, for diagnostics; leading axis M * E, in slot order."""

    p_ik: jax.Array
    ik_mask: jax.Array
    prior: jax.Array  # [M * E] probability of class 1 before smoothing
    target: jax.Array  # [M * E] probability of class 1 that was trained on


def weighted_mean(
    values: jax.Array, weights: jax.Array, example_weights: jax.Array | float = 1.0
) -> jax.Array:
    """sum(weights * example_weights * values) / sum(weights), 0 where nothing has weight.

    So the weights of examples scale the loss rather than each other: with all of them 1/2 it is half of what it was.

    Args:
        weights: not negative; where 0, as for padding, value and example weight may be anything.
    """
    counts = weights > 0
    # Twice where: 0 * NaN is NaN, in the sum as in the gradient of its other factor.
    factors = weights * jnp.where(counts, example_weights, 1.0)
    total = jnp.sum(jnp.where(counts, values * factors, 0.0))
    divisor = jnp.sum(weights)
    return total / jnp.where(divisor > 0, divisor, 1.0)


def batch_loss(
    outputs: heads.Outputs,
    batch: batches.Batch,
    step_fraction: jax.Array,
    rule_state: Any = (),
    *,
    rule: label_rules.WithState,
    loss: losses.Loss,
    objective: objectives.Objective,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Trace, Any]]:
    """Loss of the global batch (Eq. 4) from the model's outputs.

    Each of its two terms is a mean over the examples of its kind, and 0 where the batch has none.

    Args:
        outputs: with leading axis N = M * E.
        batch: its per-example fields flattened to the same axis.
        rule_state: of the label rule.

    Returns:
        The scalar loss, and (metrics, Trace, the rule's next state).
    """
    p_ik_logits = outputs.p_ik_logits
    if p_ik_logits is None:
        p_ik_logits = jnp.zeros_like(outputs.class_logits)
    p_ik = jax.lax.stop_gradient(jax.nn.softmax(p_ik_logits, axis=-1)[:, 1])
    is_task = batch.kind == batches.TASK
    task_weights = jnp.where(is_task, batch.weight, 0.0)
    p_ik_weights = jnp.where(is_task, 0.0, batch.weight)

    labels = _no_labels(p_ik)
    loss_task = loss_ik = jnp.zeros(())
    if objective.task_weight != 0:  # else nobody made what the rule reads
        inputs = _rule_inputs(outputs, p_ik, batch, task_weights > 0, step_fraction)
        labels, rule_state = rule.label(inputs, rule_state)
        # Targets of slots without weight must not bring NaN into the gradient, where 0 * NaN is NaN.
        targets = jax.lax.stop_gradient(jnp.where(task_weights[:, None] > 0, labels.targets, 0.5))
        labels = labels._replace(targets=targets)
        if labels.in_loss is not None:
            task_weights = jnp.where(labels.in_loss, task_weights, 0.0)
        per_example = loss(outputs.class_logits, targets, step_fraction, task_weights > 0)
        loss_task = weighted_mean(per_example, task_weights, batch.example_weight)
    if "ik_target" in batch.columns:
        ik_target = jnp.where(p_ik_weights > 0, batch.columns["ik_target"], 0.5)
        per_example = losses.cross_entropy(p_ik_logits, jnp.stack([1.0 - ik_target, ik_target], axis=-1))
        loss_ik = weighted_mean(per_example, p_ik_weights, batch.example_weight)
    total = objective.task_weight * loss_task + objective.p_ik_weight * loss_ik
    metrics = {"loss": total, "loss_task": loss_task, "loss_ik": loss_ik, **labels.metrics}
    trace = Trace(labels.p_ik, labels.ik_mask, labels.prior[:, 1], labels.targets[:, 1])
    return total, (metrics, trace, rule_state)


def _rule_inputs(
    outputs: heads.Outputs, p_ik: jax.Array, batch: batches.Batch, mask: jax.Array, step_fraction: jax.Array
) -> label_rules.RuleInputs:
    """What the label rule sees: outputs without gradient, and the columns of the batch."""
    return label_rules.RuleInputs(
        class_logits=jax.lax.stop_gradient(outputs.class_logits),
        p_ik=p_ik,
        embeddings=jax.lax.stop_gradient(outputs.embeddings),
        columns=batch.columns,
        example_mask=mask,
        step_fraction=step_fraction,
    )


def _no_labels(p_ik: jax.Array) -> label_rules.Labels:
    """Of a batch without a task."""
    half = jnp.full((len(p_ik), 2), 0.5, jnp.float32)
    return label_rules.Labels(half, half, jnp.zeros(len(p_ik), bool), p_ik, {})


def loss_and_grads(
    graphdef, state: state_lib.TrainState, batch: batches.Batch, step_fraction, computation: Computation
):
    """Gradients of one global batch in the structure of `state.params`, metrics, trace and the next `rule_state`."""
    params = state.params

    def forward(params, micro: batches.Batch):
        return computation.forward(nnx.merge(graphdef, params, state.frozen), micro, state.step)

    num_micro = batch.tokens.shape[0]
    flatten = lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])  # noqa: E731
    flat = jax.tree.map(flatten, batch)
    value_and_grad = jax.value_and_grad(computation.loss, has_aux=True)
    if num_micro == 1:
        outputs, pull = jax.vjp(lambda params: forward(params, flat), params)
        (_, aux), d_outputs = value_and_grad(outputs, flat, step_fraction, state.rule_state)
        (grads,) = pull(d_outputs)
        return grads, *aux

    # Twice forward: what the backward pass of all micro-batches needs does not fit, their outputs do.
    _, outputs = jax.lax.scan(lambda _, micro: (None, forward(params, micro)), None, batch)
    joined = jax.tree.map(flatten, outputs)
    (_, aux), d_outputs = value_and_grad(joined, flat, step_fraction, state.rule_state)
    d_outputs = jax.tree.map(lambda d, like: d.reshape(like.shape), d_outputs, outputs)

    def accumulate(total, micro_and_cotangent):
        micro, d_micro = micro_and_cotangent
        _, pull = jax.vjp(lambda params: forward(params, micro), params)
        (grads,) = pull(d_micro)
        return jax.tree.map(lambda t, g: t + g.astype(t.dtype), total, grads), None

    # In float32, whatever the parameters are: many small gradients vanish in a bfloat16 sum.
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
    grads, _ = jax.lax.scan(accumulate, zeros, (batch, d_outputs))
    return grads, *aux


def global_norm(grads) -> jax.Array:
    """The Euclidean norm of all leaves together, as `optax.tree.norm`, of which nothing is kept in memory.

    Written as a square, the terms would be those of Adam's second moment too, and XLA would write them all out.
    """
    doubled = sum(jnp.sum(grad * (grad + grad)) for grad in jax.tree.leaves(grads))
    return jnp.sqrt(0.5 * doubled)


def make_train_step(
    graphdef,
    computation: Computation,
    settings: state_lib.OptimizerSettings,
    *,
    mesh: jax.sharding.Mesh,
    state_shardings: state_lib.TrainState,
) -> Callable[[state_lib.TrainState, batches.Batch], tuple[state_lib.TrainState, dict[str, Any], Trace]]:
    """Builds THE jitted step: `(state, batch) -> (state, metrics, trace)`. The state is donated.

    Args:
        graphdef, state_shardings: as `state.start` returns them.
        computation: what is trained, as `classification(objective)`.
        mesh: devices; metrics and trace come back whole on each.
    """
    optimizer, learning_rate = state_lib.make_optimizer(settings), state_lib.learning_rate_schedule(settings)

    def train_step(state: state_lib.TrainState, batch: batches.Batch):
        step_fraction = state.step.astype(jnp.float32) / settings.num_steps
        grads, metrics, trace, rule_state = loss_and_grads(graphdef, state, batch, step_fraction, computation)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics |= {"grad_norm": global_norm(grads), "learning_rate": learning_rate(state.step)}
        state = state._replace(step=state.step + 1, params=params, opt_state=opt_state, rule_state=rule_state)
        return state, metrics, trace

    whole = sharding.replicated(mesh)
    return jax.jit(train_step, donate_argnums=0, out_shardings=(state_shardings, whole, whole))
