"""Weak labels by entropy, score and letter, against plain code, with ties and unparsed answers."""

import fractions
import itertools
import json
import math

import numpy as np
import pytest
from support import written_runs

from selw2s_jax.analysis import metrics, reliability, results
from selw2s_jax.data import by_id
from selw2s_jax.method import reliability as scores_lib


def _plain_entropy(given):
    counts = [given.count(one) for one in set(given)]
    return -sum(c / len(given) * math.log(c / len(given)) for c in counts)


def _plain_score(given, answer, temperature):
    powers = {one: math.exp(given.count(one) / len(given) / temperature) for one in set(given)}
    return powers[answer] / sum(powers.values())


ANSWERS, TRUTHS, LETTERS = written_runs.made_answers()


@pytest.fixture(scope="module")
def described():
    return reliability.describe(ANSWERS, TRUTHS, kind="choice", letters=LETTERS)


def test_bars_of_entropy_are_those_of_plain_code(described):
    bars = described["entropies"]
    entropies = [_plain_entropy(given[1:]) for given in ANSWERS]
    assert [bar["entropy"] for bar in bars] == pytest.approx(sorted({round(e, 9) for e in entropies}))
    for bar in bars:
        questions = [q for q, e in enumerate(entropies) if abs(e - bar["entropy"]) < 1e-9]
        assert bar["questions"] == len(questions) and bar["share"] == len(questions) / len(ANSWERS)
        original = [ANSWERS[q][0] == TRUTHS[q] for q in questions]
        varied = [one == TRUTHS[q] for q in questions for one in ANSWERS[q][1:]]
        assert bar["original"]["share"] == np.mean(original) and bar["varied"]["share"] == np.mean(varied)
        assert (bar["original"]["n"], bar["varied"]["n"]) == (len(original), len(varied))
        assert bar["varied"]["unparsed"] == sum(one is None for q in questions for one in ANSWERS[q][1:])
        low, high = metrics.wilson_interval(sum(original), len(original))
        assert (bar["original"]["low"], bar["original"]["high"]) == pytest.approx((low, high))
        assert bar["varied"]["low"] <= bar["varied"]["share"] <= bar["varied"]["high"]
    assert [bar["counts"] for bar in bars] == [
        ["5"], ["4 1"], ["3 2"], ["3 1 1"], ["2 2 1"], ["2 1 1 1"], ["1 1 1 1 1"],
    ][: len(bars)]  # fmt: skip


def test_the_filter_keeps_all_ties_and_tells_what_it_leaves(described):
    entropies = np.array([_plain_entropy(given[1:]) for given in ANSWERS])
    tau = np.percentile(entropies, 50)
    kept = np.flatnonzero(entropies <= tau + 1e-9)
    found = described["filter"]
    assert found["tau"] == pytest.approx(tau) and found["kept"] == len(kept) > len(ANSWERS) / 2
    assert found["kept_share"] == len(kept) / len(ANSWERS)
    for when, questions in (("before", range(len(ANSWERS))), ("after", kept)):
        right = [one == TRUTHS[q] for q in questions for one in ANSWERS[q][1:]]
        assert found[when]["varied"]["share"] == np.mean(right)
        common = [
            max(dict.fromkeys(ANSWERS[q][1:]), key=ANSWERS[q][1:].count) == TRUTHS[q] for q in questions
        ]
        assert found[when]["majority"]["share"] == np.mean(common)
    assert found["after"]["varied"]["share"] > found["before"]["varied"]["share"]


def test_split_ties_keep_as_many_as_the_method_does():
    names = [f"q{number}" for number in range(len(ANSWERS))]
    draws = [by_id.keyed_uniform(0, "tied entropies", name) for name in names]
    found = reliability.describe(ANSWERS, TRUTHS, kind="choice", ties="split", draws=draws)
    assert found["filter"]["kept"] == 42
    entropies = scores_lib.assess([given[1:] for given in ANSWERS]).entropies
    kept = np.flatnonzero(scores_lib.keep(entropies, 50, "split", draws))
    assert found["filter"]["after"]["original"]["right"] == sum(ANSWERS[q][0] == TRUTHS[q] for q in kept)


