"""Label rules: functions that choose the targets of a batch, by name.

A rule sees the whole global batch and the model's present outputs on it, all without gradient, and never
ground truth: supervised training (weak model, ceiling) gives the ground truth as `weak_probs` of its own
batches.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from selw2s_jax.method import factories


class RuleInputs(NamedTuple):
    """What a label rule may use; leading axis E, all examples of the global batch."""

    class_logits: jax.Array  # [E, 2]
    p_ik: jax.Array  # [E] from the P(IK) head; 0.5 where the model has none
    embeddings: jax.Array  # [E, D]
    weak_probs: jax.Array  # [E, 2]
    self_labels: jax.Array  # [E] probability of class 1
    given_p_ik: jax.Array  # [E] scores of an earlier model or a file
    example_mask: jax.Array  # [E] bool: task examples that count
    step_fraction: jax.Array  # []


class Labels(NamedTuple):
    """What a label rule returns; leading axis E."""

    targets: jax.Array  # [E, 2]
    prior: jax.Array  # [E, 2] before any smoothing
    ik_mask: jax.Array  # [E] bool
    p_ik: jax.Array  # [E] the scores that made the mask
    metrics: dict[str, jax.Array]  # scalars to log


LabelRule = Callable[[RuleInputs], Labels]
LABEL_RULES = factories.Registry(
    "label rule",
    sections=factories.RULE_SECTIONS,
    built_in=("selw2s_jax.method.selection", "selw2s_jax.method.controls"),
)
register = LABEL_RULES.register


def get(name: str, **options) -> LabelRule:
    """The label rule registered as `name`, with its options bound.

    Raises:
        KeyError: no label rule of that name.
    """
    return LABEL_RULES.make(name, **options)


@register("given")
def make_given_rule() -> LabelRule:
    """The labels of the batch as they are."""

    def rule(inputs: RuleInputs) -> Labels:
        weak_probs = inputs.weak_probs.astype(jnp.float32)
        return Labels(weak_probs, weak_probs, jnp.zeros_like(inputs.example_mask), inputs.p_ik, {})

    return rule
