"""Power: variance components worked out by hand, unbiased and against simulations and the bootstrap."""

import math

import numpy as np
import pytest

from selw2s_jax.analysis import comparisons, power


def answers(rng, num_seeds, num_items, *, gain=0.0, seeds=0.0, items=0.3, residual=0.4):
    """Right answers `[S, N]` of two methods whose seeds, items and answers differ by as much."""
    ease = rng.normal(0.5, 1, num_items)
    made = []
    for sign in (1, -1):
        logits = ease + sign * (rng.normal(0, seeds, (num_seeds, 1)) + rng.normal(0, items, num_items))
        made.append(logits + rng.normal(0, residual, (num_seeds, num_items)) > -sign * gain)
    return made


def test_components_of_a_layout_worked_out_by_hand():
    # Seeds are +-1/2 about the mean, items +-1/4: no residual. MS_seeds = 2 * 2 (1/4), MS_items = 2 * 2 (1/16).
    found = power.of_differences(np.array([[0.75, 0.25], [-0.25, -0.75]]))
    assert (found.seeds, found.items, found.residual) == (0.5, 0.125, 0.0)
    assert power.standard_error(found) ** 2 == pytest.approx(0.5 / 2 + 0.125 / 2)
    assert power.standard_error(found, seeds=5, items=10) ** 2 == pytest.approx(0.1 + 0.0125)
    # A residual alone: MS_residual = 4, MS_seeds = MS_items = 0, so both estimates are -2.
    found = power.of_differences(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    assert (found.seeds, found.items, found.residual) == (0.0, 0.0, 4.0)
    assert found.clipped == ("seeds", "items")
    assert power.bootstrap_error(found) == pytest.approx(math.sqrt(3) * power.standard_error(found))


def test_one_seed_has_items_alone():
    first, second = np.array([[1, 1, 0, 1]], bool), np.array([[0, 1, 1, 1]], bool)
    found = power.components(first, second)
    assert found.seeds is None and found.items == pytest.approx(2 / 3) and found.residual == 0
    assert power.standard_error(found) == pytest.approx(math.sqrt(2 / 3 / 4)) == power.bootstrap_error(found)
    with pytest.raises(ValueError, match="one seed says nothing"):
        power.standard_error(found, seeds=2)


def test_estimates_are_unbiased_also_for_differences_of_right_answers():
    rng, true = np.random.default_rng(0), (0.01, 0.03, 0.05)
    found = []
    for _ in range(600):
        # Two-point effects, nothing normal.
        shape = (4, 12)
        parts = [
            rng.choice((-1, 1), size) * math.sqrt(v)
            for size, v in zip(((4, 1), 12, shape), true, strict=True)
        ]
        differences = sum(parts)
        num_seeds, num_items = shape
        rest = differences - differences.mean(0) - differences.mean(1, keepdims=True) + differences.mean()
        ms_residual = (rest**2).sum() / 33
        found.append(
            (
                differences.mean(1).var(ddof=1) - ms_residual / num_items,
                differences.mean(0).var(ddof=1) - ms_residual / num_seeds,
                ms_residual,
            )
        )
        ours = power.of_differences(differences)
        assert ours[:3] == pytest.approx([max(value, 0) for value in found[-1]], abs=1e-12)
    spread = np.std(found, axis=0) / math.sqrt(len(found))
    assert np.all(np.abs(np.mean(found, axis=0) - true) < 3 * spread)


@pytest.mark.parametrize(("num_seeds", "seeds"), [(5, 0.3), (3, 0.0), (1, 0.0)])
def test_the_bootstrap_of_the_same_answers_has_the_error_of_the_test(num_seeds, seeds):
    first, second = answers(np.random.default_rng(1), num_seeds, 301, seeds=seeds)
    found = power.components(first, second)
    draws = comparisons.bootstrap_accuracies(np.stack([first, second]), num_draws=4000)
    ratio = np.std(draws[:, 0] - draws[:, 1]) / power.bootstrap_error(found)
    assert ratio == pytest.approx(1, abs=0.04)
    assert (
        power.standard_error(found)
        <= power.bootstrap_error(found)
        <= math.sqrt(3) * power.standard_error(found)
    )


def test_power_is_what_a_simulation_finds():
    """Of new runs of the same kind, the bootstrap's share of gains found is that which the components say."""
    rng, test = np.random.default_rng(2), power.Test()
    kind = {"gain": 0.1, "seeds": 0.05, "items": 0.2}
    pilot = [answers(rng, 20, 2000, **kind) for _ in range(3)]
    gain = float(np.mean([first.mean() - second.mean() for first, second in pilot]))
    expected = np.mean([power.power(power.components(*one), gain, seeds=5, items=150) for one in pilot])
    found = [
        comparisons.bootstrap_difference(*answers(rng, 5, 150, **kind), num_draws=400) for _ in range(250)
    ]
    rate = np.mean([one.p_value < test.level and one.mean > 0 for one in found])
    assert 0.3 < expected < 0.8
    assert rate == pytest.approx(expected, abs=0.08)


def test_numbers_needed_are_the_least_with_that_power():
    found = power.Components(1e-5, 0.04, 0.08, 5, 1000, (), 100.0)
    for test in (power.Test(), power.Test(level=0.01, num_tests=3, power=0.9)):
        for seeds in (1, 3, 10):
            needed = power.smallest_items(found, 0.03, seeds=seeds, test=test)
            assert power.power(found, 0.03, seeds=seeds, items=needed, test=test) >= test.power
            assert power.power(found, 0.03, seeds=seeds, items=needed - 1, test=test) < test.power
            least = power.detectable_gain(found, seeds=seeds, items=needed, test=test)
            assert 0.0299 < least <= 0.03
    # By the normal table: 1.96 + 0.8416 standard errors, one seed each of variance 0.25.
    plain = power.Components(None, 0.25, 0.0, 1, 100, (), 99.0)
    assert power.detectable_gain(plain) == pytest.approx((1.959964 + 0.841621) * 0.05, abs=1e-5)
    assert power.smallest_items(plain, 0.1, seeds=1) == math.ceil((2.801585 / 0.1) ** 2 * 0.25)
    assert power.Test(num_tests=5).critical == pytest.approx(2.575829, abs=1e-6)


def test_what_no_number_is_enough_for():
    # With two seeds the spread of seeds alone is 0.05; with 100 items that of items alone is 0.02.
    found = power.Components(0.005, 0.04, 0.0, 5, 1000, (), 4.0)
    assert power.smallest_items(found, 0.1, seeds=2) is None
    assert power.smallest_items(found, 0.1, seeds=5) is not None
    assert power.smallest_seeds(found, 0.05, items=100) is None
    assert power.smallest_seeds(found, 0.1, items=100) > 5
    nothing = power.Components(0.0, 0.0, 0.0, 5, 1000, (), 1.0)
    assert power.detectable_gain(nothing) is None


def test_a_gain_needs_answers_that_differ():
    """Of two methods that differ on 1 % of the answers, a gain of 10 points is not seen as easily as that would say."""
    found = power.Components(None, 0.01, 0.0, 1, 100, (), 99.0)
    ninety = power.Components(None, 0.09, 0.0, 1, 100, (), 99.0)
    assert power.power(found, 0.1, items=50) == power.power(ninety, 0.1, items=50)
    assert power.power(found, 0.005) == power.power(found._replace(items=0.01), 0.005)


def test_interval_of_the_error_is_that_of_a_variance():
    # 30 independent items of one seed: the interval of a standard deviation, 29 degrees of freedom.
    found = power.Components(None, 0.3, 0.0, 1, 30, (), 29.0)
    low, high = power.error_interval(found)
    assert (low / 0.1, high / 0.1) == (pytest.approx(0.7964, abs=1e-4), pytest.approx(1.3443, abs=1e-4))


def test_what_is_not_paired_is_refused():
    for first, second in (([[1, 0]], [[1]]), ([1, 0], [1, 0]), ([[1], [0]], [[0], [0]])):
        with pytest.raises(ValueError, match="seeds, items"):
            power.components(first, second)
