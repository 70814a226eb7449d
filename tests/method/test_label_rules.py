"""What holds for every label rule that a method uses: probabilities, no gradient, no say of masked rows."""

import functools
import inspect

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import random_arrays

from selw2s_jax.method import label_rules, registry, selection

PROPERTY = hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)
RULE_OPTIONS = {
    "gamma": 0.5,
    "alpha": 0.6,
    "tau": 0.3,
    "normalize": True,
    "include_self": True,
    "center": False,
}
LABEL_RULES = sorted({method.label_rule for method in registry.METHODS.values()})


def label(name: str, inputs: label_rules.RuleInputs) -> label_rules.Labels:
    taken = set(inspect.signature(label_rules.LABEL_RULES[name]).parameters)
    if "selector" in taken:
        taken |= selection.SELECTORS.option_names("threshold") | selection.REFINERS.option_names("graph")
    options = {option: value for option, value in RULE_OPTIONS.items() if option in taken}
    rule = label_rules.with_state(label_rules.get(name, **options))
    first = rule.init({column: values.shape[1:] for column, values in inputs.columns.items()})
    return rule.label(inputs, first)[0]


labels_of = jax.jit(label, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def gradients_of(name: str, inputs: label_rules.RuleInputs):
    def total(class_logits, p_ik, embeddings):
        changed = inputs._replace(class_logits=class_logits, p_ik=p_ik, embeddings=embeddings)
        return jnp.sum(label(name, changed).targets[:, 1])

    return jax.grad(total, argnums=(0, 1, 2))(inputs.class_logits, inputs.p_ik, inputs.embeddings)


@pytest.mark.parametrize("name", LABEL_RULES)
@PROPERTY
@hypothesis.given(seed=SEEDS)
def test_rules_give_probabilities_and_no_gradient(name, seed):
    inputs = random_arrays.rule_inputs(seed, 11)
    labels = labels_of(name, inputs)
    for probs in (labels.targets, labels.prior):
        assert probs.dtype == jnp.float32 and float(probs.min()) >= 0
        np.testing.assert_allclose(np.asarray(probs).sum(-1), 1.0, atol=1e-6)
    for grads in gradients_of(name, inputs):
        np.testing.assert_array_equal(grads, 0.0)


@pytest.mark.parametrize("name", LABEL_RULES)
@PROPERTY
@hypothesis.given(seed=SEEDS)
def test_rules_are_permutation_equivariant(name, seed):
    inputs = random_arrays.rule_inputs(seed, 11)
    order = np.random.default_rng([seed, 3]).permutation(11)
    permuted = jax.tree.map(lambda value: value[order] if value.ndim > 0 else value, inputs)
    expected, found = labels_of(name, inputs), labels_of(name, permuted)
    np.testing.assert_allclose(found.targets, np.asarray(expected.targets)[order], atol=2e-6)
    np.testing.assert_array_equal(found.ik_mask, np.asarray(expected.ik_mask)[order])


@pytest.mark.parametrize("name", LABEL_RULES)
@PROPERTY
@hypothesis.given(seed=SEEDS)
def test_masked_rows_change_no_label(name, seed):
    inputs = random_arrays.rule_inputs(seed, 11)
    mask = np.asarray(inputs.example_mask)
    dirty = jax.tree.map(
        lambda value: jnp.asarray(random_arrays.with_garbage(np.asarray(value), mask)),
        inputs._replace(example_mask=None, step_fraction=None),
    )._replace(example_mask=inputs.example_mask, step_fraction=inputs.step_fraction)
    expected, found = labels_of(name, inputs), labels_of(name, dirty)
    for field in ("targets", "prior", "ik_mask"):
        np.testing.assert_array_equal(
            np.asarray(getattr(found, field))[mask], np.asarray(getattr(expected, field))[mask]
        )
    assert found.metrics == expected.metrics
