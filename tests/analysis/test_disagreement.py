"""Where weak and self label differ: numbers by other code, and what is undefined."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import report_runs

from selw2s_jax.analysis import disagreement, results

# Few distinct values, so that scores are tied and classes, bins or disagreement may be missing.
ROWS = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([0.1, 0.5, 0.7]),
        st.sampled_from([0.0, 1.0]),
        st.sampled_from([0.0, 0.05, 0.5, 0.8, 1.0, math.nan]),
        st.sampled_from([0.2, 0.6, math.nan]),
    ),
    min_size=1,
    max_size=23,
)


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def expected_labels(rows):
    """By hand: share right and squared error of self, weak and trained-on labels of rows as above."""
    found = {"n": len(rows)}
    for name, place in (("self", 2), ("weak", 1), ("target", 4)):
        pairs = [(row[0], row[place]) for row in rows if not math.isnan(row[place])]
        found[f"{name}_right"] = mean(truth == (label > 0.5) for truth, label in pairs)
        found[f"{name}_brier"] = mean((label - truth) ** 2 for truth, label in pairs)
    return found


def expected_auroc(rows):
    """The share of pairs of a right and a wrong self label that P(IK) orders rightly; ties count half."""
    rows = [row for row in rows if not math.isnan(row[3])]
    right = [row[3] for row in rows if row[0] == (row[2] > 0.5)]
    wrong = [row[3] for row in rows if row[0] != (row[2] > 0.5)]
    return mean((good > bad) + (good == bad) / 2 for good in right for bad in wrong)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value)), name


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_numbers_are_those_of_other_code(rows):
    columns = dict(zip(("truth", "weak", "own", "p_ik", "target"), np.array(rows, float).T, strict=True))
    found = disagreement.describe(**columns)
    differ = [row for row in rows if (row[1] > 0.5) != (row[2] > 0.5)]
    same(found["all"], expected_labels(rows))
    same(found["disagreeing"], expected_labels(differ))
    if differ:  # of two classes one label is right
        assert found["disagreeing"]["self_right"] + found["disagreeing"]["weak_right"] == pytest.approx(1)
    for name, of_rows in (("auroc", differ), ("auroc_all", rows)):
        area = expected_auroc(of_rows)
        assert found[name] == (None if area is None else pytest.approx(area))
    there = [row for row in rows if not math.isnan(row[3])]
    assert sum(one["all"]["n"] for one in found["bins"]) == len(there)
    for one in found["bins"]:
        inside = [row for row in there if one["low"] <= row[3] < one["high"] + (one["high"] == 1)]
        assert inside  # no bin is empty
        same(one["all"], expected_labels(inside))
        same(one["disagreeing"], expected_labels([row for row in inside if row in differ]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=17))
def test_phi_is_that_of_the_two_by_two_table(pairs):
    first, second = np.array(pairs).T
    phi, interval = disagreement.error_correlation(first, second)
    both, neither = (first & second).sum(), (~first & ~second).sum()
    only_first, only_second = (first & ~second).sum(), (~first & second).sum()
    margins = first.sum() * (~first).sum() * second.sum() * (~second).sum()
    if margins == 0:
        assert phi is interval is None
        return
    assert phi == pytest.approx((both * neither - only_first * only_second) / math.sqrt(margins))
    if interval is not None:
        assert -1 <= interval[0] <= phi <= interval[1] <= 1


@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_interval_of_phi_holds_the_true_one(shared):
    """Errors of 30 and 40 % that are one and the same event in a share of the rows."""
    rng, num_rows = np.random.default_rng(0), 150
    covered = []
    rates = 0.3, 0.4
    covariance = shared * (min(rates) - rates[0] * rates[1])
    truth = covariance / math.sqrt(rates[0] * 0.7 * rates[1] * 0.6)
    for _ in range(300):
        one, other = rng.uniform(size=(2, num_rows))
        other = np.where(rng.uniform(size=num_rows) < shared, one, other)
        _, (low, high) = disagreement.error_correlation(one < rates[0], other < rates[1])
        covered.append(low <= truth <= high)
    assert 0.92 < np.mean(covered) < 0.985


def test_errors_on_the_same_rows_have_correlation_one_and_never_more():
    for size in range(2, 30):
        wrong = np.arange(size) < 1 + size // 3
        phi, _ = disagreement.error_correlation(wrong, wrong)
        assert phi == pytest.approx(1) and phi <= 1
        assert disagreement.error_correlation(wrong, ~wrong)[0] >= -1


def test_what_is_undefined_is_none():
    truth, p_ik = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.9, 0.3, 0.5, 0.5])
    weak = np.array([0.2, 0.9, 0.1, 0.7, 0.8])
    agree = disagreement.describe(truth, weak, (weak > 0.5).astype(float), p_ik=p_ik)
    assert agree["disagreeing"]["n"] == 0 and agree["disagreeing"]["self_right"] is None
    assert agree["auroc"] is None and agree["auroc_all"] is not None
    assert agree["error_correlation"] == pytest.approx(1) and agree["error_correlation_low"] is None
    assert agree["all"]["target_right"] is None
    knows_all = disagreement.describe(truth, weak, truth, p_ik=p_ik)
    assert knows_all["disagreeing"]["self_right"] == 1
    assert knows_all["auroc"] is knows_all["error_correlation"] is None
    alone = disagreement.describe(truth, weak, None, p_ik=p_ik, target=weak)
    assert alone["disagreeing"] is alone["auroc"] is alone["bins"][0]["disagreeing"] is None
    assert alone["all"]["target_right"] == alone["all"]["weak_right"] == 0.6 and len(alone["bins"]) == 4
    unseen = disagreement.describe(truth, weak, truth, p_ik=np.full(5, np.nan), target=np.full(5, np.nan))
    assert unseen["bins"] == [] and unseen["auroc_all"] is None and unseen["all"]["target_brier"] is None


def test_the_last_step_of_each_example_counts():
    rng = np.random.default_rng(0)
    names = [f"row-{number}" for number in range(7)]
    trace = {"step": [], "example_id": [], "p_ik": []}
    last = dict.fromkeys(names, math.nan)
    for step in range(4):
        for name in rng.permutation(names[:-1])[:3]:
            last[name] = rng.uniform()
            for column, value in (("step", step), ("example_id", name), ("p_ik", last[name])):
                trace[column].append(value)
    order = rng.permutation(12)
    shuffled = {column: np.array(values)[order] for column, values in trace.items()}
    found = disagreement.last_of_trace(shuffled, names, "p_ik")
    np.testing.assert_array_equal(found, [last[name] for name in names])


def test_the_table_has_a_line_for_each_p_ik_and_seed():
    entries = [
        report_runs.disagreement_entry(seed=0),
        report_runs.disagreement_entry("random_selection", seed=0),
        report_runs.disagreement_entry("self_training", seed=0, p_ik_of=None),
        report_runs.disagreement_entry(seed=1),
    ]
    header, *lines = results.format_disagreement(entries).splitlines()
    assert [line.split()[:4] for line in lines] == [["P(IK)", "of", "selective", seed] for seed in "01"]
    rows = entries[0]["disagreeing"]
    assert f"{100 * rows['self_right']:.2f}" in lines[0] and f"{entries[0]['auroc']:.3f}" in lines[0]
    assert "P(IK) AUROC" in header
    without = [entries[2] | {"auroc": None, "auroc_low": None, "error_correlation": None}]
    assert results.format_disagreement(without).splitlines()[1].split()[-3:] == ["-", "-", "-"]