def test_mean_scores_by_shown_letter(described):
    cells = {}
    for q, given in enumerate(ANSWERS):
        for place, answer in enumerate(given[1:], start=1):
            letter = None if answer is None else LETTERS.chosen[q][place]
            key = letter, LETTERS.right[q][place]
            cells.setdefault(key, []).append(_plain_score(given[1:], answer, 0.2))
    found = described["scores"]
    assert found["weak"] == [*"ABCD", "none"] and found["truth"] == [*"ABCD"]
    for (row, answer), column in itertools.product(enumerate((0, 1, 2, 3, None)), range(4)):
        values = cells.get((answer, column), [])
        assert found["n"][row][column] == len(values)
        if values:
            assert found["mean"][row][column] == pytest.approx(np.mean(values), abs=1e-12)
            assert found["low"][row][column] <= found["mean"][row][column] <= found["high"][row][column]
    assert np.diag(found["mean"]).min() > 0.5


def test_weighted_share_is_right_by_score(described):
    pairs = [
        (_plain_score(given[1:], one, 0.2), one == TRUTHS[q])
        for q, given in enumerate(ANSWERS)
        for one in given[1:]
        if one is not None
    ]
    expected = sum(s for s, right in pairs if right) / sum(s for s, _ in pairs)
    found = described["weighted"]
    assert found["share"] == pytest.approx(expected, abs=1e-12)
    assert found["low"] < expected < found["high"]


def test_auroc_of_entropy_and_score_for_a_wrong_label(described):
    rows = [
        (q, one) for q, given in enumerate(ANSWERS) for one in given[1:] if one is not None
    ]  # labels that may be trained on
    entropies = [_plain_entropy(given[1:]) for given in ANSWERS]
    found = {(area["score"], area["label"]): area for area in described["auroc"]}
    wrong = [one != TRUTHS[q] for q, one in rows]
    expected = metrics.auroc([round(entropies[q], 9) for q, _ in rows], wrong)
    assert found["entropy", "varied"]["auroc"] == pytest.approx(expected, abs=1e-12)
    expected = metrics.auroc([-round(_plain_score(ANSWERS[q][1:], one, 0.2), 9) for q, one in rows], wrong)
    assert found["score", "varied"]["auroc"] == pytest.approx(expected, abs=1e-12)
    originals = [q for q, given in enumerate(ANSWERS) if given[0] is not None]
    wrong = [ANSWERS[q][0] != TRUTHS[q] for q in originals]
    area = found["entropy", "original"]
    values = [round(entropies[q], 9) for q in originals]
    assert area["auroc"] == pytest.approx(metrics.auroc(values, wrong), abs=1e-12)
    assert (area["auroc_low"], area["auroc_high"]) == pytest.approx(
        metrics.auroc_interval(values, wrong), abs=1e-9
    )
    assert area["n"] == len(originals) and area["wrong"] == sum(wrong)
    values = [
        _plain_score(ANSWERS[q][1:], ANSWERS[q][0], 0.2) if ANSWERS[q][0] in ANSWERS[q][1:] else 0.0
        for q in originals
    ]
    expected = metrics.auroc([-round(value, 9) for value in values], wrong)
    assert found["score", "original"]["auroc"] == pytest.approx(expected, abs=1e-12)


def test_letters_are_counted_against_what_is_uniform(described):
    found = described["letters"]["varied"]
    chosen = [letter for given in LETTERS.chosen for letter in given[1:] if letter >= 0]
    assert found["chosen"] == [chosen.count(letter) for letter in range(4)] and found["n"] == len(chosen)
    assert found["expected"] == [len(chosen) / 4] * 4
    expected = sum((chosen.count(letter) - len(chosen) / 4) ** 2 / (len(chosen) / 4) for letter in range(4))
    assert found["chi_square"] == pytest.approx(expected) and found["p_value"] > 0.01
    assert sum(described["letters"]["original"]["right"]) == described["letters"]["original"]["n"]
    # A model that always says B, and questions of two and of three choices.
    letters = reliability.Letters([[1, 1, 1]] * 60, [[0, 1, 0], [2, 0, 1]] * 30, [2, 3] * 30)
    biased = reliability.describe([[0, 0, 1]] * 60, [0] * 60, kind="choice", letters=letters)["letters"]
    assert biased["varied"]["chosen"] == [0, 120, 0] and biased["varied"]["p_value"] < 1e-6
    assert biased["varied"]["expected"] == pytest.approx([50, 50, 20])
    # Choices that were never moved tell nothing of places.
    fixed = reliability.Letters([[1, 1]] * 9, [[0, 0]] * 9, [2] * 9)
    told = reliability.describe([[1, 1]] * 9, [0] * 9, kind="choice", letters=fixed)["letters"]["varied"]
    assert told["chi_square"] is told["p_value"] is None and told["chosen"] == [0, 9]


