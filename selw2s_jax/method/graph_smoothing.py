"""Graph-smoothed labels (Selective W2SG, Eq. 1 and 2)."""

import jax
import jax.numpy as jnp


def neighbour_weights(
    embeddings: jax.Array,
    *,
    tau: float,
    normalize: bool = True,
    center: bool = False,
    include_self: bool = True,
    example_mask: jax.Array | None = None,
) -> jax.Array:
    """Attention of every row to its neighbours: a_ij = softmax_j(z_i . z_j / tau) (Eq. 1).

    Args:
        embeddings: `[B, D]`, any float dtype; the graph is built in float32.
        tau: temperature, > 0.
        normalize: L2-normalise the embeddings first.
        center: subtract the mean embedding of the unmasked rows first.
        include_self: whether a row is among its own neighbours.
        example_mask: `[B]` bool; masked rows are nobody's neighbour.

    Returns:
        `[B, B]` float32. Rows sum to 1, or to 0 for a row that has no neighbour.
    """
    num_rows = embeddings.shape[0]
    mask = jnp.ones(num_rows, bool) if example_mask is None else example_mask.astype(bool)
    # Masked rows may hold anything, NaN included.
    z = jnp.where(mask[:, None], embeddings.astype(jnp.float32), 0.0)
    if center:
        mean = jnp.sum(z, axis=0) / jnp.maximum(jnp.sum(mask), 1)
        z = jnp.where(mask[:, None], z - mean, 0.0)
    if normalize:
        z = z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
    # tau divides rounding errors too: full float32 products on accelerators that default to less.
    logits = jnp.einsum("id,jd->ij", z, z, precision=jax.lax.Precision.HIGHEST) / tau
    allowed = mask[None, :] & mask[:, None]
    if not include_self:
        allowed &= ~jnp.eye(num_rows, dtype=bool)
    peak = jnp.max(logits, axis=-1, keepdims=True, where=allowed, initial=-jnp.inf)
    exps = jnp.where(allowed, jnp.exp(logits - jnp.where(jnp.isfinite(peak), peak, 0.0)), 0.0)
    total = jnp.sum(exps, axis=-1, keepdims=True)
    return exps / jnp.where(total > 0, total, 1.0)


def smooth_labels(
    embeddings: jax.Array,
    prior_probs: jax.Array,
    *,
    alpha: float,
    tau: float,
    normalize: bool = True,
    include_self: bool = True,
    example_mask: jax.Array | None = None,
    center: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """l_g(x_i) = alpha l_p(x_i) + (1 - alpha) sum_j a_ij l_p(x_j) (Eq. 2), for every row.

    Args:
        embeddings: `[B, D]` last-token embeddings of the final layer.
        prior_probs: `[B, 2]` prior labels l_p.
        alpha: weight of a row's own prior label, in [0, 1].
        tau, normalize, include_self, example_mask, center: see `neighbour_weights`.

    Returns:
        Smoothed labels `[B, 2]` and neighbour weights `[B, B]`, float32, without gradient. A row without any
        neighbour, and a masked row, keeps its prior label.
    """
    weights = neighbour_weights(
        embeddings,
        tau=tau,
        normalize=normalize,
        center=center,
        include_self=include_self,
        example_mask=example_mask,
    )
    prior = prior_probs.astype(jnp.float32)
    known = prior if example_mask is None else jnp.where(example_mask.astype(bool)[:, None], prior, 0.0)
    neighbours = jnp.einsum("ij,jc->ic", weights, known, precision=jax.lax.Precision.HIGHEST)
    has_neighbours = jnp.any(weights > 0, axis=-1, keepdims=True)
    smoothed = jnp.where(has_neighbours, alpha * prior + (1.0 - alpha) * neighbours, prior)
    return jax.lax.stop_gradient(smoothed), jax.lax.stop_gradient(weights)


def graph_diagnostics(weights: jax.Array, example_mask: jax.Array | None = None) -> dict[str, jax.Array]:
    """Mean self-weight and mean effective number of neighbours (exp of the entropy) of unmasked rows."""
    mask = jnp.ones(weights.shape[0], bool) if example_mask is None else example_mask.astype(bool)
    count = jnp.maximum(jnp.sum(mask), 1)
    entropy = -jnp.sum(
        jnp.where(weights > 0, weights * jnp.log(jnp.where(weights > 0, weights, 1.0)), 0.0), -1
    )
    return {
        "self_weight": jnp.sum(jnp.where(mask, jnp.diagonal(weights), 0.0)) / count,
        "effective_neighbours": jnp.sum(jnp.where(mask, jnp.exp(entropy), 0.0)) / count,
    }
