"""Row weights of every method against their definitions, one question at a time."""

import functools
import math

import numpy as np
import pytest

from selw2s_jax.data import by_id
from selw2s_jax.method import reliability, row_weights

NAMES = {
    *(
        "finetune",
        "majority",
        "all_variations",
        "all_variations_sampled",
        "entropy_filter",
        "entropy_filter_sampled",
    ),
    *(
        "random_filter",
        "reweighted",
        "reweighted_sampled",
        "shuffled_weights",
        "question_weights",
        "answer_weights",
    ),
}
OF_OWN_ANSWERS = {"self_training", "selective_by_entropy", "selective_by_consistency", "random_selection"}
BY_P_IK = {f"{of}_by_{what}" for of in ("self_training", "finetune") for what in ("p_ik", "shuffled_p_ik")}
SAMPLED = sorted(name for name in NAMES if name.endswith("_sampled"))


def make_inputs(num_questions: int = 40, *, unparsed: float = 0.2, seed: int = 0, num_variations=(5,)):
    rng = np.random.default_rng(7)
    answers = []
    for question in range(num_questions):
        given = rng.integers(
            1 + question % 4, size=1 + num_variations[question % len(num_variations)]
        ).tolist()
        answers.append([None if rng.random() < unparsed else answer for answer in given])
    ids = [f"task/{i}" for i in range(num_questions)]
    return row_weights.RowInputs(ids, answers, functools.partial(by_id.keyed_uniform, seed))


def reordered(inputs: row_weights.RowInputs, order) -> row_weights.RowInputs:
    return inputs._replace(
        example_ids=[inputs.example_ids[i] for i in order], answers=[inputs.answers[i] for i in order]
    )


def scores_of(given) -> list[float]:
    """S_prob of each answer, None one prediction (Eq. 4)."""
    powers = {answer: math.exp(given.count(answer) / len(given) / 0.2) for answer in set(given)}
    return [powers[answer] / sum(powers.values()) for answer in given]


def entropy_of(given) -> float:
    return -sum(p * math.log(p) for p in (given.count(answer) / len(given) for answer in set(given)))


def kept_of(inputs) -> np.ndarray:
    entropies = np.array([round(entropy_of(given), 12) for given in inputs.varied])
    return entropies <= np.median(entropies)


def parsed(inputs) -> np.ndarray:
    return np.array([[answer is not None for answer in given] for given in inputs.varied])


def weights(name, inputs, **options) -> np.ndarray:
    return row_weights.get(name, **options)(inputs).weights


def test_the_registry_has_the_methods():
    assert set(row_weights.ROW_WEIGHTS) == NAMES | OF_OWN_ANSWERS | BY_P_IK
    assert row_weights.ROW_WEIGHTS.option_names("reweighted_sampled") == {
        "temperature",
        "normalize",
        "unparsed",
    }
    assert not any(row_weights.ROW_WEIGHTS.required_names(name) for name in NAMES)
    with pytest.raises(KeyError, match="unknown row weights 'none'; registered: all_variations, "):
        row_weights.get("none")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_weights_have_a_place_for_every_prompt_and_do_not_depend_on_order(name):
    inputs = make_inputs(num_variations=(5, 3, 2))
    rows = row_weights.get(name)(inputs)
    assert rows.weights.shape == (40, 6) and rows.weights.dtype == np.float64
    assert (rows.weights >= 0).all() and (rows.weights > 0).any()
    for given, of_question in zip(inputs.answers, rows.weights, strict=True):
        assert not of_question[len(given) :].any()
        if rows.predictions is None:
            assert not any(
                weight for answer, weight in zip(given, of_question, strict=False) if answer is None
            )
    order = np.random.default_rng(1).permutation(40)
    again = row_weights.get(name)(reordered(inputs, order))
    np.testing.assert_array_equal(again.weights, rows.weights[order])
    if rows.predictions is not None:
        assert again.predictions == [rows.predictions[i] for i in order]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_questions_and_no_answers(name):
    nobody = make_inputs(0)
    assert row_weights.get(name)(nobody).weights.shape[0] == 0
    for way in reliability.UNPARSED:
        if way != "trained":
            assert not weights(name, make_inputs(6, unparsed=1.0), unparsed=way).any()
    one = make_inputs(1, unparsed=0.0)
    assert weights(name, one).any()


