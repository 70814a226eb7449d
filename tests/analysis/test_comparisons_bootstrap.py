"""Bootstrap over items and seeds, PGR and inherited errors: worked values, invariants, brute force, coverage."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats
from support import marks

from selw2s_jax.analysis import comparisons

PROPERTY = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def answers(draw, num_models: int):
    """`[M, S, N]` of right and wrong answers."""
    shape = (num_models, draw(st.integers(1, 4)), draw(st.integers(2, 30)))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    return random.random(shape) < draw(st.sampled_from((0.3, 0.6, 0.9)))


@PROPERTY
@hypothesis.given(answers(2), st.randoms(use_true_random=False))
def test_order_of_items_does_not_matter(correct, random):
    order = random.sample(range(correct.shape[2]), correct.shape[2])
    assert comparisons.bootstrap_difference(*correct, num_draws=200) == comparisons.bootstrap_difference(
        *correct[:, :, order], num_draws=200
    )


@PROPERTY
@hypothesis.given(answers(1))
def test_equal_answers_have_a_difference_of_zero_with_zero_in_its_interval(correct):
    result = comparisons.bootstrap_difference(correct[0], correct[0], num_draws=200)
    assert result == (0, 0, 0, 1)


@PROPERTY
@hypothesis.given(answers(2))
def test_bootstrap_has_the_mean_in_its_middle_and_stays_within_accuracies(correct):
    draws = comparisons.bootstrap_accuracies(correct, num_draws=3000)
    assert draws.shape == (3000, 2) and draws.min() >= 0 and draws.max() <= 1
    error = draws.std(0) / 3000**0.5
    assert (np.abs(draws.mean(0) - correct.mean((1, 2))) <= 6 * error + 1e-9).all()
    result = comparisons.bootstrap_difference(*correct, num_draws=500)
    assert result.low <= result.high and 0 < result.p_value <= 1
    assert result.mean == pytest.approx(correct[0].mean() - correct[1].mean(), abs=1e-12)


@PROPERTY
@hypothesis.given(answers(2))
def test_pgr_of_the_weak_model_is_0_and_of_the_ceiling_is_1(correct):
    weak, ceiling = correct
    for student, expected in ((weak, 0), (ceiling, 1)):
        result = comparisons.bootstrap_pgr(weak, student, ceiling, num_draws=300)
        assert result.gap == pytest.approx(ceiling.mean() - weak.mean(), abs=1e-12)
        if result.gap <= 0:
            assert result[:3] == (None, None, None)
        elif result.gap_low <= 0:
            assert result[:3] == (expected, None, None)
        else:
            assert result[:3] == (expected, expected, expected)


def test_one_seed_is_the_bootstrap_of_items():
    """Against every way to draw five items of five with replacement, each as likely."""
    correct = np.array([[[1, 1, 1, 0, 0]], [[1, 0, 0, 1, 0]]], bool)
    differences = correct[0, 0].astype(int) - correct[1, 0]
    exact = [differences[list(chosen)].mean() for chosen in itertools.product(range(5), repeat=5)]
    draws = comparisons.bootstrap_accuracies(correct, num_draws=40_000)
    drawn = draws[:, 0] - draws[:, 1]
    for value, count in zip(*np.unique(np.round(exact, 6), return_counts=True), strict=True):
        share = count / len(exact)
        assert np.mean(np.isclose(drawn, value)) == pytest.approx(
            share, abs=5 * (share / 40_000) ** 0.5 + 1e-4
        )


def test_variance_between_seeds_is_that_of_their_mean():
    """Without differences between items, the variance over draws is that of a mean of S seeds, s^2 / S."""
    right = np.array([10, 60, 80, 90])
    correct = np.zeros((1, 4, 10_000), bool)
    for seed, count in enumerate(right):
        correct[0, seed, : 100 * count] = True
    draws = comparisons.bootstrap_accuracies(correct, num_draws=40_000)[:, 0]
    assert draws.var() == pytest.approx(np.var(right / 100, ddof=1) / 4, rel=0.03)


def test_worked_pgr():
    weak, student, ceiling = np.zeros((3, 1, 100), bool)
    weak[0, :50], student[0, :65], ceiling[0, :80] = True, True, True
    result = comparisons.bootstrap_pgr(weak, student, ceiling)
    assert (result.value, result.gap) == pytest.approx((0.5, 0.3))
    # 30 items decide, 15 of them for the student: a binomial share, and the gap is 30 of 100.
    assert (result.low, result.high) == pytest.approx((0.32, 0.68), abs=0.02)
    assert (result.gap_low, result.gap_high) == pytest.approx((0.21, 0.39), abs=0.015)


def test_pgr_of_a_gap_that_touches_zero_has_no_interval():
    random = np.random.default_rng(0)
    weak = random.random((2, 60)) < 0.6
    ceiling = weak.copy()
    ceiling[0, np.flatnonzero(~weak[0])[:2]] = True
    result = comparisons.bootstrap_pgr(weak, ceiling, ceiling)
    assert result[:3] == (1, None, None) and result.gap > 0 >= result.gap_low
    assert comparisons.bootstrap_pgr(ceiling, weak, weak)[:3] == (None, None, None)


@pytest.mark.parametrize(
    ("num_seeds", "spread", "least"),
    [
        (1, 0.0, 0.92),
        (3, 0.2, 0.85),
        marks.in_ci(5, 0.2, 0.90),
        marks.in_ci(10, 0.2, 0.92),
    ],
)
def test_intervals_hold_the_true_difference(num_seeds, spread, least):
    """Items differ in difficulty, both methods see the same ones, seeds differ by `spread` for each method."""
    random = np.random.default_rng(7)
    true = stats.norm.cdf(0.2 / np.sqrt(1 + 0.7**2 + spread**2)) - 0.5
    held = 0
    for trial in range(300):
        difficulty = random.normal(0, 1, 150)
        ability = random.normal(0, spread, (2, num_seeds, 1)) + np.array([0.2, 0])[:, None, None]
        correct = ability + difficulty + random.normal(0, 0.7, (2, num_seeds, 150)) > 0
        result = comparisons.bootstrap_difference(*correct, num_draws=300, seed=trial)
        held += result.low <= true <= result.high
    assert held / 300 >= least


def test_inherited_errors_worked_example():
    truth = np.array([1, 1, 1, 0, 0, 0, 1, 0])
    weak = np.array([1, 1, 0, 1, 0, 0, 0, 1])  # wrong on items 2, 3, 6, 7
    student = np.array([1, 0, 0, 0, 0, 0, 1, 0])  # wrong on items 1, 2
    result = comparisons.error_inheritance(weak, student, truth)
    assert result == (0.5, 0.25, 0.75, 0.25)
    assert comparisons.error_inheritance(weak, weak, truth) == (1, 1, 0, 0)
    assert comparisons.error_inheritance(truth, student, truth) == (0.75, None, None, 0.25)
    assert comparisons.error_inheritance(1 - truth, student, truth) == (0.25, 0.25, 0.75, None)


@PROPERTY
@hypothesis.given(answers(3))
def test_inherited_errors_make_up_the_students_accuracy(correct):
    weak, student, truth = correct[:, 0]
    result = comparisons.error_inheritance(weak, student, truth)
    weak_wrong = np.mean(weak != truth)
    wrong = (result.inherited or 0) * weak_wrong + (result.spoiled or 0) * (1 - weak_wrong)
    assert wrong == pytest.approx(np.mean(student != truth))
    # Two answers: both wrong, or both right, is to agree.
    both = (result.inherited or 0) * weak_wrong + (1 - (result.spoiled or 0)) * (1 - weak_wrong)
    assert result.agreement == pytest.approx(both)


@PROPERTY
@hypothesis.given(answers(3))
def test_pooling_one_task_is_that_task(correct):
    weak, student, ceiling = correct
    draws = {"num_draws": 200}
    assert comparisons.pooled_difference([(weak, student)], **draws) == comparisons.bootstrap_difference(
        weak, student, **draws
    )
    assert comparisons.pooled_pgr([(weak, student, ceiling)], **draws) == comparisons.bootstrap_pgr(
        weak, student, ceiling, **draws
    )
    mean = comparisons.pooled_accuracy([student], **draws)
    assert mean.low <= mean.high and mean.mean == pytest.approx(student.mean())


@PROPERTY
@hypothesis.given(answers(3), answers(3))
def test_tasks_count_once_and_the_weak_model_and_the_ceiling_have_pgr_0_and_1(first, second):
    tasks = [tuple(first), tuple(second)]
    weak, student, ceiling = (np.mean([models[place].mean() for models in tasks]) for place in range(3))
    change = comparisons.pooled_difference([models[:2] for models in tasks], num_draws=200)
    assert change.mean == pytest.approx(weak - student, abs=1e-12)
    result = comparisons.pooled_pgr(tasks, num_draws=200)
    assert result.gap == pytest.approx(ceiling - weak, abs=1e-12)
    if result.gap > 1e-9:
        assert result.value == pytest.approx((student - weak) / (ceiling - weak))
        as_weak = comparisons.pooled_pgr([(w, w, c) for w, _, c in tasks], num_draws=200)
        as_ceiling = comparisons.pooled_pgr([(w, c, c) for w, _, c in tasks], num_draws=200)
        assert (as_weak.value, as_ceiling.value) == (0, 1)


def test_variance_of_a_mean_over_tasks_is_that_of_independent_tasks():
    random = np.random.default_rng(3)
    tasks = [random.random((3, size)) < 0.6 for size in (50, 80, 130)]
    variances = [comparisons.bootstrap_accuracies(task[None], num_draws=20_000).var() for task in tasks]
    mean = comparisons.pooled_accuracy(tasks, num_draws=20_000)
    half_width = 1.96 * (sum(variances) / 9) ** 0.5
    assert (mean.high - mean.low) / 2 == pytest.approx(half_width, rel=0.04)
    # The same items and seeds in every task are still drawn for each of them.
    same = comparisons.pooled_accuracy([tasks[0]] * 4, num_draws=20_000)
    assert (same.high - same.low) / 2 == pytest.approx(1.96 * (variances[0] / 4) ** 0.5, rel=0.04)


def test_statistics_refuse_what_is_no_table_of_answers():
    with pytest.raises(ValueError, match="models, seeds, items"):
        comparisons.bootstrap_accuracies(np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="models, seeds, items"):
        comparisons.bootstrap_accuracies(np.ones((2, 3, 0), bool))
    with pytest.raises(ValueError, match="one task or more"):
        comparisons.pooled_accuracy([])
    with pytest.raises(ValueError, match="arrays of one length"):
        comparisons.error_inheritance([1, 0], [1, 0], [1])
