"""How far several weak models disagree: where they do, own labels are taken, or rows count for less."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from selw2s_jax.method import label_rules, reliability, selection

MEASURES = ("votes", "variance")


def disagreement(weak_each: jax.Array, by: str) -> jax.Array:
    """How far the labels of K models disagree `[E]` float32, 0 where all are alike.

    Args:
        weak_each: `[E, K, 2]`.
        by: of `MEASURES`: "votes", the share of the models (class 1 above a half) that are outvoted, up to 1/2; or
            "variance", of their probabilities of class 1, up to 1/4.
    """
    probs = weak_each[..., 1].astype(jnp.float32)
    if by == "variance":
        return jnp.var(probs, axis=-1)
    for_one = jnp.mean((probs > 0.5).astype(jnp.float32), axis=-1)
    return jnp.minimum(for_one, 1 - for_one)


def agreement(weak_each: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    """S_prob of labels among the votes of K models `[N]` float32, as Eq. 4 of arXiv 2406.19032 has it of answers.

    A model votes for class 1 above a half. 1 where all vote for the class of the label, 0 where none does.

    Args:
        weak_each: `[N, K, 2]`, of each model.
        labels: `[N, 2]`, that are taught.
        temperature: T of `reliability.scores`.
    """
    num_models = weak_each.shape[1]
    votes = np.sum((weak_each[..., 1] > 0.5) == (labels[:, 1:] > 0.5), axis=1)
    divided = [reliability.scores([num, num_models - num], temperature)[0] for num in range(1, num_models)]
    return np.array([0.0, *divided, 1.0], np.float32)[votes]


def _reads(*, each: str = "weak_each", **_: Any) -> tuple[str, ...]:
    return (each,)


@selection.SELECTORS.register("by_disagreement", reads=_reads)
def make_by_disagreement(
    *, disagreement_by: str = "votes", disagreement_above: float = 0.0, each: str = "weak_each"
) -> selection.Selector:
    """Own labels where the weak models disagree by more than a number, strictly; P(IK) is not looked at.

    Args:
        disagreement_by: as `by` of `disagreement`.
        disagreement_above: that number; 0 of votes is wherever they are not unanimous.
        each: the column that has the labels of each model.
    """

    def select(inputs: label_rules.RuleInputs, p_ik: jax.Array) -> jax.Array:
        return disagreement(inputs.columns[each], disagreement_by) > jnp.float32(disagreement_above)

    return select
