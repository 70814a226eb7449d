"""The two linear heads on a decoder: the class head and the P(IK) head (arXiv 2511.14166, Eq. 3-4)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.models import decoder, layers, lora

NUM_CLASSES = 2


class Outputs(NamedTuple):
    """What a `Classifier` says of E examples, all float32.

    `p_ik_logits` is None for a model without that head; its classes are (IDK, IK).
    """

    class_logits: jax.Array  # [E, 2]
    p_ik_logits: jax.Array | None  # [E, 2]
    embeddings: jax.Array  # [E, D]


class Classifier(nnx.Module):
    """A decoder read at the last token of each example, with one or two zero-initialised linear heads.

    Both heads have two outputs and no bias, and share one forward pass.

    Args:
        p_ik_head: whether it has the second head.
        adapters: how the decoder's weights are adapted, None where they are not.
        seed: that the adapters start from.
        param_dtype: of heads and adapters; default the decoder's.
    """

    def __init__(
        self,
        backbone: decoder.Decoder,
        *,
        p_ik_head: bool,
        adapters: lora.Settings | None = None,
        seed: int = 0,
        param_dtype=None,
    ):
        dtype = backbone.settings.param_dtype if param_dtype is None else jnp.dtype(param_dtype)
        self.backbone = backbone
        self.adapters = lora.adapt(backbone, adapters, seed=seed, param_dtype=dtype)
        self.class_head = _make_head(backbone.config.embed_dim, dtype)
        self.p_ik_head = _make_head(backbone.config.embed_dim, dtype) if p_ik_head else None

    def __call__(self, tokens, segment_ids, positions, row, last, *, reads=None, dropout=None) -> Outputs:
        """Reads example e at (row[e], last[e]) of the packed rows.

        Args:
            tokens, segment_ids, positions: [R, T] int32, as for `Decoder.hidden_states`.
            row, last: [E] int32, coordinates of each example's last token.
            reads: [R, A] int32, columns of tokens in each row, among them those that are read: of others the last layer
                computes keys and values alone. Default all.
            dropout: `lora.Dropout` of the adapters, in training.
        """
        options = {"reads": reads, "adapters": self.adapters, "dropout": dropout}
        return _apply_heads(self, embed(self.backbone, tokens, segment_ids, positions, row, last, **options))


class Probe(nnx.Module):
    """The heads of a `Classifier` without the decoder, whose embeddings are given instead.

    Its parameters are those of a classifier beside its backbone, by the same names.

    Args:
        embed_dim: width D of the decoder.
        p_ik_head: whether it has the second head.
        param_dtype: of the heads.
    """

    def __init__(self, embed_dim: int, *, p_ik_head: bool, param_dtype):
        self.class_head = _make_head(embed_dim, jnp.dtype(param_dtype))
        self.p_ik_head = _make_head(embed_dim, jnp.dtype(param_dtype)) if p_ik_head else None

    def __call__(self, embeddings: jax.Array) -> Outputs:
        """Outputs of embeddings [E, D] float32, as `embed` makes them."""
        return _apply_heads(self, embeddings)


def embed(
    backbone: decoder.Decoder,
    tokens,
    segment_ids,
    positions,
    row,
    last,
    *,
    reads=None,
    adapters=None,
    dropout=None,
    cache=None,
) -> jax.Array:
    """What heads read of each example: the final hidden state of its last token, [E, D] float32.

    Arguments as for `Classifier`.

    Args:
        cache: of what comes before every example, as for `Decoder.hidden_states`.
    """
    hidden = backbone.hidden_states(
        tokens, segment_ids, positions, reads=reads, adapters=adapters, dropout=dropout, cache=cache
    )
    place = last if reads is None else layers.place_read(reads, row, last)
    embeddings = hidden[row, place].astype(jnp.float32)
    return sharding.constrain(embeddings, ("examples", "features"), backbone.mesh)


def _make_head(embed_dim: int, dtype) -> nnx.Param:
    shape = (NUM_CLASSES, embed_dim)
    return layers.param(nnx.Rngs(0), layers.zeros_init, shape, ("classes", "embed"), dtype)


def _apply_heads(model: Classifier | Probe, embeddings: jax.Array) -> Outputs:
    p_ik_logits = None if model.p_ik_head is None else _apply_head(model.p_ik_head, embeddings)
    return Outputs(_apply_head(model.class_head, embeddings), p_ik_logits, embeddings)


def _apply_head(head, embeddings):
    weight = head[...].astype(jnp.float32)
    return jnp.einsum("ed,cd->ec", embeddings, weight, precision=jax.lax.Precision.HIGHEST)
