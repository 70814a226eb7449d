"""RAVEN (arXiv 2510.21332): the label of several weak models, whose weights are learned beside the student.

Member k gives example i the probabilities w_ik. With weights v, one set for all examples, and f the student's present
probabilities, without gradient:

    label_i = sum_k v_k w_ik
    g_k     = mean_i [ CE(f_i, w_ik) - CE(f_i, label_i) ]
    v      <- max(v - eta g, floor),    v <- v / sum v

g is the gradient of mean_i CE(f_i, sum_k v_k w_ik / sum v) at sum v = 1. Without its second term, which is that of the
division, dividing by the sum would make large weights larger where a student knows nothing yet. Where logits are mixed

    label_i = softmax(sum_k v_k z_ik),    z_ik = log w_ik
    g_k     = mean_i sum_c label_ic (-log f_ic) (z_ikc - sum_c' label_ic' z_ikc')

Weights start at 1/K and make the labels of a step before that step changes them. CE(f, w_k) prefers members that are
sure of themselves, and two members with one error outvote a better third.
"""

import jax
import jax.numpy as jnp
import numpy as np

from selw2s_jax.method import label_rules, losses

MIXES = ("probabilities", "logits")
_EACH = "weak_each"


def update(
    weights: jax.Array,
    weak: jax.Array,
    logits: jax.Array,
    *,
    learning_rate: float | jax.Array,
    mix: str = "probabilities",
    floor: float = 1e-6,
    example_mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The labels of a batch, the gradient of their weights, and the weights after it.

    Args:
        weights: `[K]` of the members, on the simplex.
        weak: `[E, K, 2]` probabilities that each member gives.
        logits: `[E, 2]` of the student.
        learning_rate: eta, of plain gradient descent.
        mix: of `MIXES`, what is averaged.
        floor: what a weight is at least, before they are divided by their sum.
        example_mask: `[E]` bool; masked rows, as padding, may hold anything and move no weight.

    Returns:
        labels `[E, 2]`, gradient `[K]` and new weights `[K]`, float32, all without gradient.

    Raises:
        ValueError: no such mix, or not a weight for each member.
    """
    if mix not in MIXES:
        raise ValueError(f"mix={mix!r} is not one of: {', '.join(MIXES)}")
    weights, weak, logits = (jnp.asarray(array).astype(jnp.float32) for array in (weights, weak, logits))
    if weights.shape != weak.shape[1:2]:
        raise ValueError(f"weights of shape {weights.shape} for members of shape {weak.shape}: give one each")
    # -log f up to a number of each row, which cancels below. So it is 0, and no weight moves, where f is 1/2.
    surprise = (jnp.mean(logits, axis=-1, keepdims=True) - logits)[:, None, :]
    by_member = weights[:, None]
    if mix == "probabilities":
        labels = jnp.sum(by_member * weak, axis=1)
        slopes = jnp.sum(surprise * (weak - labels[:, None, :]), axis=-1)
    else:
        z = jnp.log(losses.clamp(weak))
        labels = jax.nn.softmax(jnp.sum(by_member * z, axis=1), axis=-1)
        of_label = labels[:, None, :]
        slopes = jnp.sum(of_label * surprise * (z - jnp.sum(of_label * z, axis=-1, keepdims=True)), axis=-1)
    counts = jnp.ones(len(labels), bool) if example_mask is None else jnp.asarray(example_mask).astype(bool)
    total = jnp.sum(jnp.where(counts[:, None], slopes, 0.0), axis=0)
    gradient = total / jnp.maximum(jnp.sum(counts), 1)
    moved = jnp.maximum(weights - learning_rate * gradient, floor)
    found = labels, gradient, moved / jnp.sum(moved)
    return jax.tree.map(jax.lax.stop_gradient, found)


def agree(weak: jax.Array) -> jax.Array:
    """`[E]` bool: whether all members `[E, K, 2]` give an example the same class, 1 where its probability is > 0.5."""
    classes = weak[..., 1] > 0.5
    return jnp.all(classes == classes[:, :1], axis=1)


@label_rules.register("raven", reads=(_EACH,), sections=("raven",))
def make_raven_rule(
    *,
    learning_rate: float = 0.01,
    frozen_fraction: float = 0.1,
    easy_only: bool = True,
    mix: str = "probabilities",
    floor: float = 1e-6,
) -> label_rules.WithState:
    """Labels of several weak models by weights that are learned; its state is these weights `[K]`.

    Args:
        learning_rate, mix, floor: see `update`.
        frozen_fraction: of the steps, at the beginning, in which weights stay 1/K.
        easy_only: whether the loss of these steps is a mean over those rows alone whose members agree in their class.
            (The released code divides their sum by the number of all rows.)
    """

    def init(shapes) -> np.ndarray:
        num_members = shapes[_EACH][0]
        return np.full(num_members, 1 / num_members, np.float32)

    def label(inputs: label_rules.RuleInputs, weights: jax.Array) -> tuple[label_rules.Labels, jax.Array]:
        weak, nobody = inputs.columns[_EACH], jnp.zeros_like(inputs.example_mask)
        metrics = {f"weight_{k}": weight for k, weight in enumerate(weights)}
        if len(weights) == 1:
            # Nothing to weigh. What is computed beside it, a product with 1 or a mean to log, may have the compiler
            # round the student's step otherwise; so it is, to the bit, that on the labels as they are.
            alone = weak[:, 0].astype(jnp.float32)
            return label_rules.Labels(alone, alone, nobody, inputs.p_ik, metrics), weights
        labels, _, moved = update(
            weights,
            weak,
            inputs.class_logits,
            learning_rate=learning_rate,
            mix=mix,
            floor=floor,
            example_mask=inputs.example_mask,
        )
        is_frozen, is_easy = inputs.step_fraction < frozen_fraction, agree(weak)
        in_loss = is_easy | ~is_frozen if easy_only else jnp.ones_like(is_easy)
        count = jnp.maximum(jnp.sum(inputs.example_mask), 1)
        metrics["agreement"] = jnp.sum(is_easy & inputs.example_mask) / count
        chosen = label_rules.Labels(labels, labels, nobody, inputs.p_ik, metrics, in_loss)
        return chosen, jnp.where(is_frozen, weights, moved)

    return label_rules.WithState(init, label)
