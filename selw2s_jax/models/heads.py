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
        self.adapters = (
            None if adapters is None else lora.Adapters(backbone, adapters, seed=seed, param_dtype=dtype)
        )

        def make_head():
            shape = (NUM_CLASSES, backbone.config.embed_dim)
            return layers.param(nnx.Rngs(0), layers.zeros_init, shape, ("classes", "embed"), dtype)

        self.class_head = make_head()
        self.p_ik_head = make_head() if p_ik_head else None

    def __call__(self, tokens, segment_ids, positions, row, last, *, dropout=None) -> Outputs:
        """Reads example e at (row[e], last[e]) of the packed rows.

        Args:
            tokens, segment_ids, positions: [R, T] int32, as for `Decoder.hidden_states`.
            row, last: [E] int32, coordinates of each example's last token.
            dropout: `lora.Dropout` of the adapters, in training.
        """
        hidden = self.backbone.hidden_states(
            tokens, segment_ids, positions, adapters=self.adapters, dropout=dropout
        )
        embeddings = hidden[row, last].astype(jnp.float32)
        embeddings = sharding.constrain(embeddings, ("examples", "features"), self.backbone.mesh)
        p_ik_logits = None if self.p_ik_head is None else _apply_head(self.p_ik_head, embeddings)
        return Outputs(_apply_head(self.class_head, embeddings), p_ik_logits, embeddings)


def _apply_head(head, embeddings):
    weight = head[...].astype(jnp.float32)
    return jnp.einsum("ed,cd->ec", embeddings, weight, precision=jax.lax.Precision.HIGHEST)
