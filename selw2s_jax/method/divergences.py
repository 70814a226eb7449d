"""Divergences between student and weak probabilities as losses (Yao et al. 2025), by name.

Each is a function `(log_probs [B, 2], weak_probs [B, 2]) -> [B]` of the student's log-probabilities log f and
the weak probabilities w, both float32. Written in log f, values and gradients are finite where f is 0 or 1;
where a divergence is infinite at w = 0, w counts as at least `losses.MIN_WEAK_PROB`.
"""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp

from selw2s_jax.method import losses

Divergence = Callable[[jax.Array, jax.Array], jax.Array]


def binary_log_softmax(logits: jax.Array) -> jax.Array:
    """Log-probabilities of two classes' logits `[B, 2]`: `[B, 2]`, float32.

    From the difference of the logits: the gradient of the usual form subtracts two sums that are nearly equal
    where f is near 0 or 1, and a chi-squared of 1e6 leaves little of it in float32.
    """
    logits = logits.astype(jnp.float32)
    difference = logits[:, 1] - logits[:, 0]
    return jax.nn.log_sigmoid(jnp.stack([-difference, difference], axis=-1))


def register(name: str):
    """Registers a divergence as the loss `name`, with the option `scale` that multiplies it; a decorator."""

    def add(divergence: Divergence) -> Divergence:
        def make_loss(*, scale: float = 1.0) -> losses.Loss:
            def loss(logits, weak_probs, step_fraction, example_mask=None):
                del step_fraction, example_mask
                return scale * divergence(binary_log_softmax(logits), weak_probs.astype(jnp.float32))

            return loss

        # Its code is that of the divergence, which the keys of stages have where it is from outside of this package.
        vars(make_loss).update(__signature__=inspect.signature(make_loss), __wrapped__=divergence)
        make_loss.__module__ = divergence.__module__
        losses.register(name)(make_loss)
        return divergence

    return add


@register("forward_kl")
def forward_kl(log_probs: jax.Array, weak_probs: jax.Array) -> jax.Array:
    """KL(w‖f) = sum w log(w / f): cross-entropy less the entropy of w, so with the gradient of `finetune`."""
    return jnp.sum(weak_probs * (losses.log_where_positive(weak_probs) - log_probs), axis=-1)


@register("reverse_kl")
def reverse_kl(log_probs: jax.Array, weak_probs: jax.Array) -> jax.Array:
    """KL(f‖w) = sum f log(f / w) (Yao et al. 2025, "Revisiting Weak-to-Strong Generalization")."""
    return jnp.sum(jnp.exp(log_probs) * (log_probs - jnp.log(losses.clamp(weak_probs))), axis=-1)


@register("jensen_shannon")
def jensen_shannon(log_probs: jax.Array, weak_probs: jax.Array) -> jax.Array:
    """Half KL(f‖m) plus half KL(w‖m), m = (f + w) / 2, in nats: at most log 2."""
    probs, log_weak = jnp.exp(log_probs), losses.log_where_positive(weak_probs)
    mean = (probs + weak_probs) / 2
    # Where f and w are both 0, or next to it, both terms are 0; the gradient divides by the mean.
    log_mean = jnp.log(jnp.where(mean < jnp.finfo(jnp.float32).tiny, 1.0, mean))
    return jnp.sum(probs * (log_probs - log_mean) + weak_probs * (log_weak - log_mean), -1) / 2


@register("hellinger")
def hellinger(log_probs: jax.Array, weak_probs: jax.Array) -> jax.Array:
    """Squared Hellinger distance, 1/2 sum (sqrt f - sqrt w)^2: at most 1."""
    return jnp.sum((jnp.exp(log_probs / 2) - jnp.sqrt(weak_probs)) ** 2, axis=-1) / 2


@register("total_variation")
def total_variation(log_probs: jax.Array, weak_probs: jax.Array) -> jax.Array:
    """1/2 sum |f - w|: at most 1; its gradient with respect to f does not shrink as f nears w."""
    return jnp.sum(jnp.abs(jnp.exp(log_probs) - weak_probs), axis=-1) / 2


@register("chi_squared")
def chi_squared(log_probs: jax.Array, weak_probs: jax.Array) -> jax.Array:
    """Pearson's, sum (f - w)^2 / w: up to 1e6 where the student is sure of what the weak model rules out."""
    weak_probs = losses.clamp(weak_probs)
    return jnp.sum((jnp.exp(log_probs) - weak_probs) ** 2 / weak_probs, axis=-1)
