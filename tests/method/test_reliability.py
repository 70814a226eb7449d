"""Reliability of answers against the paper's definitions in float64, written apart from the code."""

import fractions
import itertools
import math

import numpy as np
import pytest

from selw2s_jax.method import reliability

# Partitions of five answers: their entropy, the score of each prediction, and the mean score of the five answers.
TABLE = [
    ((5,), 0.0, (1.0,), 1.0),
    ((4, 1), 0.500, (0.953, 0.047), 0.772),
    ((3, 2), 0.673, (0.731, 0.269), 0.546),
    ((3, 1, 1), 0.950, (0.787, 0.107, 0.107), 0.515),
    ((2, 2, 1), 1.055, (0.422, 0.422, 0.155), 0.369),
    ((2, 1, 1, 1), 1.332, (0.475, 0.175, 0.175, 0.175), 0.295),
    ((1, 1, 1, 1, 1), 1.609, (0.2,) * 5, 0.2),
]


def entropy64(counts) -> float:
    p = np.array(counts, np.float64) / np.sum(counts)
    return float(-(p * np.log(p)).sum())


def scores64(counts, temperature: float) -> np.ndarray:
    powers = np.exp(np.array(counts, np.longdouble) / np.sum(counts) / temperature)
    return (powers / powers.sum()).astype(np.float64)


def partitions(total: int, largest: int | None = None):
    for first in range(min(total, largest or total), 0, -1):
        if first == total:
            yield (first,)
        for rest in partitions(total - first, first) if first < total else ():
            yield (first, *rest)


def test_the_prediction_set_is_in_order_of_appearance_with_none_among_it():
    assert reliability.prediction_set(["5%", "2%", "10%", "10%", "5%"]) == (["5%", "2%", "10%"], [2, 1, 2])
    assert reliability.prediction_set([None, 3, None, 0, 3]) == ([None, 3, 0], [2, 2, 1])
    eighteen = fractions.Fraction("18.00")
    assert reliability.prediction_set([eighteen, fractions.Fraction(18)]) == ([18], [2])
    assert reliability.prediction_set([]) == ([], [])


@pytest.mark.parametrize(("counts", "entropy", "scores", "mean"), TABLE, ids=[str(row[0]) for row in TABLE])
def test_five_answers_to_the_printed_digits(counts, entropy, scores, mean):
    assert round(reliability.entropy(counts), 3) == entropy
    found = reliability.scores(counts, 0.2)
    np.testing.assert_array_equal(np.round(found, 3), scores)
    assert round(float(np.dot(found, counts)) / 5, 3) == mean


@pytest.mark.parametrize("total", [1, 2, 3, 5, 7, 8])
@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0, 30.0])
def test_formulas_against_their_definitions(total, temperature):
    for counts in partitions(total):
        assert reliability.entropy(counts) == pytest.approx(entropy64(counts), abs=1e-15)
        found = reliability.scores(counts, temperature)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, scores64(counts, temperature), rtol=1e-13)
        assert found.sum() == pytest.approx(1, abs=1e-15)


def test_equal_partitions_have_equal_floats_in_any_order():
    for counts in partitions(7):
        orders = set(itertools.permutations(counts))
        assert len({reliability.entropy(order).hex() for order in orders}) == 1
        of_count = {
            (n, score.hex())
            for order in orders
            for n, score in zip(order, reliability.scores(order, 0.2), strict=True)
        }
        assert len(of_count) == len(set(counts))
    # Proportions, too, where some answers are left out.
    assert reliability.entropy([2, 4]).hex() == reliability.entropy([2, 1]).hex()
    np.testing.assert_array_equal(reliability.scores([2, 4], 0.2), reliability.scores([1, 2], 0.2))


def test_limits():
    assert math.copysign(1, reliability.entropy([3])) == 1 and reliability.entropy([3]) == 0
    np.testing.assert_array_equal(reliability.scores([1, 1], 7.0), [0.5, 0.5])  # N = 2: 1 or 1/2, whatever T
    np.testing.assert_array_equal(
        reliability.scores([4, 1], 1e-9), [1, 0]
    )  # exp of 8e8, but for the subtraction
    assert reliability.scores([3, 1, 1], 0.2)[0] > reliability.scores([3, 2], 0.2)[0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: reliability.entropy([]),
        lambda: reliability.entropy([2, 0]),
        lambda: reliability.scores([], 0.2),
        lambda: reliability.scores([1, -1], 0.2),
        lambda: reliability.scores([1], 0.0),
        lambda: reliability.scores([1], math.nan),
        lambda: reliability.threshold([], 50),
        lambda: reliability.threshold([math.nan], 50),
        lambda: reliability.threshold([1.0], 101),
        lambda: reliability.keep([1.0], -1),
        lambda: reliability.keep([1.0], 50, "drop"),
        lambda: reliability.keep([1.0], 50, "split", [0.5, 0.5]),
        lambda: reliability.assess([[1]], unparsed="ignored"),
        lambda: reliability.assess([[1]], temperature=0),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError):
        wrong()


