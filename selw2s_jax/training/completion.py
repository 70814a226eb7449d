"""Training on written answers: the loss of arXiv 2406.19032 (Eq. 1 and 5), as a computation of the one train step."""

import functools

import jax
import jax.numpy as jnp

from selw2s_jax import sharding
from selw2s_jax.data import answer_tokens, batches
from selw2s_jax.method import losses
from selw2s_jax.models import language_model
from selw2s_jax.training import step as step_lib


def completion(*, mean: str = "rows", normalize: bool = False) -> step_lib.Computation:
    """The loss of a batch of rows, each a prompt and its answer, weighted by `Batch.example_weight`.

    Args:
        mean, normalize: as for `losses.loss_of_sums`; by default Eq. 5: the sum of weight times the mean of -log p over
            a row's answer tokens, over the number of rows.

    Raises:
        ValueError: `mean` is unknown.
    """
    if mean not in losses.COMPLETION_MEANS:
        raise ValueError(f"mean is {mean!r}; choose one of {', '.join(losses.COMPLETION_MEANS)}")
    return step_lib.Computation(
        answer_log_probs, functools.partial(batch_loss, mean=mean, normalize=normalize)
    )


def answer_log_probs(model: language_model.LanguageModel, micro: batches.Batch, step: jax.Array) -> jax.Array:
    """Log-probability [E] float32 of each example's answer behind its prompt, the sum over the answer's tokens.

    Args:
        micro: with `answers`, of examples that have the column `answer_tokens.COLUMN`.
    """
    columns, slots = micro.answers
    hidden = model.hidden_states(
        micro.tokens,
        micro.segment_ids,
        micro.positions,
        reads=jnp.maximum(columns - 1, 0),  # a token is predicted by the one before
        dropout=step_lib.adapter_dropout(model, micro, step),
    )
    hidden = sharding.constrain(hidden, ("rows", "time", "features"), model.mesh)
    # From within each row, so that they stay on the device that has it.
    targets = jnp.take_along_axis(micro.tokens, columns, axis=1, mode="clip")
    log_probs = model.token_log_probs(hidden, targets)
    # Not scattered, which on a GPU sums in any order. Padding has the number of no slot.
    is_of_example = slots[:, :, None] == jnp.arange(micro.index.shape[0])
    return jnp.sum(jnp.where(is_of_example, log_probs[:, :, None], 0.0), axis=(0, 1))


def batch_loss(
    log_prob_sums: jax.Array,
    batch: batches.Batch,
    step_fraction: jax.Array,
    rule_state: tuple = (),
    *,
    mean: str,
    normalize: bool,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], tuple, tuple]]:
    """Loss of the global batch from the log-probabilities [N] of its answers, N = M * E.

    Args:
        batch: its per-example fields flattened to the same axis.

    Returns:
        The scalar loss, and (metrics, no trace, no state): "loss", "loss_unweighted", as if all weights were 1, and
        "mean_weight".
    """
    del step_fraction
    is_row = (batch.weight > 0) & (batch.kind == batches.TASK)
    ones = jnp.ones_like(log_prob_sums)
    weights = ones * batch.example_weight
    num_tokens = batch.columns[answer_tokens.COLUMN]
    loss_of = functools.partial(
        losses.loss_of_sums, log_prob_sums, num_tokens, example_mask=is_row, mean=mean
    )
    total = loss_of(weights, normalize=normalize)
    metrics = {
        "loss": total,
        "loss_unweighted": loss_of(ones),
        "mean_weight": step_lib.weighted_mean(weights, is_row.astype(jnp.float32)),
    }
    return total, (metrics, (), rule_state)