def test_finetune_takes_the_original_prompts():
    inputs = make_inputs()
    rows = row_weights.get("finetune")(inputs)
    assert rows.predictions is None and not rows.weights[:, 1:].any()
    expected = [float(answer is not None) for answer in inputs.original]
    assert 0 < sum(expected) < 40
    for way in ("class", "left_out", "drop_question"):
        np.testing.assert_array_equal(weights("finetune", inputs, unparsed=way)[:, 0], expected)
    assert weights("finetune", inputs, unparsed="trained")[:, 0].all()


def test_all_variations():
    inputs = make_inputs()
    np.testing.assert_array_equal(weights("all_variations", inputs)[:, 1:], parsed(inputs))
    assert weights("all_variations", inputs, unparsed="trained")[:, 1:].all()
    np.testing.assert_array_equal(
        weights("all_variations", inputs, unparsed="drop_question")[:, 1:],
        np.repeat(parsed(inputs).all(1), 5).reshape(-1, 5),
    )


@pytest.mark.parametrize("unparsed", [0.0, 0.2])
def test_entropy_filter(unparsed):
    inputs = make_inputs(unparsed=unparsed)
    kept = kept_of(inputs)
    assert 20 < kept.sum() < 40
    np.testing.assert_array_equal(weights("entropy_filter", inputs)[:, 1:], kept[:, None] & parsed(inputs))
    split = weights("entropy_filter", inputs, ties="split", unparsed="trained").any(1)
    assert split.sum() == 20 and not (split & ~kept).any()
    everything = weights("entropy_filter", inputs, percentile=100)
    np.testing.assert_array_equal(everything, weights("all_variations", inputs))


def test_dropped_questions_are_not_among_those_that_tau_is_of():
    inputs = make_inputs(60)
    whole = np.flatnonzero(parsed(inputs).all(1))
    filtered = weights("entropy_filter", inputs, unparsed="drop_question")
    np.testing.assert_array_equal(filtered[whole], weights("entropy_filter", reordered(inputs, whole)))
    assert not np.delete(filtered, whole, axis=0).any()


def test_random_filter_keeps_as_many_questions():
    inputs = make_inputs(unparsed=0.0)
    kept, drawn = (weights(name, inputs)[:, 1:] for name in ("entropy_filter", "random_filter"))
    assert drawn.all(1).sum() == drawn.any(1).sum() == kept.any(1).sum()
    others = weights("random_filter", inputs._replace(draw=functools.partial(by_id.keyed_uniform, 1)))
    assert (drawn != kept).any() and (drawn != others[:, 1:]).any()


@pytest.mark.parametrize("unparsed", [0.0, 0.2])
def test_reweighted_and_its_two_parts(unparsed):
    inputs = make_inputs(unparsed=unparsed)
    is_row = parsed(inputs)
    expected = np.array([scores_of(list(given)) for given in inputs.varied]) * is_row
    np.testing.assert_allclose(weights("reweighted", inputs)[:, 1:], expected, rtol=1e-13)
    counts = is_row.sum(1)
    means = expected.sum(1) / np.maximum(counts, 1)
    between, within = (weights(name, inputs)[:, 1:] for name in ("question_weights", "answer_weights"))
    np.testing.assert_allclose(between, means[:, None] * is_row, rtol=1e-13)
    np.testing.assert_allclose(between * within, expected, rtol=1e-13)
    np.testing.assert_allclose(within.sum(1), counts, rtol=1e-13)
    np.testing.assert_array_equal(weights("reweighted", inputs, normalize="question")[:, 1:], within)
    as_they_are, of_loss = (weights("reweighted", inputs, normalize=way) for way in ("none", "batch"))
    np.testing.assert_array_equal(as_they_are, of_loss)
    for name in ("reweighted", "shuffled_weights"):
        with pytest.raises(ValueError, match="normalize is 'all'"):
            row_weights.get(name, normalize="all")


def test_scores_over_left_out_answers():
    inputs = make_inputs(1)._replace(answers=[[0, 2, None, 2, 1, None]])
    expected = scores_of([2, 2, 1])
    found = weights("reweighted", inputs, unparsed="left_out")[0]
    np.testing.assert_allclose(found, [0, expected[0], 0, expected[1], expected[2], 0], rtol=1e-13)


