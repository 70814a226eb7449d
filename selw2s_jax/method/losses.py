"""Losses of the class head, by name, and the loss of written answers (`completion_loss`).

Every loss by name is a function `(logits [B, 2], weak_probs [B, 2], step_fraction, example_mask=None) -> [B]`: one
value per example, in float32 whatever the compute dtype; the train step alone averages. `weak_probs` are
the targets that the method's label rule chose, without gradient, `step_fraction` is step / num_steps, from 0,
and rows whose `example_mask` is False (padding, or examples of the other kind) take no part in any batch
statistic. In the formulas f are the student's probabilities and w the weak ones.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from selw2s_jax.method import factories

Loss = Callable[..., jax.Array]
# An option that `config.loss` or `config.compat` has too takes its value from there in a run; the defaults of the
# factories are for calls without a config, and a test holds them to be the same.
LOSSES = factories.Registry("loss", sections=("loss", "compat"), built_in=("selw2s_jax.method.divergences",))
register = LOSSES.register

# What w counts as, at least, in a loss that divides by it or has its logarithm alone, and is infinite at w = 0.
MIN_WEAK_PROB = 1e-6
COMPLETION_MEANS = ("rows", "tokens")


def get(name: str, **options) -> Loss:
    """The loss registered as `name`, with its options bound.

    Raises:
        KeyError: no loss of that name.
    """
    loss = LOSSES.make(name, **options)

    def on_arrays(logits, weak_probs, step_fraction, example_mask=None):
        mask = None if example_mask is None else jnp.asarray(example_mask)
        weak_probs = jax.lax.stop_gradient(jnp.asarray(weak_probs))
        return loss(jnp.asarray(logits), weak_probs, step_fraction, mask)

    return on_arrays


def log_softmax(logits: jax.Array) -> jax.Array:
    """Log-probabilities of class logits `[B, C]`: `[B, C]`, float32 whatever the logits are."""
    return jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)


def clamp(weak_probs: jax.Array) -> jax.Array:
    """Weak probabilities as float32 of at least `MIN_WEAK_PROB`; not normalised again."""
    return jnp.maximum(weak_probs.astype(jnp.float32), MIN_WEAK_PROB)


def log_where_positive(probs: jax.Array) -> jax.Array:
    """Logarithm of probabilities, and 0 for the logarithm of 0: for w log w and the like, whose limit there is 0."""
    return jnp.log(jnp.where(probs > 0, probs, 1.0))


def cross_entropy(logits: jax.Array, target_probs: jax.Array) -> jax.Array:
    """Cross-entropy of class logits `[B, C]` against target probabilities `[B, C]`: `[B]`, float32."""
    return -jnp.sum(target_probs.astype(jnp.float32) * log_softmax(logits), axis=-1)


def masked_quantile(values: jax.Array, level: jax.Array, mask: jax.Array) -> jax.Array:
    """Quantile of the values `[B]` whose mask is True, linearly interpolated; 0 where there are none."""
    count = jnp.sum(mask)
    ordered = jnp.sort(jnp.where(mask, values, jnp.inf))
    position = jnp.clip(level, 0.0, 1.0) * jnp.maximum(count - 1, 0)
    below = jnp.floor(position).astype(jnp.int32)
    above = jnp.ceil(position).astype(jnp.int32)
    low, high = ordered[below], ordered[above]
    return jnp.where(count > 0, low + (high - low) * (position - below), 0.0)


@register("finetune")
def make_finetune_loss() -> Loss:
    """Cross-entropy on the given soft labels (Burns et al. 2023, "naive finetuning")."""

    def loss(logits, weak_probs, step_fraction, example_mask=None):
        del step_fraction, example_mask
        return cross_entropy(logits, weak_probs)

    return loss


@register("confidence")
def make_confidence_loss(
    *,
    confidence_coefficient: float = 0.5,
    confidence_ramp_fraction: float = 0.1,
    openai_ramp: bool = False,
) -> Loss:
    """Auxiliary confidence loss (Burns et al. 2023, Eq. 1; defaults of openai/weak-to-strong).

    The target is (1 - c) w + c onehot(h), with h the student's own class, hardened at the batch's quantile
    of the probability of class 0 that gives as many rows of class 1 as the weak labels have.

    Args:
        confidence_coefficient: final weight c of the student's own prediction.
        confidence_ramp_fraction: fraction of training over which the weight rises linearly from 0.
        openai_ramp: the ramp of openai/weak-to-strong as released (its issue 33): the bare step fraction
            until `confidence_ramp_fraction`, then 1.
    """

    def loss(logits, weak_probs, step_fraction, example_mask=None):
        mask = jnp.ones(logits.shape[0], bool) if example_mask is None else example_mask.astype(bool)
        weak_probs = weak_probs.astype(jnp.float32)
        fraction = jnp.asarray(step_fraction, jnp.float32)
        if openai_ramp:
            ramp = jnp.where(fraction > confidence_ramp_fraction, 1.0, fraction)
        elif confidence_ramp_fraction > 0:
            ramp = jnp.minimum(1.0, fraction / confidence_ramp_fraction)
        else:
            ramp = 1.0
        weight = confidence_coefficient * ramp
        prob_0 = jax.lax.stop_gradient(jax.nn.softmax(logits.astype(jnp.float32), axis=-1)[:, 0])
        level = jnp.sum(jnp.where(mask, weak_probs[:, 1], 0.0)) / jnp.maximum(jnp.sum(mask), 1)
        is_class_0 = prob_0 >= masked_quantile(prob_0, level, mask)
        own = jnp.stack([is_class_0, ~is_class_0], axis=-1).astype(jnp.float32)
        return cross_entropy(logits, (1.0 - weight) * weak_probs + weight * own)

    return loss


@register("product")
def make_product_loss(*, product_weak_power: float = 1.0, product_student_power: float = 1.0) -> Loss:
    """Cross-entropy on the product of weak labels and the student's own predictions (openai/weak-to-strong).

    The target is proportional to w^a f^b, without gradient through f, with 0^0 = 1. It is that product exactly:
    a class that a hard label rules out keeps probability 0 however sure of it the student is. In logarithms, so
    that f need not be held by a float32; where both products are 0 all the same, the target is even.

    Args:
        product_weak_power: a, not negative.
        product_student_power: b, not negative.
    """

    def loss(logits, weak_probs, step_fraction, example_mask=None):
        del step_fraction, example_mask
        weak_probs = weak_probs.astype(jnp.float32)
        log_weak = jnp.log(weak_probs) if product_weak_power else log_where_positive(weak_probs)  # 0^0 is 1
        log_probs = jax.lax.stop_gradient(log_softmax(logits))
        log_product = product_weak_power * log_weak + product_student_power * log_probs
        # Logarithms of 0 as the least number, so that a row of two has a softmax.
        log_product = jnp.maximum(log_product, jnp.finfo(jnp.float32).min)
        return cross_entropy(logits, jax.nn.softmax(log_product, axis=-1))

    return loss


@register("adaptive")
def make_adaptive_loss(*, adaptive_temperature: float = 1.0) -> Loss:
    """Adaptive confidence loss (Guo et al. 2024, "Vision Superalignment").

    (1 - c) KL(w‖f) + c CE(f, own class), with c = A / (A + B) per example and without gradient: A is
    exp(CE(f, own class) / T) and B is exp(CE(f, class of w) / T). Where f ties, as all of it does at
    first with heads that start at zero, its own class is that of w rather than one class for all examples.

    Args:
        adaptive_temperature: T; 1 in that paper, 0.5 in its code.
    """

    def loss(logits, weak_probs, step_fraction, example_mask=None):
        del step_fraction, example_mask
        weak_probs = weak_probs.astype(jnp.float32)
        own_class, weak_class = (jax.nn.one_hot(jnp.argmax(x, -1), x.shape[-1]) for x in (logits, weak_probs))
        is_tie = jnp.min(logits, axis=-1, keepdims=True) == jnp.max(logits, axis=-1, keepdims=True)
        own_class = jnp.where(is_tie, weak_class, own_class)
        own = cross_entropy(logits, own_class)
        difference = own - cross_entropy(logits, weak_class)
        weight = jax.lax.stop_gradient(jax.nn.sigmoid(difference / adaptive_temperature))
        kl = cross_entropy(logits, weak_probs) + jnp.sum(weak_probs * log_where_positive(weak_probs), axis=-1)
        return (1.0 - weight) * kl + weight * own

    return loss


def completion_loss(
    log_probs: jax.Array,
    answer_mask: jax.Array,
    weights: jax.Array,
    example_mask: jax.Array | None = None,
    *,
    mean: str = "rows",
    normalize: bool = False,
) -> jax.Array:
    """The loss of a batch of written answers (arXiv 2406.19032, Eq. 5; Eq. 1 where every weight is 1).

    A row's own loss is the mean of -log p over its answer tokens; the batch's is the sum of weight times loss over the
    *number of rows*, not the sum of weights. A row without answer tokens counts as one, with loss 0. In float32,
    whatever the log-probabilities are in.

    Args:
        log_probs: `[B, T]` log-probability of each token given those before it.
        answer_mask: `[B, T]` bool; tokens of the answer, its end-of-text token one of them. What the others hold, even
            NaN, changes nothing.
        weights: `[B]` of the rows, the reliability scores S.
        example_mask: `[B]` bool; rows that are False are padding, and do not count. None: all count.
        mean, normalize: see `loss_of_sums`.

    Returns:
        A scalar, float32; 0 where nothing counts.

    Raises:
        ValueError: `mean` is unknown.
    """
    mask = jnp.asarray(answer_mask, bool)
    # Chosen, not multiplied by 0: 0 times what a masked place holds may be NaN, in the gradient too.
    sums = jnp.sum(jnp.where(mask, jnp.asarray(log_probs).astype(jnp.float32), 0.0), axis=-1)
    return loss_of_sums(sums, jnp.sum(mask, axis=-1), weights, example_mask, mean=mean, normalize=normalize)


def loss_of_sums(
    log_prob_sums: jax.Array,
    num_tokens: jax.Array,
    weights: jax.Array,
    example_mask: jax.Array | None = None,
    *,
    mean: str = "rows",
    normalize: bool = False,
) -> jax.Array:
    """`completion_loss` of rows whose answer tokens are summed already.

    Args:
        log_prob_sums: `[B]` sums of log-probabilities over the answer tokens.
        num_tokens: `[B]` how many these are.
        weights, example_mask: as of `completion_loss`.
        mean: "rows" as in the paper; "tokens" is the sum of weight times -log p over the number of answer tokens, so
            that long answers count for more.
        normalize: whether the divisor is the sum of weights instead, of each row or of each token: a weighted mean.

    Returns, raises: as `completion_loss`.
    """
    if mean not in COMPLETION_MEANS:
        raise ValueError(f"mean is {mean!r}; choose one of {', '.join(COMPLETION_MEANS)}")
    weights, num_tokens = jnp.asarray(weights, jnp.float32), jnp.asarray(num_tokens, jnp.float32)
    is_row = jnp.ones(weights.shape, bool) if example_mask is None else jnp.asarray(example_mask, bool)
    losses, weights, num_tokens = (
        jnp.where(is_row, of_row, 0.0)
        for of_row in (-jnp.asarray(log_prob_sums, jnp.float32), weights, num_tokens)
    )
    if mean == "rows":
        losses, sizes = losses / jnp.maximum(num_tokens, 1.0), is_row.astype(jnp.float32)
    else:
        sizes = num_tokens
    divisor = jnp.sum(weights * sizes if normalize else sizes)
    return jnp.sum(weights * losses) / jnp.where(divisor > 0, divisor, 1.0)
