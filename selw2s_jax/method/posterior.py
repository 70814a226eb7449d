"""The posterior label: what weak and own label say together, each by how far it can be trusted.

Two witnesses of a class that are independent given it. The weak model's log-odds w count b w, the strong model's own
label counts the log-odds of its being right:

    target = sigmoid(b w + g logit(p)),    p = clip(sigmoid(c_0 + c_1 logit(P(IK))), 0.02, 0.98),    g = +1 or -1

g is the class of the own label. No prior of the classes is added: b w has that of the weak model's half in it, and p
is that of an answer's being right whichever class it is. The numbers b, c_0 and c_1 are fitted before (`calibration`);
rules find them in the columns that their examples carry.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy import special

from selw2s_jax.method import calibration, label_rules, selection


def own_log_odds(reliability: jax.Array) -> jax.Array:
    """Log-odds that own labels are right `[E]`, of their reliability as it is clipped, float32."""
    clipped = jnp.clip(reliability.astype(jnp.float32), calibration.LEAST, calibration.MOST)
    return jnp.log(clipped) - jnp.log1p(-clipped)


def decides(weak_log_odds: jax.Array, reliability: jax.Array) -> jax.Array:
    """Whether the own label outweighs the weak one, `[E]` bool: its reliability exceeds the weak label's confidence.

    Args:
        weak_log_odds: `[E]` of class 1, calibrated.
        reliability: `[E]` of the own labels.
    """
    return own_log_odds(reliability) > jnp.abs(weak_log_odds.astype(jnp.float32))


def combine(
    weak_log_odds: jax.Array, own_labels: jax.Array, reliability: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The posterior of both labels.

    Args:
        weak_log_odds: `[E]` of class 1, calibrated.
        own_labels: `[E]` probabilities of class 1, of which the class alone counts.
        reliability: `[E]` probabilities that own labels are right.

    Returns:
        Targets `[E, 2]` float32, and `decides`.
    """
    own = own_log_odds(reliability)
    log_odds = weak_log_odds.astype(jnp.float32) + jnp.where(own_labels > 0.5, own, -own)
    targets = jax.nn.sigmoid(jnp.stack([-log_odds, log_odds], axis=-1))
    return targets, decides(weak_log_odds, reliability)


def _rule(self_label: str, reliability_of, refine: selection.Refiner) -> label_rules.LabelRule:
    """The rule with the reliability that a function gives for its inputs, and labels that another refines."""

    def rule(inputs: label_rules.RuleInputs) -> label_rules.Labels:
        own = selection.as_probs(selection.own_labels(inputs, self_label))[:, 1]
        reliability = reliability_of(inputs)
        prior, decided = combine(inputs.columns["weak_log_odds"], own, reliability)
        decided &= inputs.example_mask
        targets, metrics = refine(inputs, prior, decided)
        count = jnp.maximum(jnp.sum(inputs.example_mask), 1)
        metrics = metrics | {"ik_rate": jnp.sum(decided) / count}
        labels = label_rules.Labels(targets, prior, decided, reliability, metrics)
        return jax.tree.map(jax.lax.stop_gradient, labels)

    return rule


def _reads(
    *, reliability: str = "reliability", refiner_of_set: str = "none", **options: Any
) -> tuple[str, ...]:
    refined = selection.REFINERS.reads(refiner_of_set, options)
    return ("weak_log_odds", *selection.reads_own_labels(**options), reliability, *refined)


@label_rules.register("posterior", reads=_reads)
def make_posterior_rule(
    *,
    reliability: str = "reliability",
    self_label: str = "given",
    refiner_of_set: str = "none",
    **options: Any,
) -> label_rules.LabelRule:
    """The posterior of the weak label and the own label, on every row.

    Args:
        reliability: the column that says how probable it is that own labels are right.
        self_label: "given" takes the labels of the batch, "class_head" the student's own present class.
        refiner_of_set: name in `selection.REFINERS`, of what becomes of the posterior where labels are smoothed over
            the whole set.
        **options: of the refiner; it takes those that its factory names.
    """
    refine = selection.REFINERS.make_from(refiner_of_set, options)
    return _rule(self_label, lambda inputs: inputs.columns[reliability], refine)


def exchanged(values: jax.Array, order: jax.Array, example_mask: jax.Array) -> jax.Array:
    """Values of the rows of a batch, each given to another row: to the one that comes before it in an order.

    The first one's goes to the last. Where rows stand in the batch, which the layout of the devices decides, and what
    masked rows hold changes nothing.

    Args:
        values: `[E]`.
        order: `[E]` numbers by which rows are put in order, no two the same.
        example_mask: `[E]` bool; masked rows keep theirs.
    """
    rows = jnp.argsort(jnp.where(example_mask, order, jnp.inf))
    places = jnp.arange(len(rows))
    following = jnp.where(places + 1 < jnp.sum(example_mask), places + 1, 0)
    return jnp.where(example_mask, values.at[rows].set(values[rows[following]]), values)


def _reads_online(*, is_shuffled: bool = False, **options: Any) -> tuple[str, ...]:
    order = ("shuffled_order",) if is_shuffled else ()
    return ("weak_log_odds", *selection.reads_own_labels(**options), "p_ik_calibration", *order)


@label_rules.register("posterior_online", reads=_reads_online)
def make_posterior_online_rule(
    *, self_label: str = "given", is_shuffled: bool = False
) -> label_rules.LabelRule:
    """The same with P(IK) from the head of the model in training, weighed by numbers that were fitted before.

    Args:
        self_label: as for `make_posterior_rule`.
        is_shuffled: whether each row has the P(IK) of another of its batch, as `exchanged` by the column
            `shuffled_order`.
    """

    def reliability_of(inputs: label_rules.RuleInputs) -> jax.Array:
        intercept, slope = jnp.moveaxis(inputs.columns["p_ik_calibration"].astype(jnp.float32), -1, 0)
        p_ik = inputs.p_ik.astype(jnp.float32)
        if is_shuffled:
            p_ik = exchanged(p_ik, inputs.columns["shuffled_order"], inputs.example_mask)
        p_ik = jnp.clip(p_ik, calibration.MARGIN, 1 - calibration.MARGIN)
        return jax.nn.sigmoid(intercept + slope * (jnp.log(p_ik) - jnp.log1p(-p_ik)))

    return _rule(self_label, reliability_of, selection.make_no_refiner())


def online_p_ik(reliability: npt.ArrayLike, fitted: npt.ArrayLike) -> np.ndarray:
    """P(IK) `[E]` of which `make_posterior_online_rule` made a reliability: what it does, undone, in float64.

    A reliability that float32 rounded to 0 or 1, and any where the slope is 0, say nothing more of P(IK); what is
    given there has that reliability again, as far as the rule tells.

    Args:
        reliability: `[E]`.
        fitted: `[E, 2]` intercept and slope.
    """
    intercept, slope = np.moveaxis(np.asarray(fitted, np.float64), -1, 0)
    log_odds = special.logit(np.asarray(reliability, np.float64)) - intercept
    return special.expit(np.divide(log_odds, slope, out=np.zeros_like(log_odds), where=slope != 0))


@selection.SELECTORS.register("by_confidence", reads=("weak_log_odds",))
def make_by_confidence() -> selection.Selector:
    """Where the score, as the own label's reliability, exceeds the calibrated confidence of the weak label."""
    return lambda inputs, p_ik: decides(inputs.columns["weak_log_odds"], p_ik)
