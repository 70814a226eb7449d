"""Which label each example trains on (Selective W2SG, Eq. 3), and the label rules built from it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from selw2s_jax.method import graph_smoothing, label_rules


class Selection(NamedTuple):
    """Labels of one batch on their way from prior to target; all `[B, ...]`, float32, without gradient."""

    targets: jax.Array  # [B, 2]
    ik_mask: jax.Array  # [B] bool
    prior: jax.Array  # [B, 2]
    weights: jax.Array  # [B, B]


def as_probs(labels: jax.Array) -> jax.Array:
    """Labels as class probabilities `[B, 2]`, from hard labels or probabilities of class 1 `[B]`."""
    labels = labels.astype(jnp.float32)
    return labels if labels.ndim == 2 else jnp.stack([1.0 - labels, labels], axis=-1)


def own_labels(inputs: label_rules.RuleInputs, self_label: str) -> jax.Array:
    """The strong model's labels `[E]`: "given" with the batch, or the "class_head"'s present classes."""
    if self_label == "given":
        return inputs.self_labels
    return jnp.argmax(inputs.class_logits, axis=-1).astype(jnp.float32)


def select_labels(
    p_ik: jax.Array,
    weak_probs: jax.Array,
    self_labels: jax.Array,
    embeddings: jax.Array,
    *,
    gamma: float,
    smooth: bool = True,
    example_mask: jax.Array | None = None,
    **graph,
) -> Selection:
    """`make_targets` with the prior labels and the neighbour weights beside the targets.

    Args:
        **graph: alpha, tau, normalize, include_self, center of `graph_smoothing.smooth_labels`.
    """
    mask = jnp.ones(p_ik.shape[0], bool) if example_mask is None else example_mask.astype(bool)
    ik_mask = (p_ik.astype(jnp.float32) > jnp.float32(gamma)) & mask
    prior = jnp.where(ik_mask[:, None], as_probs(self_labels), weak_probs.astype(jnp.float32))
    smoothed, weights = graph_smoothing.smooth_labels(embeddings, prior, example_mask=mask, **graph)
    targets = jnp.where(ik_mask[:, None], prior, smoothed) if smooth else prior
    return jax.tree.map(jax.lax.stop_gradient, Selection(targets, ik_mask, prior, weights))


def make_targets(
    p_ik: jax.Array,
    weak_probs: jax.Array,
    self_labels: jax.Array,
    embeddings: jax.Array,
    *,
    gamma: float,
    alpha: float,
    tau: float,
    normalize: bool = True,
    include_self: bool = True,
    smooth: bool = True,
    example_mask: jax.Array | None = None,
    center: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """The improved labels of one batch (Selective W2SG, Eq. 3).

    Rows with P(IK) above gamma (strictly, compared in float32) keep the strong model's own label; the others
    get their weak label, smoothed over the graph of the whole batch.

    Args:
        p_ik: `[B]` probability that the strong model knows the answer.
        weak_probs: `[B, 2]` soft labels of the weak model.
        self_labels: `[B]` hard labels (or probabilities of class 1), or `[B, 2]` probabilities, of the
            untouched strong model.
        embeddings: `[B, D]` last-token embeddings of the final layer.
        gamma: threshold on P(IK).
        alpha, tau, normalize, include_self, center: see `graph_smoothing.smooth_labels`.
        smooth: False leaves the weak labels as they are (the ablation "w/o GS").
        example_mask: `[B]` bool; masked rows (padding) change nothing and are never IK.

    Returns:
        targets `[B, 2]` float32 and ik_mask `[B]` bool, both without gradient.
    """
    selection = select_labels(
        p_ik,
        weak_probs,
        self_labels,
        embeddings,
        gamma=gamma,
        alpha=alpha,
        tau=tau,
        normalize=normalize,
        include_self=include_self,
        smooth=smooth,
        example_mask=example_mask,
        center=center,
    )
    return selection.targets, selection.ik_mask


@label_rules.register("selective")
def make_selective_rule(
    *,
    gamma: float,
    alpha: float,
    tau: float,
    normalize: bool,
    include_self: bool,
    center: bool,
    mask: str = "online",
    self_label: str = "given",
    smooth: bool = True,
) -> label_rules.LabelRule:
    """The paper's rule.

    Args:
        mask: "online" takes P(IK) from the head of the model in training, "given" from the batch.
        self_label: "given" takes the labels of the batch, "class_head" the student's own present class.
        gamma, alpha, tau, normalize, include_self, center, smooth: see `make_targets`.
    """

    def rule(inputs: label_rules.RuleInputs) -> label_rules.Labels:
        p_ik = inputs.p_ik if mask == "online" else inputs.given_p_ik
        selection = select_labels(
            p_ik,
            inputs.weak_probs,
            own_labels(inputs, self_label),
            inputs.embeddings,
            gamma=gamma,
            alpha=alpha,
            tau=tau,
            normalize=normalize,
            include_self=include_self,
            smooth=smooth,
            example_mask=inputs.example_mask,
            center=center,
        )
        count = jnp.maximum(jnp.sum(inputs.example_mask), 1)
        metrics = graph_smoothing.graph_diagnostics(selection.weights, inputs.example_mask)
        metrics["ik_rate"] = jnp.sum(selection.ik_mask) / count
        return label_rules.Labels(selection.targets, selection.prior, selection.ik_mask, p_ik, metrics)

    return rule
