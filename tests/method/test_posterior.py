"""The posterior of weak and own label is its formula in float64; its parts and controls are what they say."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import random_arrays

from selw2s_jax.method import label_rules, registry
from selw2s_jax.method import posterior as posterior_lib

GRAPH = dict(alpha=0.9, tau=0.1, normalize=True, include_self=True, center=False)
EXTREMES = (0.0, 1e-30, 0.02, 0.021, 0.5, 0.979, 0.98, 1.0)
WEAK = (-1e30, -88.0, -3.9, -0.3, 0.0, 0.3, 3.8, 40.0, 1e30)


def posterior(weak_log_odds: float, own: float, reliability: float) -> float:
    """The definition, row by row, in Python's own numbers."""
    p = min(max(reliability, 0.02), 0.98)
    log_odds = weak_log_odds + (1 if own > 0.5 else -1) * math.log(p / (1 - p))
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0


def inputs_of(weak_log_odds, own, reliability, **columns) -> label_rules.RuleInputs:
    num = len(own)
    inputs = random_arrays.rule_inputs(3, num)._replace(example_mask=jnp.ones(num, bool))
    named = {"weak_log_odds": weak_log_odds, "self_labels": own, "reliability": reliability} | columns
    return inputs.with_columns(**{name: jnp.asarray(value, jnp.float32) for name, value in named.items()})


def labels_of(name: str, inputs: label_rules.RuleInputs, **options) -> label_rules.Labels:
    method = registry.METHODS[name]
    return jax.jit(label_rules.get(method.label_rule, **options | dict(method.rule_options)))(inputs)


def test_targets_are_the_formula_at_every_extreme():
    rows = [(w, s, p) for w in WEAK for s in (0.0, 0.2, 0.7, 1.0) for p in EXTREMES]
    labels = labels_of("posterior", inputs_of(*np.transpose(rows)))
    expected = np.array([posterior(*row) for row in rows])
    np.testing.assert_allclose(labels.targets[:, 1], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(labels.targets[:, 0], 1 - expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(labels.targets, labels.prior)
    # Where it decides, the class is that of the own label, whatever the weak one says.
    own = np.array([s > 0.5 for _, s, _ in rows])
    decided = np.asarray(labels.ik_mask)
    np.testing.assert_array_equal((expected > 0.5)[decided], own[decided])
    assert 0 < decided.sum() < len(rows) and float(labels.metrics["ik_rate"]) == pytest.approx(decided.mean())


@pytest.mark.parametrize("p_ik", [0.0, 1e-9, 0.3, 0.5, 0.9, 0.9999999, 1.0])
def test_online_weighs_the_present_head_by_what_was_fitted(p_ik):
    weak, own, fitted = np.array([-2.0, 0.5, 3.0]), np.array([1.0, 0.0, 0.0]), (-0.7, 0.4)
    inputs = inputs_of(weak, own, np.full(3, np.nan), p_ik_calibration=np.tile(fitted, (3, 1)))
    labels = labels_of("posterior_online", inputs._replace(p_ik=jnp.full(3, p_ik, jnp.float32)))
    k = np.log(np.clip(p_ik, 1e-6, 1 - 1e-6)) - np.log1p(-np.clip(p_ik, 1e-6, 1 - 1e-6))
    reliability = 1 / (1 + np.exp(-(fitted[0] + fitted[1] * k)))
    expected = [posterior(w, s, reliability) for w, s in zip(weak, own, strict=True)]
    np.testing.assert_allclose(labels.targets[:, 1], expected, rtol=1e-4)
    np.testing.assert_allclose(labels.p_ik, reliability, rtol=1e-4)


@pytest.mark.parametrize("column", ["shuffled_reliability", "constant_reliability"])
def test_controls_differ_in_the_reliability_alone(column):
    inputs = random_arrays.rule_inputs(5, 17)
    control = labels_of(f"posterior_{column.partition('_')[0]}", inputs)
    same = labels_of("posterior", inputs.with_columns(reliability=inputs.columns[column]))
    np.testing.assert_array_equal(control.targets, same.targets)
    assert not np.array_equal(control.targets, labels_of("posterior", inputs).targets)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 33])