def test_a_score_that_vanishes_is_still_a_row():
    inputs = make_inputs(1)._replace(answers=[[0, 2, 2, 2, 2, 1]])
    assert (weights("reweighted", inputs, temperature=1e-6)[0, 1:].astype(np.float32) > 0).all()


def test_shuffled_weights_are_those_of_another_question():
    inputs = make_inputs(unparsed=0.0)
    own, others = (weights(name, inputs)[:, 1:] for name in ("reweighted", "shuffled_weights"))
    np.testing.assert_array_equal(*(np.array(sorted(map(tuple, rows))) for rows in (own, others)))
    # Nobody has its own: told by scores that occur once.
    distinct = [[0, *range(i), *[-1] * (60 - i)] for i in range(1, 12)]
    inputs = make_inputs(11)._replace(answers=distinct)
    own, others = (weights(name, inputs) for name in ("reweighted", "shuffled_weights"))
    giver = [next(j for j in range(11) if np.array_equal(own[j], row)) for row in others]
    assert sorted(giver) == list(range(11)) and all(i != j for i, j in enumerate(giver))


def test_shuffled_weights_leave_the_rows():
    inputs = make_inputs()
    shuffled = weights("shuffled_weights", inputs)
    np.testing.assert_array_equal(shuffled > 0, weights("all_variations", inputs) > 0)
    assert (shuffled <= 1).all()


@pytest.mark.parametrize("name", SAMPLED)
def test_sampled_rows(name):
    inputs = make_inputs(60)
    whole, sampled = (weights(one, inputs) for one in (name.removesuffix("_sampled"), name))
    chosen = sampled > 0
    assert chosen.sum() == min(60, (whole > 0).sum()) == 60
    np.testing.assert_array_equal(sampled[chosen], whole[chosen])
    # A question more changes nothing but who is beyond the number.
    fewer = weights(name, reordered(inputs, range(59)))
    both = (sampled[:59] > 0) & (fewer > 0)
    assert both.sum() >= 40
    other_seed = weights(name, inputs._replace(draw=functools.partial(by_id.keyed_uniform, 1)))
    assert (chosen != (other_seed > 0)).any()


def test_sampling_is_uniform_and_takes_all_where_there_are_few():
    counts = np.zeros((8, 6))
    for seed in range(400):
        inputs = make_inputs(8, unparsed=0.0, seed=seed)
        counts += weights("all_variations_sampled", inputs)
    assert counts.sum() == 8 * 400 and not counts[:, 0].any()
    expected = 400 / 5
    assert ((counts[:, 1:] - expected) ** 2 / (expected * 0.8)).sum() < 75  # chi-squared of 39: 0.9995
    few = make_inputs(5)._replace(answers=[[0, 1, None]] * 5)
    np.testing.assert_array_equal(weights("all_variations_sampled", few), weights("all_variations", few))


def test_sampled_methods_draw_the_same_rows():
    inputs = make_inputs(60)
    rows, reweighted = (weights(f"{name}_sampled", inputs) > 0 for name in ("all_variations", "reweighted"))
    np.testing.assert_array_equal(rows, reweighted)


@pytest.mark.parametrize(
    ("given", "unparsed", "expected"),
    [
        ([0, 1, 2, 2, 1, 1], "class", 1),
        ([0, 2, 1, 1, 2, 3], "class", 2),  # tied: the earliest
        ([None, 3, 3, 1], "class", 3),
        ([0, None, None, 2], "class", None),
        ([0, None, None, 2], "trained", None),
        ([0, None, None, 2], "left_out", 2),
        ([0, None, 2, 2], "drop_question", None),
        ([0, None, 2, 2], "class", 2),
        ([0, None], "left_out", None),
    ],
)
def test_majority(given, unparsed, expected):
    rows = row_weights.get("majority", unparsed=unparsed)(make_inputs(1)._replace(answers=[given]))
    assert rows.predictions == [expected]
    np.testing.assert_array_equal(rows.weights[0], [expected is not None, *[0] * (len(given) - 1)])
