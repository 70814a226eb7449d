"""Which label each example trains on (Selective W2SG, Eq. 3), and the label rules built from it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from selw2s_jax.method import graph_smoothing, label_rules

# (inputs, P(IK) [E]) -> IK mask [E] bool: the rows that keep the strong model's own label.
Selector = Callable[[label_rules.RuleInputs, jax.Array], jax.Array]
# (inputs, prior labels [E, 2], IK mask [E]) -> refined labels [E, 2], of which those beside the mask are taken,
# and scalars to log.
Refiner = Callable[[label_rules.RuleInputs, jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
SELECTORS = label_rules.Registry(
    "selector", reads=(), built_in=("selw2s_jax.method.posterior", "selw2s_jax.method.disagreement")
)
REFINERS = label_rules.Registry("refiner", reads=())


@SELECTORS.register("threshold")
def make_threshold(*, gamma: float) -> Selector:
    """P(IK) above gamma, strictly, compared in float32 (Eq. 3)."""
    return lambda inputs, p_ik: p_ik.astype(jnp.float32) > jnp.float32(gamma)


def reads_neighbours(*, over: str = "batch", **_: Any) -> tuple[str, ...]:
    """The column that smoothing over the whole set reads."""
    return ("neighbours",) if over == "set" else ()


@REFINERS.register("graph", reads=reads_neighbours)
def make_graph_refiner(
    *, alpha: float, tau: float, normalize: bool, include_self: bool, center: bool, over: str = "batch"
) -> Refiner:
    """Labels smoothed over the graph of the whole batch; see `graph_smoothing.smooth_labels`.

    Args:
        over: "set" takes the mean of a row's neighbours among all examples from the column `neighbours`, in which the
            other options are then.
    """
    if over == "set":
        return lambda inputs, prior, ik_mask: (
            alpha * prior + (1.0 - alpha) * inputs.columns["neighbours"].astype(jnp.float32),
            {},
        )

    def refine(inputs: label_rules.RuleInputs, prior: jax.Array, ik_mask: jax.Array):
        refined, weights = graph_smoothing.smooth_labels(
            inputs.embeddings,
            prior,
            alpha=alpha,
            tau=tau,
            normalize=normalize,
            include_self=include_self,
            center=center,
            example_mask=inputs.example_mask,
        )
        return refined, graph_smoothing.graph_diagnostics(weights, inputs.example_mask)

    return refine


@REFINERS.register("none")
def make_no_refiner() -> Refiner:
    """Labels as they are (the ablation "w/o GS")."""
    return lambda inputs, prior, ik_mask: (prior, {})


def as_probs(labels: jax.Array) -> jax.Array:
    """Labels as class probabilities `[B, 2]`, from hard labels or probabilities of class 1 `[B]`."""
    labels = labels.astype(jnp.float32)
    return labels if labels.ndim == 2 else jnp.stack([1.0 - labels, labels], axis=-1)


def own_labels(inputs: label_rules.RuleInputs, self_label: str) -> jax.Array:
    """The strong model's labels `[E]`: "given" with the batch, or the "class_head"'s present classes."""
    if self_label == "given":
        return inputs.self_labels
    return jnp.argmax(inputs.class_logits, axis=-1).astype(jnp.float32)


def reads_own_labels(*, self_label: str = "given", **_: Any) -> tuple[str, ...]:
    """The column that `own_labels` reads, if any."""
    return ("self_labels",) if self_label == "given" else ()


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
    size = p_ik.shape[0]
    rule = make_selective_rule(
        refiner="graph" if smooth else "none",
        mask="given",
        gamma=gamma,
        alpha=alpha,
        tau=tau,
        normalize=normalize,
        include_self=include_self,
        center=center,
    )
    labels = rule(
        label_rules.RuleInputs(
            class_logits=jnp.zeros((size, 2)),
            p_ik=p_ik,
            embeddings=embeddings,
            columns={"weak_probs": weak_probs, "self_labels": self_labels, "given_p_ik": p_ik},
            example_mask=jnp.ones(size, bool) if example_mask is None else example_mask.astype(bool),
            step_fraction=jnp.zeros(()),
        )
    )
    return labels.targets, labels.ik_mask


def _reads(
    *, selector: str = "threshold", refiner: str = "graph", mask: str = "online", **options: Any
) -> tuple[str, ...]:
    """The columns that the rule reads with these options, of its own and of its parts."""
    scores = () if mask == "online" else (_column_of(mask),)
    parts = (*SELECTORS.reads(selector, options), *REFINERS.reads(refiner, options))
    return ("weak_probs", *reads_own_labels(**options), *scores, *parts)


def _column_of(mask: str) -> str:
    return "given_p_ik" if mask == "given" else mask


@label_rules.register("selective", reads=_reads)
def make_selective_rule(
    *,
    selector: str = "threshold",
    refiner: str = "graph",
    mask: str = "online",
    self_label: str = "given",
    **options: Any,
) -> label_rules.LabelRule:
    """The paper's rule.

    Args:
        selector: name in `SELECTORS`, of what chooses the rows that keep the strong model's own label.
        refiner: name in `REFINERS`, of what becomes of the labels of the others.
        mask: "online" takes P(IK) from the head of the model in training, "given" from the batch; any other is the
            name of the column that has it.
        self_label: "given" takes the labels of the batch, "class_head" the student's own present class.
        **options: of the selector and the refiner; each takes those that its factory names.
    """
    select, refine = SELECTORS.make_from(selector, options), REFINERS.make_from(refiner, options)

    def rule(inputs: label_rules.RuleInputs) -> label_rules.Labels:
        p_ik = inputs.p_ik if mask == "online" else inputs.columns[_column_of(mask)]
        ik_mask = select(inputs, p_ik) & inputs.example_mask
        own = as_probs(own_labels(inputs, self_label))
        prior = jnp.where(ik_mask[:, None], own, inputs.weak_probs.astype(jnp.float32))
        refined, metrics = refine(inputs, prior, ik_mask)
        targets = jnp.where(ik_mask[:, None], prior, refined)
        count = jnp.maximum(jnp.sum(inputs.example_mask), 1)
        metrics = metrics | {"ik_rate": jnp.sum(ik_mask) / count}
        labels = label_rules.Labels(targets, prior, ik_mask, p_ik, metrics)
        return jax.tree.map(jax.lax.stop_gradient, labels)

    return rule