def test_rows_of_a_batch_exchange_their_values(num_rows):
    """Each value goes to one other row, wherever rows stand and whatever masked ones hold."""
    rng = np.random.default_rng(num_rows)
    values, order = rng.random(num_rows), rng.random(num_rows)
    mask = np.arange(num_rows + 4) < num_rows
    padded = [np.append(one, [np.nan, 0.5, np.inf, -1.0]).astype(np.float32) for one in (values, order)]
    exchanged = jax.jit(posterior_lib.exchanged)
    found = np.asarray(exchanged(*padded, mask))
    np.testing.assert_array_equal(np.sort(found[:num_rows]), np.sort(np.float32(values)))
    assert num_rows == 1 or not np.any(found[:num_rows] == padded[0][:num_rows])
    np.testing.assert_array_equal(found[num_rows:], padded[0][num_rows:])
    moved = rng.permutation(num_rows + 4)
    again = exchanged(*(one[moved] for one in (*padded, mask)))
    np.testing.assert_array_equal(again, found[moved])


def test_the_control_of_online_has_the_p_ik_of_other_rows_alone():
    inputs = random_arrays.rule_inputs(6, 19)
    control = labels_of("posterior_online_shuffled", inputs)
    given = posterior_lib.exchanged(inputs.p_ik, inputs.columns["shuffled_order"], inputs.example_mask)
    same = labels_of("posterior_online", inputs._replace(p_ik=given))
    for field in ("targets", "prior", "ik_mask", "p_ik"):
        np.testing.assert_array_equal(getattr(control, field), getattr(same, field), err_msg=field)
    assert not np.array_equal(control.targets, labels_of("posterior_online", inputs).targets)


def test_the_switch_by_confidence_takes_the_label_that_decides_the_posterior():
    inputs = random_arrays.rule_inputs(6, 401)
    switch, weighed = labels_of("selective_by_confidence", inputs), labels_of("posterior", inputs)
    np.testing.assert_array_equal(switch.ik_mask, weighed.ik_mask)
    taken = np.asarray(switch.ik_mask)
    assert 0.1 < taken.mean() < 0.9
    np.testing.assert_array_equal(switch.targets[taken, 1], inputs.self_labels[taken])
    np.testing.assert_array_equal(switch.targets[~taken], inputs.weak_probs[~taken])
    reliability = np.clip(np.asarray(inputs.columns["reliability"], np.float64), 0.02, 0.98)
    confidence = 1 / (1 + np.exp(-np.abs(np.asarray(inputs.columns["weak_log_odds"], np.float64))))
    expected = (reliability > confidence) & np.asarray(inputs.example_mask)
    np.testing.assert_array_equal(taken, expected)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("selective_frozen", "frozen_p_ik"),
        ("random_selection_frozen", "shuffled_p_ik"),
        ("random_selection_by_confidence", "shuffled_choice_by_confidence"),
    ],
)
def test_selection_by_a_column_is_selective_with_given_scores(name, column):
    inputs = random_arrays.rule_inputs(7, 31)
    found = labels_of(name, inputs, gamma=0.5, **GRAPH)
    options = {"refiner": registry.METHODS[name].rule_options.get("refiner", "graph")}
    given = inputs.with_columns(given_p_ik=inputs.columns[column])
    expected = jax.jit(label_rules.get("selective", mask="given", gamma=0.5, **GRAPH, **options))(given)
    for field in ("targets", "prior", "ik_mask", "p_ik"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)


def test_where_p_ik_comes_from_is_one_of_three():
    with pytest.raises(ValueError, match="p_ik_from='first' of a method is not one of: config, frozen"):
        registry.Method(p_ik_from="first")
    with pytest.raises(ValueError, match="p_ik_from='frozen' of a method without P"):
        registry.Method(p_ik_from="frozen")
