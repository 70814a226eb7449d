"""Label rules that a gain of selection has to be read against: self labels everywhere, and no selection at all."""

from typing import Any

import jax.numpy as jnp

from selw2s_jax.method import label_rules, selection


@label_rules.register("self_labels", reads=selection.reads_own_labels)
def make_self_labels_rule(*, self_label: str = "given") -> label_rules.LabelRule:
    """The strong model's own label on every row (not in the paper: what selection has to beat).

    Args:
        self_label: "given" takes the labels of the batch, "class_head" the student's own present class.
    """

    def rule(inputs: label_rules.RuleInputs) -> label_rules.Labels:
        own = selection.as_probs(selection.own_labels(inputs, self_label))
        return label_rules.Labels(own, own, inputs.example_mask, inputs.p_ik, {})

    return rule


def _reads_smoothed(**options: Any) -> tuple[str, ...]:
    return ("weak_probs", *selection.reads_neighbours(**options))


@label_rules.register("smoothed", reads=_reads_smoothed)
def make_smoothed_rule(
    *, alpha: float, tau: float, normalize: bool, include_self: bool, center: bool, over: str = "batch"
) -> label_rules.LabelRule:
    """Weak labels smoothed on every row (the ablation "w/o IK" of Selective W2SG, Table 4).

    Args:
        alpha, tau, normalize, include_self, center: see `graph_smoothing.smooth_labels`.
        over: see `selection.make_graph_refiner`.
    """

    refine = selection.make_graph_refiner(
        alpha=alpha, tau=tau, normalize=normalize, include_self=include_self, center=center, over=over
    )

    def rule(inputs: label_rules.RuleInputs) -> label_rules.Labels:
        prior, nobody = inputs.weak_probs.astype(jnp.float32), jnp.zeros_like(inputs.example_mask)
        targets, metrics = refine(inputs, prior, nobody)
        return label_rules.Labels(targets, prior, nobody, inputs.p_ik, metrics)

    return rule
