"""Row weights by P(IK) of the strong model: which questions count for how much, and what their controls keep."""

import functools

import numpy as np
import pytest

from selw2s_jax.data import by_id
from selw2s_jax.method import completion_methods, row_weights

WEAK = [[0, 0, 1], [1, 1, 1], [None, 2, 0], [3, 3, 3], [2, 0, 2]]
OWN = [[0, 1, 1], [2, 3, 3], [1, 1, 1], [0, None, None], [3, 3, 2]]  # the fourth says nothing to variations
P_IK = np.float32([0.9, 0.3, 0.6, 0.2, 0.8])
PAIRS = {"finetune": [0, 1, 3, 4], "self_training": [0, 1, 2, 4]}  # by what is weighed, its rows


def make(p_ik=P_IK, order=range(5), own=OWN):
    ids = [f"task/{number}" for number in order]
    draw = functools.partial(by_id.keyed_uniform, 3)
    take = lambda values: None if values is None else [values[i] for i in order]  # noqa: E731
    return row_weights.RowInputs(
        ids, take(WEAK), draw, take(own), None if p_ik is None else np.asarray(p_ik)[list(order)]
    )


@pytest.mark.parametrize("of", PAIRS)
def test_rows_are_those_without_weights_and_weigh_as_much(of):
    rows = PAIRS[of]
    plain, weighed, shuffled = (
        row_weights.get(name)(make()) for name in (of, f"{of}_by_p_ik", f"{of}_by_shuffled_p_ik")
    )
    for found in (weighed, shuffled):
        row_weights.check_rows(found, [3] * 5)
        np.testing.assert_array_equal(found.weights > 0, plain.weights > 0)
        assert found.predictions == plain.predictions
        np.testing.assert_array_equal(found.is_own, plain.is_own)
        assert np.mean(found.weights[rows, 0]) == pytest.approx(1)
    expected = P_IK[rows].astype(np.float64) / np.mean(P_IK[rows].astype(np.float64))
    np.testing.assert_allclose(weighed.weights[rows, 0], expected)
    # The control has the same weights, and no question its own.
    np.testing.assert_array_equal(np.sort(shuffled.weights[rows, 0]), np.sort(weighed.weights[rows, 0]))
    assert (shuffled.weights[rows, 0] != weighed.weights[rows, 0]).all()


@pytest.mark.parametrize("name", [f"{of}_by_{what}" for of in PAIRS for what in ("p_ik", "shuffled_p_ik")])
def test_neither_order_nor_a_p_ik_of_0_changes_the_rows(name):
    order = [3, 0, 4, 2, 1]
    weigh = row_weights.get(name)
    np.testing.assert_array_equal(weigh(make()).weights[order], weigh(make(order=order)).weights)
    # A constant is no weight at all; where all are 0 there is none that is larger.
    for constant in (0.25, 0.0):
        assert set(weigh(make(np.full(5, constant))).weights.flat) == {0.0, 1.0}
    one = weigh(make(np.float32([0, 0, 0, 0, 1])))
    assert np.count_nonzero(np.float32(one.weights)) == 4
    with pytest.raises(ValueError, match="uses_p_ik=True"):
        weigh(make(None))
    assert completion_methods.METHODS[name].uses_p_ik and completion_methods.use_p_ik(("finetune", name))
    assert not completion_methods.use_p_ik(PAIRS)
