"""Labels of several weak models: as one label, and where they disagree."""

import jax.numpy as jnp
import numpy as np
import pytest
from support import random_arrays

from selw2s_jax.method import combinations, disagreement, reliability, selection

EACH = np.float32(
    [[[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], [[0.7, 0.3], [0.6, 0.4], [0.5, 0.5]]]
)  # [N=2, K=3, 2]


@pytest.mark.parametrize(("name", "expected"), [("mean", [0.5, 0.4]), ("votes", [2 / 3, 0.0])])
def test_labels_by_hand(name, expected):
    labels = combinations.combine(name, EACH)
    assert labels.dtype == np.float32
    np.testing.assert_allclose(labels, np.stack([1 - np.array(expected), expected], axis=-1), atol=1e-6)


@pytest.mark.usefixtures("registrations")
@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda probs: probs, r"returns shape \(2, 3, 2\)"),
        (lambda probs: probs[:, 0] * 2, "of row 0: return two probabilities"),
        (lambda probs: probs[:, 0] * np.nan, "of row 0"),
        (lambda probs: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_is_no_combination_is_told(made, words):
    combinations.register("mine")(lambda: made)
    with pytest.raises(ValueError, match=words):
        combinations.combine("mine", EACH)


def test_disagreement_by_hand():
    np.testing.assert_allclose(disagreement.disagreement(jnp.array(EACH), "votes"), [1 / 3, 0], atol=1e-6)
    variance = np.var(EACH[..., 1], axis=1)
    np.testing.assert_allclose(disagreement.disagreement(jnp.array(EACH), "variance"), variance, atol=1e-7)


def test_agreement_with_what_is_taught():
    """S_prob of its class among the votes, as it is of an answer among the answers to several prompts."""
    prob_1 = np.float32(
        [[0.9, 0.8, 0.7, 0.6, 0.51], [0.9, 0.8, 0.7, 0.6, 0.1], [0.9, 0.9, 0.6, 0.0, 0.5], [0.1] * 5]
    )
    each = np.stack([1 - prob_1, prob_1], axis=-1)
    ones = np.tile(np.float32([0.3, 0.7]), (4, 1))
    found = disagreement.agreement(each, ones, 0.2)
    assert found.dtype == np.float32
    # 5, 4 1 and 3 2 as in the table of docs/reliability.md; a half is a vote for 0, and so is the fourth row.
    np.testing.assert_allclose(found, [1, 0.953, 0.731, 0], atol=5e-4)
    others = disagreement.agreement(each, ones[:, ::-1], 0.2)
    np.testing.assert_allclose(found[1:3] + others[1:3], 1, rtol=1e-6)
    assert others[0] == 0 and others[3] == 1
    given = reliability.assess([[1, 1, 1, 1, 0]], temperature=0.7).scores[0]
    np.testing.assert_array_equal(
        disagreement.agreement(each[1:2], ones[1:2], 0.7), given[:1].astype(np.float32)
    )


def test_own_labels_are_taken_where_models_disagree():
    inputs = random_arrays.rule_inputs(3, 11)
    each = np.asarray(inputs.columns["weak_each"])
    rule = selection.make_selective_rule(selector="by_disagreement", refiner="none")
    labels = rule(inputs)
    classes = each[..., 1] > 0.5
    expected = (classes != classes[:, :1]).any(axis=1) & np.asarray(inputs.example_mask)
    assert 0 < expected.sum() < len(expected)
    np.testing.assert_array_equal(labels.ik_mask, expected)
    own = selection.as_probs(inputs.self_labels)
    np.testing.assert_array_equal(labels.targets, np.where(expected[:, None], own, inputs.weak_probs))
    none = selection.make_selective_rule(selector="by_disagreement", refiner="none", disagreement_above=0.5)
    assert not none(inputs).ik_mask.any()