def test_the_order_of_questions_changes_no_bit_and_all_is_json(described):
    order = np.random.default_rng(1).permutation(len(ANSWERS)).tolist()
    letters = reliability.Letters(*([column[q] for q in order] for column in LETTERS))
    found = reliability.describe(
        [ANSWERS[q] for q in order], [TRUTHS[q] for q in order], kind="choice", letters=letters
    )
    assert found == described
    assert json.loads(json.dumps(described, allow_nan=False)) == described


@pytest.mark.parametrize("unparsed", scores_lib.UNPARSED)
def test_every_way_to_take_unparsed_answers(unparsed):
    half = fractions.Fraction(1, 2)
    answers = [[18, 18, 18], [half, half, None], [None, 3, 4], [7, None, None], [5, 5, 6]]
    truths = [18, half, 3, 7, 6]
    found = reliability.describe(answers, truths, kind="number", unparsed=unparsed)
    left_out = {"class": 1, "trained": 0, "left_out": 1, "drop_question": 2}[unparsed]
    assert found["left_out"] == left_out
    assert found["unparsed_answers"] == {"n": 10, "count": 3}  # whatever becomes of them
    assert results.format_reliability([{"seed": 0, **found}]).split()[-1] == "30.00"
    before = found["filter"]["before"]
    assert before["original"]["n"] == 5 - left_out
    answered = {"class": (8, 4), "trained": (10, 4), "left_out": (7, 5), "drop_question": (6, 4)}[unparsed]
    expected_right = {"class": 5, "trained": 5, "left_out": 5, "drop_question": 4}[unparsed]
    assert (before["varied"]["n"], before["varied"]["right"]) == (answered[0], expected_right)
    areas = {(area["score"], area["label"]): area for area in found["auroc"]}
    trained = {"class": 7, "trained": 10, "left_out": 7, "drop_question": 6}[unparsed]
    assert areas["score", "varied"]["n"] == trained
    scores = found["scores"]
    assert scores["truth"] == ["any"] and ("none" in scores["weak"]) == (unparsed in ("class", "trained"))
    # 18 twice, one half, 3 and 6 are right; an answer of two that differ has one half.
    assert scores["n"][0] == [expected_right]


def test_words_have_names_and_two_that_differ_are_half_right():
    answers = [[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]]
    found = reliability.describe(answers, [0, 1, 1, 1], kind="words", names=("acceptable", "unacceptable"))
    assert found["scores"]["weak"] == ["acceptable", "unacceptable"]
    assert [bar["varied"]["share"] for bar in found["entropies"]] == [0.5, 0.5]
    assert found["entropies"][1]["original"]["share"] == 1.0 and found["letters"] is None


def test_nothing_at_all_is_told_as_nothing():
    found = reliability.describe([[None, None]], [1], kind="choice", unparsed="left_out")
    assert found["filter"] is None and found["entropies"] == [] and found["weighted"]["share"] is None
    assert all(area["auroc"] is None and area["n"] == 0 for area in found["auroc"])
    unanimous = reliability.describe(
        [[1, 1, 1]] * 3, [1, 1, 0], kind="choice", conflicts=[[True, False, False]] * 3
    )
    assert unanimous["filter"]["kept"] == 3 and unanimous["filter"]["tau"] == 0
    assert unanimous["conflicts"] == {"n": 9, "count": 3}
    lines = results.format_reliability([{"seed": 3, **one} for one in (found, unanimous)]).splitlines()
    assert len(lines) == 2 and lines[1].split() == [
        "3",
        "3",
        "0.000",
        "100.00",
        *["66.67"] * 3,
        "0.500",
        "0.00",
    ]
    with pytest.raises(ValueError, match="kind"):
        reliability.describe([[1]], [1], kind="text")
