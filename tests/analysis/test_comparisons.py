"""Paired comparisons: equal to scipy's tests, antisymmetric, indifferent to order, clusters counted once."""

import importlib.util
import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from selw2s_jax.analysis import comparisons

_FOLDER = (
    pathlib.Path(comparisons.__file__).resolve().parents[2] / "benchmarks"
)  # of the repository: no package
_SPEC = importlib.util.spec_from_file_location("clusters", _FOLDER / "clusters.py")
clusters_lib = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(clusters_lib)

PROPERTY = hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
# Numbers of right items of 597, as accuracies of the same runs are; few values, so that equal differences occur.
RUNS = st.lists(st.tuples(st.integers(290, 300), st.integers(290, 300)), min_size=2, max_size=7)
CORRECT = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40)


def clusters_of(runs) -> dict[str, list[float]]:
    first, second = np.array(runs).T / 597
    return {str(run): [difference] for run, difference in enumerate(first - second)}


def approx(difference):
    return tuple(None if value is None else pytest.approx(value, abs=1e-9) for value in difference)


@pytest.mark.parametrize(
    "differences",
    [[0.05], [0.8 - 0.75, 0.75 - 0.7, 0.3 - 0.25], [0.0, 0.0]],
    ids=["one cluster", "equal but for rounding", "no difference"],
)
def test_without_spread_there_is_no_test(differences):
    result = clusters_lib.difference({str(run): [d] for run, d in enumerate(differences)})
    assert result[:4] == (pytest.approx(differences[0]), None, None, None)


def test_holms_p_values():
    """Holm's own rule: from the smallest, each is compared with alpha over those that are left."""
    assert comparisons.holm([0.04, None, 0.01, 0.03]) == pytest.approx([0.06, None, 0.03, 0.06], nan_ok=True)
    assert comparisons.holm([0.9, 0.6]) == [1.0, 1.0]
    assert comparisons.holm([]) == []


@PROPERTY
@hypothesis.given(RUNS)
def test_single_runs_as_clusters_are_the_paired_t_test(runs):
    result = clusters_lib.difference(clusters_of(runs), confidence=0.9)
    assert list(result.by_cluster) == list(clusters_of(runs))
    first, second = np.array(runs).T / 597
    assert result.mean == pytest.approx(first.mean() - second.mean(), abs=1e-12)
    if len({a - b for a, b in runs}) == 1:
        assert result[1:4] == (None, None, None)
        return
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.9)
    assert result[1:4] == approx((interval.low, interval.high, expected.pvalue))


@PROPERTY
@hypothesis.given(
    st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=5), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_clusters_count_once_antisymmetric_and_indifferent_to_order(worlds, random):
    clusters = {f"world {number}": [d / 597 for d in runs] for number, runs in enumerate(worlds)}
    result = clusters_lib.difference(clusters)
    repeated = {name: runs * 20 for name, runs in clusters.items()}
    assert clusters_lib.difference(repeated)[:4] == approx(result[:4])
    mean, low, high, p_value = clusters_lib.difference(
        {name: [-d for d in runs] for name, runs in clusters.items()}
    )[:4]
    negative = [None if value is None else -value for value in (mean, high, low)]
    assert (*negative, p_value) == approx(result[:4])
    shuffled = [(name, random.sample(runs, len(runs))) for name, runs in clusters.items()]
    random.shuffle(shuffled)
    other = clusters_lib.difference(dict(shuffled))
    assert other[:4] == approx(result[:4]) and other.by_cluster == pytest.approx(result.by_cluster)


def test_a_cluster_counts_once_however_many_runs_it_has():
    result = clusters_lib.difference({"a": [0.1, 0.3], "b": [0.1], "c": [0.4, 0.2, 0.3]})
    assert result.by_cluster == pytest.approx({"a": 0.2, "b": 0.1, "c": 0.3})
    assert result.mean == pytest.approx(0.2)
    assert (result.low, result.high) == pytest.approx(
        (0.2 - 4.302653 * 0.1 / 3**0.5, 0.2 + 4.302653 * 0.1 / 3**0.5)
    )


def test_mcnemar_worked_example():
    # 1 and 6 discordant items: 2 * (C(7, 0) + C(7, 1)) / 2^7.
    first = np.array([True] * 1 + [False] * 6 + [True] * 5 + [False] * 3)
    second = np.array([False] * 1 + [True] * 6 + [True] * 5 + [False] * 3)
    assert comparisons.mcnemar(first, second) == (1, 6, pytest.approx(2 * 8 / 128))
    assert comparisons.mcnemar(first, first) == (0, 0, 1.0)
    assert comparisons.mcnemar([], []) == (0, 0, 1.0)


@PROPERTY
@hypothesis.given(CORRECT, st.randoms(use_true_random=False))
def test_mcnemar_is_antisymmetric_and_indifferent_to_order(items, random):
    def compare(rows):
        return comparisons.mcnemar([first for first, _ in rows], [second for _, second in rows])

    result = compare(items)
    assert (result.only_first, result.only_second) == (items.count((True, False)), items.count((False, True)))
    assert 0 < result.p_value <= 1
    swapped = compare([(second, first) for first, second in items])
    assert swapped == (result.only_second, result.only_first, pytest.approx(result.p_value))
    random.shuffle(items)
    assert compare(items) == result


def test_comparisons_refuse_what_is_not_paired():
    with pytest.raises(ValueError, match="arrays of one length"):
        comparisons.mcnemar([1, 0], [1])
    for differences in ({}, {"a": [0.1], "b": []}):
        with pytest.raises(ValueError, match="cluster"):
            clusters_lib.difference(differences)
