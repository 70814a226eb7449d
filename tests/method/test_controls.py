"""Ablations and controls are the paper's rule with one thing taken away."""

import jax.numpy as jnp
import numpy as np
import pytest

from selw2s_jax.method import label_rules, registry
from selw2s_jax.stages import examples

GRAPH = dict(alpha=0.7, tau=0.3, normalize=True, include_self=True, center=False)
N = 13


def rule_inputs(p_ik) -> label_rules.RuleInputs:
    rng = np.random.default_rng(5)
    weak = rng.random(N).astype(np.float32)
    return label_rules.RuleInputs(
        class_logits=jnp.asarray(rng.normal(size=(N, 2)), jnp.float32),
        p_ik=jnp.full(N, p_ik, jnp.float32),
        embeddings=jnp.asarray(rng.normal(size=(N, 7)), jnp.float32),
        columns={
            "weak_probs": jnp.stack([1 - weak, weak], -1),
            "self_labels": jnp.asarray(rng.random(N) < 0.5, jnp.float32),
            "given_p_ik": jnp.asarray(rng.random(N) < 0.4, jnp.float32),
        },
        example_mask=jnp.arange(N) < N - 2,
        step_fraction=jnp.float32(0.3),
    )


def labels_of(name: str, inputs, **options):
    method = registry.METHODS[name]
    return label_rules.get(method.label_rule, **(options | dict(method.rule_options)))(inputs)


def assert_same(first, second, fields):
    for field in fields:
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field), err_msg=field)


def test_without_ik_is_selective_where_nothing_is_known():
    inputs = rule_inputs(p_ik=0.1)
    selective = labels_of("selective", inputs, gamma=0.8, **GRAPH)
    ablation = labels_of("selective_without_ik", inputs, **GRAPH)
    assert_same(selective, ablation, ("targets", "prior", "ik_mask"))
    assert not np.array_equal(ablation.targets, ablation.prior)


def test_self_training_is_selective_where_everything_is_known():
    inputs = rule_inputs(p_ik=0.9)
    real = np.asarray(inputs.example_mask)
    selective = labels_of("selective", inputs, gamma=0.8, **GRAPH)
    control = labels_of("self_training", inputs)
    np.testing.assert_array_equal(control.targets[real], selective.targets[real])
    np.testing.assert_array_equal(control.ik_mask, inputs.example_mask)
    own = labels_of("self_training", inputs, self_label="class_head")
    np.testing.assert_array_equal(own.targets[:, 1], np.argmax(inputs.class_logits, -1))


def test_without_gs_trains_on_the_prior():
    inputs = rule_inputs(p_ik=0.1)
    ablation = labels_of("selective_without_gs", inputs, gamma=0.8, **GRAPH)
    np.testing.assert_array_equal(ablation.targets, inputs.weak_probs)


@pytest.mark.parametrize("gamma", [0.0, 0.8, 1.0])
def test_random_selection_takes_the_given_mask_whatever_gamma_is(gamma):
    inputs = rule_inputs(p_ik=0.9)
    control = labels_of("random_selection", inputs, gamma=gamma, **GRAPH)
    np.testing.assert_array_equal(control.ik_mask, (inputs.given_p_ik > 0) & inputs.example_mask)


def test_mtl_trains_p_ik_and_ignores_it():
    inputs = rule_inputs(p_ik=0.9)
    labels = labels_of("mtl", inputs)
    np.testing.assert_array_equal(labels.targets, inputs.weak_probs)
    assert registry.METHODS["mtl"].uses_p_ik


def test_label_noise_turns_rows_by_their_ids_alone():
    rng = np.random.default_rng(7)
    prob = rng.random(1009).astype(np.float32)
    probs, ids = np.stack([1 - prob, prob], -1), [f"q{number}" for number in range(1009)]
    few, many = (examples.turn_labels(probs, ids, share, seed=3) for share in (0.1, 0.3))
    turned = [np.any(labels != probs, axis=1) for labels in (few, many)]
    np.testing.assert_array_equal(few[turned[0]], probs[turned[0], ::-1])
    assert not np.any(turned[0] & ~turned[1])
    assert abs(turned[1].mean() - 0.3) < 0.05
    order = rng.permutation(1009)[:501]
    again = examples.turn_labels(probs[order], [ids[i] for i in order], 0.3, seed=3)
    np.testing.assert_array_equal(again, many[order])
    np.testing.assert_array_equal(examples.turn_labels(probs, ids, 0.0, seed=3), probs)
    np.testing.assert_array_equal(examples.turn_labels(probs, ids, 1.0, seed=3), probs[:, ::-1])
