"""Gaps that embeddings predict: the design's numbers, ridge heads fitted one by one, and what changes nothing."""

import numpy as np
import pytest

from selw2s_jax.analysis import kernels, ranks

NUMBERS = ("gap", "operator_norm", "effective_dimension_weak", "effective_dimension_strong")


def make(seed=0, num_rows=23, weak=4, strong=37):
    """Embeddings with a common direction, more columns than rows on one side, and labels."""
    rng = np.random.default_rng(seed)
    sides = [rng.normal(size=(num_rows, dim)) * rng.uniform(0.1, 3, dim) + 2 for dim in (weak, strong)]
    return (*sides, rng.integers(0, 2, num_rows).astype(float))


def fit(embeddings, labels, *, regularization, bias):
    """What a ridge head says of the rows that it is fitted to, its weights by the normal equations."""
    num_rows, dim = embeddings.shape
    mean, level = (embeddings.mean(0), labels.mean()) if bias else (0, 0)
    rows = embeddings - mean
    beta = regularization * np.sum(rows**2) / num_rows / num_rows
    weights = np.linalg.solve(
        rows.T @ rows / num_rows + beta * np.eye(dim), rows.T @ (labels - level) / num_rows
    )
    return rows @ weights + level


def assert_same(found, expected, tolerance=1e-10):
    for name in (*NUMBERS, "per_example"):
        np.testing.assert_allclose(found[name], expected[name], atol=tolerance, rtol=0, err_msg=name)


def test_two_rows_by_hand():
    found = kernels.predicted_gap([[0], [0]], [[1], [-1]], [1, 0])
    assert found["gap"] == pytest.approx((0.5 / 1.05) ** 2) == pytest.approx(0.226757, abs=5e-7)
    assert found["operator_norm"] == pytest.approx(1 / 1.05)
    assert found["effective_dimension_weak"] == 0
    assert found["effective_dimension_strong"] == pytest.approx(1 / 1.05)
    np.testing.assert_allclose(found["per_example"], [found["gap"]] * 2)
    # What the weak model sees too is no gap but for its ridge, and what the strong one does not see is none.
    same = kernels.predicted_gap([[3], [-3]], [[1], [-1]], [1, 0])
    assert same["gap"] == pytest.approx((0.5 / 1.05 * (1 - 1 / 1.05)) ** 2)
    assert kernels.predicted_gap([[1], [-1]], [[0], [0]], [1, 0])["gap"] == 0


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("regularization", [1e-3, 0.1, 5.0])
def test_ridge_heads_differ_by_exactly_the_gap(center, regularization):
    weak, strong, truth = make()
    options = {"regularization": regularization, "bias": center}
    taught = fit(strong, fit(weak, truth, **options), **options)
    ceiling = fit(strong, truth, **options)
    found = kernels.predicted_gap(weak, strong, truth, regularization=regularization, center=center)
    np.testing.assert_allclose(found["per_example"], (ceiling - taught) ** 2, atol=1e-12)
    assert found["gap"] == pytest.approx(np.mean((ceiling - taught) ** 2), rel=1e-9)


@pytest.mark.parametrize("center", [True, False])
def test_norm_and_dimensions_are_those_of_the_matrices(center):
    weak, strong, truth = make(1)
    options = {"regularization": 0.1, "bias": center}
    columns = np.eye(len(truth))
    projections = [np.stack([fit(side, one, **options) for one in columns]).T for side in (weak, strong)]
    level = np.ones_like(columns) / len(columns) if center else 0
    of_weak, of_strong = (of_side - level for of_side in projections)
    found = kernels.predicted_gap(weak, strong, truth, center=center)
    assert found["effective_dimension_weak"] == pytest.approx(np.trace(of_weak))
    assert found["effective_dimension_strong"] == pytest.approx(np.trace(of_strong))
    norm = np.linalg.norm(of_strong @ (columns - of_weak), 2)
    assert found["operator_norm"] == pytest.approx(norm) and norm <= 1
    labels = truth - truth.mean() if center else truth
    assert found["gap"] <= norm**2 * np.mean(labels**2) + 1e-12


def test_scale_rotation_and_shift_change_nothing():
    weak, strong, truth = make(2)
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(37, 37)))
    expected = kernels.predicted_gap(weak, strong, truth)
    for scale in (1e-200, 1e-3, 1e200):  # whose squares are no numbers
        assert_same(kernels.predicted_gap(scale * weak, strong @ rotation * scale, truth), expected)
    assert_same(kernels.predicted_gap(weak + 7, strong - 3, truth + 1), expected)
    padded = np.hstack([weak, np.full((len(weak), 2), 0.1)])  # constant columns are no direction
    assert_same(kernels.predicted_gap(padded, strong, truth), expected)