@pytest.mark.parametrize("percentile", [0, 12.5, 33, 50, 90, 100])
@pytest.mark.parametrize("count", [1, 2, 11, 12])
def test_the_threshold_interpolates(percentile, count):
    values = np.random.default_rng(count).random(count)
    expected = np.percentile(values, percentile, method="linear")
    assert reliability.threshold(values, percentile) == pytest.approx(expected, rel=1e-14)


def test_a_percentile_that_is_one_of_the_values_is_it_exactly():
    values = np.random.default_rng(0).random(101)
    for percentile in range(101):  # 29 / 100 * 100 is less than 29
        assert reliability.threshold(values, percentile) == np.sort(values)[percentile]
    assert reliability.keep(values, 29).sum() == 30


def test_ties_are_kept_or_split_by_draws():
    of_counts = {counts: reliability.entropy(counts) for counts in partitions(5)}
    entropies = np.array([of_counts[c] for c in [(5,)] * 3 + [(4, 1)] * 5 + [(3, 2)] * 2])
    np.testing.assert_array_equal(reliability.keep(entropies, 50), [True] * 8 + [False] * 2)
    draws = np.array([0.0] * 3 + [0.9, 0.1, 0.5, 0.2, 0.3] + [0.0] * 2)
    split = reliability.keep(entropies, 50, "split", draws)
    np.testing.assert_array_equal(split, [True] * 3 + [False, True, False, True, False] + [False] * 2)
    order = np.random.default_rng(0).permutation(10)
    np.testing.assert_array_equal(reliability.keep(entropies[order], 50, "split", draws[order]), split[order])
    assert reliability.keep(entropies, 50, "split").sum() == 5
    unanimous = np.zeros(9)
    assert reliability.keep(unanimous, 50).all() and reliability.keep(unanimous, 50, "split").sum() == 5


@pytest.mark.parametrize("count", [1, 2, 10, 11])
@pytest.mark.parametrize("percentile", [0, 40, 50, 99, 100])
def test_without_ties_both_ways_are_one(count, percentile):
    values = np.random.default_rng(count).permutation(count) / 7
    kept = reliability.keep(values, percentile)
    np.testing.assert_array_equal(kept, reliability.keep(values, percentile, "split"))
    assert kept.sum() == sum(value <= np.percentile(values, percentile) for value in values)


@pytest.mark.parametrize(
    ("unparsed", "entropies", "first_scores", "rows"),
    [
        ("class", [entropy64([3, 2]), math.nan, entropy64([1, 1])], scores64([3, 2], 0.2), [3, 0, 1]),
        ("trained", [entropy64([3, 2]), 0.0, entropy64([1, 1])], scores64([3, 2], 0.2), [5, 2, 2]),
        ("left_out", [0.0, math.nan, 0.0], [1.0, math.nan], [3, 0, 1]),
        ("drop_question", [math.nan] * 3, [math.nan] * 2, [0, 0, 0]),
    ],
)
def test_unparsed_answers(unparsed, entropies, first_scores, rows):
    found = reliability.assess([[7, None, 7, 7, None], [None, None], [4, None]], unparsed=unparsed)
    np.testing.assert_allclose(found.entropies, entropies, atol=1e-15)
    np.testing.assert_allclose(found.scores[0, :2], first_scores, rtol=1e-13)
    assert np.isnan(found.scores[1:, 2:]).all() and found.scores.shape == found.is_row.shape == (3, 5)
    np.testing.assert_array_equal(found.is_row.sum(1), rows)
    np.testing.assert_array_equal(found.takes_part, ~np.isnan(entropies))


def test_where_all_is_parsed_the_ways_are_one():
    answers = np.random.default_rng(3).integers(4, size=(40, 5)).tolist()
    first, *others = (reliability.assess(answers, unparsed=way) for way in reliability.UNPARSED)
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)
    for given, entropy, scores in zip(answers, first.entropies, first.scores, strict=True):
        counts = [given.count(answer) for answer in dict.fromkeys(given)]
        assert entropy == pytest.approx(entropy64(counts), abs=1e-15)
        of_each = dict(zip(dict.fromkeys(given), scores64(counts, 0.2), strict=True))
        np.testing.assert_allclose(scores, [of_each[answer] for answer in given], rtol=1e-13)
    empty = reliability.assess([])
    assert empty.entropies.shape == (0,) and empty.scores.shape == empty.is_row.shape == (0, 0)


def test_the_commonest_answer_of_tied_ones_the_first():
    assert reliability.majority([2, None, 1, None, 1]) is None
    assert reliability.majority([2, 1, 1, 2, 0]) == 2
    assert reliability.majority([0]) == 0
    with pytest.raises(ValueError, match="no answers"):
        reliability.majority([])
