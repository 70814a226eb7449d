"""Metrics against worked examples and brute force; label diagnostics on six examples."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from selw2s_jax.analysis import diagnostics, metrics

PROPERTY = hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
# Scores from a few values, so that ties are common.
SCORED = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=30)


@PROPERTY
@hypothesis.given(SCORED)
def test_auroc_is_the_share_of_ordered_pairs(rows):
    scores, labels = [row[0] / 5 for row in rows], [row[1] for row in rows]
    positives = [s for s, y in zip(scores, labels, strict=True) if y]
    negatives = [s for s, y in zip(scores, labels, strict=True) if not y]
    found = metrics.auroc(scores, labels)
    if not positives or not negatives:
        assert found is None
        return
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p, n in itertools.product(positives, negatives)]
    assert found == pytest.approx(np.mean(wins), abs=1e-12)
    assert metrics.auroc([-s for s in scores], labels) == pytest.approx(1 - found, abs=1e-12)


def test_auroc_worked_examples():
    assert metrics.auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert metrics.auroc([0.5, 0.5, 0.5], [0, 1, 1]) == 0.5
    assert metrics.auroc(np.array([1, 2], np.float32), np.array([True, False])) == 0.0
    assert metrics.auroc([0.3, 0.4], [1, 1]) is None and metrics.auroc([0.3, 0.4], [0, 0]) is None
    assert type(metrics.auroc([0.1, 0.2], [0, 1])) is float


@pytest.mark.parametrize(
    "rows", [[(0, 1), (3, 0), (3, 1), (3, 1), (5, 0)], [(1, 0), (1, 0)], [(2, 1), (0, 1)]]
)
def test_accuracy_at_the_base_rate_is_the_mean_over_all_ways_to_part_ties(rows):
    shares = []
    for order in itertools.permutations(rows):
        ranked = sorted(order, key=lambda row: -row[0])
        count = sum(label for _, label in rows)
        shares.append(np.mean([label == (place < count) for place, (_, label) in enumerate(ranked)]))
    found = metrics.accuracy_at_base_rate(*zip(*rows, strict=True))
    assert found == pytest.approx(np.mean(shares), abs=1e-12)


def delong_by_pairs(scores, labels):
    """AUROC and its variance from the matrix of all pairs, as DeLong et al. (1988) write them."""
    positive, negative = scores[labels], scores[~labels]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = np.var(wins.mean(1), ddof=1) / len(positive) + np.var(wins.mean(0), ddof=1) / len(negative)
    return wins.mean(), variance


@PROPERTY
@hypothesis.given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=4, max_size=40))
def test_auroc_interval_is_delong_s_on_the_logit_scale(rows):
    scores, labels = np.array([row[0] / 9 for row in rows]), np.array([row[1] for row in rows])
    interval = metrics.auroc_interval(scores, labels, confidence=0.9)
    if min(labels.sum(), (~labels).sum()) < 2:
        assert interval is None
        return
    area, variance = delong_by_pairs(scores, labels)
    if variance < 1e-15 or area in (0, 1):
        assert interval is None
        return
    half = stats.norm.ppf(0.95) * np.sqrt(variance) / (area * (1 - area))
    expected = stats.logistic.cdf(stats.logistic.ppf(area) + np.array([-half, half]))
    assert interval == pytest.approx(expected, abs=1e-9)
    assert 0 <= interval[0] < area < interval[1] <= 1
    low, high = metrics.auroc_interval(-scores, labels, confidence=0.9)
    assert (1 - high, 1 - low) == pytest.approx(interval, abs=1e-9)


def test_auroc_interval_is_near_the_bootstrap_s():
    rng = np.random.default_rng(0)
    known, unknown = np.round(rng.normal(1, 1, 90), 1), np.round(rng.normal(0, 1, 67), 1)

    def area(first, second):
        return metrics.auroc(
            np.concatenate([first, second]), np.arange(len(first) + len(second)) < len(first)
        )

    bootstrap = stats.bootstrap(
        (known, unknown), area, n_resamples=999, vectorized=False, method="percentile", rng=rng
    )
    labels = np.arange(157) < 90
    found = metrics.auroc_interval(np.concatenate([known, unknown]), labels)
    assert found == pytest.approx(tuple(bootstrap.confidence_interval), abs=0.02)


def test_auroc_interval_needs_two_of_each_class_and_some_spread():
    assert metrics.auroc_interval([0.1, 0.4, 0.3], [1, 0, 0]) is None
    assert metrics.auroc_interval([0.1, 0.4], [1, 1]) is None
    assert metrics.auroc_interval([0.1, 0.1, 0.1, 0.1], [1, 0, 1, 0]) is None
    assert metrics.auroc_interval([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) is None


def test_brier_score_worked_example():
    assert metrics.brier_score([0.0, 0.5, 1.0, 0.2], [0, 1, 1, 1]) == pytest.approx((0.25 + 0.64) / 4)
    assert metrics.brier_score(np.float32([0.25]), np.int32([0])) == 0.0625


def test_expected_calibration_error_worked_examples():
    # Two bins: {0.1, 0.3} with mean label 0.5, {0.6, 0.8, 1.0} with mean label 2/3.
    probs, labels = [0.1, 0.3, 0.6, 0.8, 1.0], [0, 1, 1, 0, 1]
    expected = 2 / 5 * abs(0.2 - 0.5) + 3 / 5 * abs(0.8 - 2 / 3)
    assert metrics.expected_calibration_error(probs, labels, num_bins=2) == pytest.approx(expected)
    assert metrics.expected_calibration_error(probs, labels, num_bins=1) == pytest.approx(abs(0.56 - 0.6))
    assert metrics.expected_calibration_error([0.0, 1.0], [0, 1]) == 0.0
    assert metrics.expected_calibration_error([0.0, 1.0], [1, 0]) == 1.0
    # 0.5 is an inner edge of two bins and belongs to the upper one, with 0.9.
    assert metrics.expected_calibration_error([0.5, 0.9], [1, 0], num_bins=2) == pytest.approx(0.2)


@PROPERTY
@hypothesis.given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=30), st.integers(1, 15)
)
def test_expected_calibration_error_against_loops(rows, num_bins):
    probs, labels = [row[0] for row in rows], [row[1] for row in rows]
    expected = 0.0
    for low in range(num_bins):
        inside = [i for i, p in enumerate(probs) if min(int(p * num_bins), num_bins - 1) == low]
        if inside:
            gap = abs(np.mean([probs[i] for i in inside]) - np.mean([labels[i] for i in inside]))
            expected += len(inside) / len(rows) * gap
    found = metrics.expected_calibration_error(probs, labels, num_bins=num_bins)
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0.0 <= found <= 1.0
    assert found >= abs(np.mean(probs) - np.mean(labels)) - 1e-12


def test_performance_gap_recovered():
    assert metrics.performance_gap_recovered(0.6, 0.7, 0.8) == pytest.approx(0.5)
    assert metrics.performance_gap_recovered(0.5, 0.45, 0.75) == pytest.approx(-0.2)
    assert metrics.performance_gap_recovered(0.5, 1.0, 0.75) == pytest.approx(2.0)
    assert metrics.performance_gap_recovered(0.6, 0.7, 0.6) is None
    assert metrics.performance_gap_recovered(0.6, 0.7, 0.5) is None


def test_wilson_interval_against_its_formula():
    # Newcombe (1998), Table I, method 3: 81 of 263.
    assert metrics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    z, n, p = 1.959963984540054, 1000, 0.833
    centre, half = (p + z**2 / (2 * n)), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = ((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))
    assert metrics.wilson_interval(833, 1000) == pytest.approx(expected, rel=1e-9)
    assert metrics.wilson_interval(0, 10)[0] == pytest.approx(0.0, abs=1e-12)
    assert metrics.wilson_interval(10, 10)[1] == pytest.approx(1.0, abs=1e-12)


def test_mean_interval_is_students_t():
    # t(0.975, 2) = 4.302653; standard error of (1, 2, 3) is 1 / sqrt(3).
    assert metrics.mean_interval([1, 2, 3]) == pytest.approx(
        (2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-6
    )
    assert metrics.mean_interval([0.5, 0.5]) == (0.5, 0.5)
    assert metrics.mean_interval([0.5]) is None and metrics.mean_interval([]) is None


@pytest.mark.parametrize(
    "metric",
    [metrics.auroc, metrics.auroc_interval, metrics.brier_score, metrics.expected_calibration_error],
)
@pytest.mark.parametrize(
    ("scores", "labels"),
    [([], []), ([0.5], [0, 1]), ([[0.5, 0.5]], [[0, 1]])],
    ids=["empty", "lengths", "shape"],
)
def test_metrics_refuse_empty_and_mismatched_arrays(metric, scores, labels):
    with pytest.raises(ValueError, match="two non-empty arrays of one length"):
        metric(scores, labels)


def worked_trace() -> dict[str, np.ndarray]:
    """Three examples in each of two steps; floats that float32 holds exactly."""
    return {
        "step": np.array([0, 0, 0, 1, 1, 1], np.int32),
        "example_id": np.array(["a", "b", "c", "d", "a", "b"], object),
        "p_ik": np.array([0.5, 0.25, 0.5, 0.875, 0.75, 0.25], np.float32),
        "ik_mask": np.array([False, False, False, True, True, False]),
        "prior": np.array([0.25, 0.75, 0.625, 0.0, 1.0, 0.75], np.float32),
        "target": np.array([0.5, 0.75, 0.375, 0.0, 1.0, 0.625], np.float32),
    }


WEAK = {"a": 0.25, "b": 0.75, "c": 0.625, "d": 0.875}
SELF = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}
TRUTH = {"a": 1, "b": 1, "c": 0, "d": 1}


def diagnose(trace, own=SELF):
    ids = sorted(TRUTH, reverse=True)
    order = lambda values: None if values is None else np.array([values[name] for name in ids])  # noqa: E731
    return diagnostics.label_diagnostics(trace, ids, truth=order(TRUTH), weak=order(WEAK), own=order(own))


def test_label_diagnostics_without_self_labels_still_know_those_of_ik_rows():
    with_own, without = (
        diagnose(worked_trace())["second_half"],
        diagnose(worked_trace(), own=None)["second_half"],
    )
    assert without == with_own | {"self_accuracy": None, "p_ik_auroc": None}


def test_label_diagnostics_of_a_worked_trace():
    found = diagnose(worked_trace())
    assert found["first_half"] == {
        "rows": 3,
        "ik_rate": 0.0,
        "self_accuracy_on_ik": None,
        "weak_accuracy_on_ik": None,
        "self_accuracy": pytest.approx(2 / 3),
        "weak_accuracy": pytest.approx(1 / 3),
        "prior_accuracy": pytest.approx(1 / 3),
        "target_accuracy": pytest.approx(
            2 / 3
        ),  # smoothing mended c; a stands at 0.5, which predicts class 0
        "smoothing_move": pytest.approx((0.25 + 0 + 0.25) / 3),
        "smoothing_flips": pytest.approx(1 / 3),
        "p_ik_auroc": 1.0,
    }
    assert found["second_half"] == {
        "rows": 3,
        "ik_rate": pytest.approx(2 / 3),
        "self_accuracy_on_ik": 0.5,
        "weak_accuracy_on_ik": 0.5,
        "self_accuracy": pytest.approx(1 / 3),
        "weak_accuracy": pytest.approx(2 / 3),
        "prior_accuracy": pytest.approx(2 / 3),
        "target_accuracy": pytest.approx(2 / 3),
        "smoothing_move": pytest.approx(0.125 / 3),
        "smoothing_flips": 0.0,
        "p_ik_auroc": 0.5,  # a above b, below d
    }
    assert found["all"]["rows"] == 6 and found["all"]["ik_rate"] == pytest.approx(1 / 3)
    assert found["all"]["self_accuracy"] == 0.5


def test_label_diagnostics_of_a_single_step_have_an_empty_half():
    trace = {name: values[:3] for name, values in worked_trace().items()}
    found = diagnose(trace)
    assert found["all"] == found["first_half"]
    assert found["second_half"].pop("rows") == 0
    assert set(found["second_half"].values()) == {None}


def test_label_diagnostics_do_not_depend_on_the_order_of_rows():
    trace = worked_trace()
    shuffled = {name: values[[4, 2, 0, 5, 1, 3]] for name, values in trace.items()}
    found, same = map(diagnose, (trace, shuffled))
    for part, values in found.items():
        assert same[part] == pytest.approx(values)


def test_interval_over_seeds_adds_that_over_items_in_squares():
    assert metrics.seeds_interval([0.8], [(0.7, 0.85)]) == pytest.approx((0.7, 0.85))
    assert metrics.seeds_interval([0.8], [None]) is None
    values = [0.8, 0.7, 0.75]
    spread = metrics.mean_interval(values)[1] - 0.75
    assert metrics.seeds_interval(values, [None] * 3) == pytest.approx((0.75 - spread, min(0.75 + spread, 1)))
    low, high = metrics.seeds_interval(values, [(0.7, 0.9), None, (0.65, 0.8)])
    assert low == pytest.approx(0.75 - np.hypot((0.1 + 0.1) / 2, spread))
    assert high == pytest.approx(min(0.75 + np.hypot((0.1 + 0.05) / 2, spread), 1))
    assert metrics.seeds_interval([0.01, 0.99], [None, None]) == (0, 1)


def test_bins_of_probabilities():
    assert metrics.probability_bins([0.0, 0.2, 0.999, 1.0], 5).tolist() == [0, 1, 4, 4]