def test_order_of_rows_is_that_of_the_result():
    weak, strong, truth = make(4)
    order = np.random.default_rng(5).permutation(len(truth))
    found = kernels.predicted_gap(weak[order], strong[order], truth[order])
    expected = kernels.predicted_gap(weak, strong, truth)
    assert_same(found, expected | {"per_example": expected["per_example"][order]})


def test_embeddings_that_say_nothing_are_no_direction():
    _, strong, truth = make(6)
    nothing = kernels.predicted_gap(np.zeros((23, 3)), strong, truth)
    for value in (0.1, 1 / 3, 1e9 / 7):  # their mean is not them to the last digit
        assert_same(kernels.predicted_gap(np.full((23, 3), value), strong, truth), nothing)
    assert nothing["effective_dimension_weak"] == 0


def test_components_are_the_largest_directions():
    weak, strong, truth = make(7)
    left, lengths, right = np.linalg.svd(strong - strong.mean(0), full_matrices=False)
    cut = left[:, :3] * lengths[:3] @ right[:3]
    expected = kernels.predicted_gap(weak, cut, truth)
    found = kernels.predicted_gap(weak, strong, truth, components=3)
    assert found["effective_dimension_strong"] == pytest.approx(expected["effective_dimension_strong"])
    weak_cut = kernels.predicted_gap(weak, weak, truth, components=3)
    assert found["effective_dimension_weak"] == pytest.approx(weak_cut["effective_dimension_strong"])
    assert found["effective_dimension_weak"] < 3
    assert_same(kernels.predicted_gap(weak, strong, truth, components=4), kernels.predicted_gap(
        weak, left[:, :4] * lengths[:4], truth
    ))  # fmt: skip


def test_targets_together_are_those_alone():
    weak, strong, truth = make(8)
    other = np.linspace(0, 1, len(truth))
    both = kernels.predicted_gaps(weak, strong, {"truth": truth, "other": other})
    assert_same(both["truth"], kernels.predicted_gap(weak, strong, truth), 0)
    assert_same(both["other"], kernels.predicted_gap(weak, strong, other), 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weak": np.ones((22, 4))}, "weak_embeddings must be"),
        ({"strong": np.ones(23)}, "strong_embeddings must be"),
        ({"strong": np.ones((23, 0))}, "strong_embeddings must be"),
        ({"weak": np.full((23, 4), np.nan)}, "not finite"),
        ({"truth": np.ones((23, 1))}, "target must be"),
        ({"truth": np.array([np.inf] * 23)}, "target must be"),
        ({"truth": np.ones(1)}, "target must be"),
        ({"regularization": 0.0}, "above 0"),
        ({"regularization": float("nan")}, "above 0"),
        ({"components": 0}, r"components=0 must lie in \[1, 4\]"),
        ({"components": 5}, r"components=5 must lie in \[1, 4\]"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    given = dict(zip(("weak", "strong", "truth"), make(), strict=True)) | changes
    arrays = [given.pop(name) for name in ("weak", "strong", "truth")]
    with pytest.raises(ValueError, match=words):
        kernels.predicted_gap(*arrays, **given)


def test_ranks_of_few_are_tested_by_all_orders():
    assert ranks.spearman([1, 2, 3], [5, 6, 9]) == (1.0, pytest.approx(1 / 3))
    assert ranks.spearman([1, 2, 3, 4], [8, 7, 6, 5]) == (-1.0, pytest.approx(2 / 24))
    found = ranks.spearman([1, 2, 2, 4], [1, 3, 2, 4])
    assert found.rho == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 3, 2, 4])[0, 1])
    assert ranks.spearman([1, 2], [1, 2]) is ranks.spearman([1, 1, 1], [1, 2, 3]) is None
    with pytest.raises(ValueError, match="two vectors"):
        ranks.spearman([1, 2, 3], [1, 2])


def test_ranks_of_many_are_tested_by_drawn_orders():
    first = np.arange(12.0)
    found = ranks.spearman(first, first**3)
    assert found.rho == 1 and found.p_value < 1e-3
    found = ranks.spearman(first, np.random.default_rng(1).permutation(12))
    assert 0.05 < found.p_value <= 1
