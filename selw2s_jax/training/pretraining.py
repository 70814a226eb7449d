"""Language-model pretraining: the next-token loss, as a computation of the one train step."""

import jax
import jax.numpy as jnp
from flax import nnx

from selw2s_jax.data import text_rows
from selw2s_jax.models import decoder, registry
from selw2s_jax.training import step

# Of tied embeddings: larger logits at the start than 0.02 gives, and tokens that positions do not drown.
_EMBEDDING_STD = 0.1


def next_token() -> step.Computation:
    """Mean cross-entropy of the next token, weighted by `TextBatch.loss_weights`."""
    return step.Computation(_forward, _loss)


def _forward(model: decoder.Decoder, micro: text_rows.TextBatch, step: jax.Array) -> jax.Array:
    """Cross-entropy [R, T] float32 of the token after each position."""
    del step
    hidden = model.hidden_states(micro.tokens, micro.segment_ids, micro.positions)
    targets = jnp.roll(micro.tokens, -1, axis=1)
    return model.next_token_losses(hidden, targets)


def _loss(cross_entropy: jax.Array, batch: text_rows.TextBatch, step_fraction: jax.Array, rule_state):
    del step_fraction
    total = step.weighted_mean(cross_entropy, batch.loss_weights)
    return total, ({"loss": total}, (), rule_state)


def initialize(config: registry.ModelConfig, seed: int, **options) -> decoder.Decoder:
    """A decoder with its language-model head, initialised for training from scratch at a small width.

    Weights have standard deviation 1/sqrt(embed_dim), those that write to the residual stream less by
    1/sqrt(2 num_layers), embeddings 0.1; biases are 0 and the norms' scales 1.

    Args:
        options: of `decoder.Decoder`.
    """
    model = decoder.Decoder(config, rngs=nnx.Rngs(0), **options | {"lm_head": True})
    params = decoder.flatten_params(nnx.state(model, nnx.Param))
    for number, (path, variable) in enumerate(sorted(params.items())):
        name = path.rsplit(".", 1)[-1]
        if name == "scale" or "bias" in name:
            continue
        std = _EMBEDDING_STD if name in ("wte", "wpe") else config.embed_dim**-0.5
        if name in ("out", "down"):
            std /= (2 * config.num_layers) ** 0.5
        key = jax.random.fold_in(jax.random.key(seed), number)
        variable[...] = std * jax.random.normal(key, variable.shape, variable.dtype)
    nnx.update(model, nnx.from_flat_state([(tuple(p.split(".")), v) for p, v in params.items()]))
    return model
