"""What a model says in numbers that are none is no answer: it stops, and the example is named."""

import dataclasses
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from selw2s_jax import sharding
from selw2s_jax.data import by_id
from selw2s_jax.errors import UserError
from selw2s_jax.inference import answering, classify, fewshot, generate, partials, prefix
from selw2s_jax.run import outcome

BAD = 77  # the token of the example that goes wrong
LENGTHS = (3, 5, 2, 9, 4)
OPTIONS = {"mesh": sharding.single_device_mesh(), "batch_tokens": 64, "label": "test"}


def forward(static, params, batch):
    """For each example the sum of its tokens; what `static` says in the place of one with the bad token."""
    tokens = jnp.where(batch.segment_ids[0] > 0, batch.tokens[0], 0)
    inside = batch.segment_ids[0][batch.row[0]] == batch.segment_ids[0][batch.row[0], batch.last[0]][:, None]
    of_example = jnp.where(inside, tokens[batch.row[0]], 0)
    wrong = (of_example == BAD).any(axis=1)
    total = of_example.sum(axis=1).astype(jnp.float32)
    value = {"nan": jnp.nan, "inf": jnp.inf, "-inf": -jnp.inf, "sound": 0.0}[static]
    return jnp.where(wrong, value, total), jnp.stack([total, total], axis=-1)


def examples(bad=3):
    tokens = [np.arange(1, length + 1, dtype=np.int32) for length in LENGTHS]
    tokens[bad][0] = BAD
    return tokens


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_score_that_is_not_finite_names_its_example(value):
    sound, _ = classify.score(forward, "sound", None, examples(), **OPTIONS)
    assert np.isfinite(sound).all()
    with pytest.raises(classify.NotFiniteError) as raised:
        classify.score(forward, value, None, examples(), **OPTIONS)
    assert raised.value.index == 3
    ids = [f"sciq/test/{number}" for number in range(len(LENGTHS))]
    message = r"the answers of M for sciq/test/3 are not finite .* of them: lower it"
    with pytest.raises(UserError, match=message), classify.naming("the answers of M", ids, "lower it"):
        classify.score(forward, value, None, examples(), **OPTIONS)


def test_what_was_done_before_is_not_taken_where_it_is_not_finite(tmp_path):
    partial = partials.Partial(tmp_path / "scores.npz")
    partial.save(np.arange(2), [np.array([np.nan, 1], np.float32), np.zeros((2, 2), np.float32)])
    partial.settle()
    found, _ = classify.score(forward, "sound", None, examples(), partial=partial, **OPTIONS)
    np.testing.assert_array_equal(found, classify.score(forward, "sound", None, examples(), **OPTIONS)[0])


def test_prompts_that_share_a_beginning_keep_their_places(monkeypatch):
    """The index of an example in its group is not that among all."""

    def score(*args, **options):
        raise classify.NotFiniteError(1)

    monkeypatch.setattr(classify, "score", score)
    monkeypatch.setattr(prefix.nnx, "split", lambda decoder: (None, None))
    monkeypatch.setattr(prefix, "group", lambda tokens, keep: [prefix.Group(np.array([4, 2, 0]), 0)])
    with pytest.raises(classify.NotFiniteError) as raised:
        prefix.score(forward, "nan", None, examples(), **OPTIONS)
    assert raised.value.index == 2


def test_a_distribution_that_is_none_gives_no_token(monkeypatch):
    settings = generate.Settings(max_new_tokens=2, temperature=0.0)
    logits = jnp.array([[0.0, 2.0, 1.0], [0.0, jnp.nan, 1.0], [0.0, 1.0, jnp.inf]])
    model = types.SimpleNamespace(lm_logits=lambda hidden: logits, mesh=OPTIONS["mesh"])
    for temperature in (0.0, 1.0):
        compiled = generate._Compiled(None, dataclasses.replace(settings, temperature=temperature), 1)
        keys, index = jnp.zeros((3, 2), jnp.uint32), jnp.zeros(3, jnp.int32)
        tokens = generate._next_tokens(compiled, model, None, keys, index).tolist()
        assert tokens[0] >= 0 and tokens[1:] == [-1, -1]


def test_an_answer_that_is_no_text_names_its_question(monkeypatch, tmp_path):
    """Of a block of questions that are left the index is that among all."""
    questions = [types.SimpleNamespace(example_id=f"q{number}") for number in range(4)]
    prompts = answering.Prompts([np.zeros(1, np.int32)] * 4, None, {})
    partial = partials.Partial(tmp_path / "scores.npz")
    partial.save(np.array([0, 2]), [np.ones(2, np.float32), np.zeros(2, np.int32), np.array(["a", "b"])])
    partial.settle()

    def generated(*args, **options):
        raise classify.NotFiniteError(1)

    monkeypatch.setattr(generate, "generate", generated)
    with pytest.raises(classify.NotFiniteError) as raised:
        answering.solve(None, None, prompts, questions, None, None, batch_tokens=1, label="", partial=partial)
    assert raised.value.index == 3


def test_log_odds_that_are_none_are_no_answer(monkeypatch):
    """`NaN > 0.5` is False, which would count as the answer 0."""
    monkeypatch.setattr(fewshot, "require_lm_head", lambda decoder: None)

    def score(*args, **options):
        raise classify.NotFiniteError(0)

    monkeypatch.setattr(prefix, "score", score)
    with pytest.raises(classify.NotFiniteError):
        fewshot.answer_log_odds(None, examples(), (0, 1), **OPTIONS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_stored_value_that_is_not_finite_joins_nothing(value):
    with pytest.raises(UserError, match=r"artifact answers/k holds .* for b, which is no finite number"):
        by_id.join({"a": 1.0, "b": value}, ["a", "b"], "artifact answers/k")
    assert by_id.join({"a": 1.0, "b": value}, ["a"], "artifact answers/k").tolist() == [1.0]


def test_results_have_null_for_what_is_not_finite():
    report = {
        "a": [1.0, float("nan"), (float("inf"), 2)],
        "b": {"c": float("-inf")},
        "d": None,
        "e": "nan",
        "f": True,
    }
    found = outcome.finite(report)
    assert found == {"a": [1.0, None, [None, 2]], "b": {"c": None}, "d": None, "e": "nan", "f": True}
    json.dumps(found, allow_nan=False)
