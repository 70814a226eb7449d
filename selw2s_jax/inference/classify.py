"""Class probabilities and P(IK) of a trained classifier over a whole split."""

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from selw2s_jax import preemption, progress, sharding
from selw2s_jax.data import batches


def predict(
    model,
    tokens: Sequence[np.ndarray],
    *,
    mesh: jax.sharding.Mesh,
    batch_tokens: int,
    max_length: int,
    label: str,
    openai_pooling: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores every example once.

    Args:
        model: a `heads.Classifier`.
        tokens: ids of each of N examples.
        batch_tokens: token slots of a batch, about.
        max_length: longest example allowed, in tokens.
        label: name in progress lines.

    Returns:
        Class probabilities `[N, 2]` and P(IK) `[N]` (None without that head), float32.
    """
    graphdef, params = nnx.split(model)
    return score(
        _class_forward,
        graphdef,
        params,
        tokens,
        mesh=mesh,
        batch_tokens=batch_tokens,
        max_length=max_length,
        label=label,
        openai_pooling=openai_pooling,
    )


def _class_forward(graphdef, params, batch: batches.Batch):
    outputs = nnx.merge(graphdef, params)(
        batch.tokens[0], batch.segment_ids[0], batch.positions[0], batch.row[0], batch.last[0]
    )
    p_ik = None if outputs.p_ik_logits is None else jax.nn.softmax(outputs.p_ik_logits, axis=-1)[:, 1]
    return jax.nn.softmax(outputs.class_logits, axis=-1), p_ik


def score(
    forward,
    static,
    params,
    tokens: Sequence[np.ndarray],
    *,
    mesh: jax.sharding.Mesh,
    batch_tokens: int,
    max_length: int,
    label: str,
    openai_pooling: bool = False,
):
    """Runs `forward(static, params, batch) -> pytree of [E, ...]` over all examples, back in their order.

    `forward` is a function of a module and `static` hashable, so that runs of one shape compile once.

    Returns:
        The pytree with `[N, ...]` NumPy arrays.
    """
    run = jax.jit(forward, static_argnums=0, out_shardings=sharding.replicated(mesh))
    planned = list(
        batches.score_batches(
            tokens,
            batch_tokens=batch_tokens,
            max_length=max_length,
            row_multiple=sharding.num_row_groups(mesh),
            openai_pooling=openai_pooling,
        )
    )
    parts, order, pending = [], [], None
    for batch, members in progress.track(planned, total=len(planned), label=label, unit="batches"):
        preemption.check(label)
        outputs = run(static, params, batches.device_batch(batch, mesh))
        if pending is not None:
            parts.append(_take(*pending))
        pending = (outputs, len(members))
        order.append(members)
    parts.append(_take(*pending))
    inverse = np.argsort(np.concatenate(order))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[inverse], *parts)


def _take(outputs, count: int):
    return jax.tree.map(lambda x: np.asarray(x)[:count], jax.device_get(outputs))
