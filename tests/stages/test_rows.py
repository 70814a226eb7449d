"""What models that write are trained on: rows of every method against a table written by hand, and their tokens."""

import dataclasses
import math
import types

import numpy as np
import pytest
from support import tokenizer_folders, written_questions, written_stages

from selw2s_jax.data import by_id
from selw2s_jax.errors import UserError
from selw2s_jax.hf import tokenizers
from selw2s_jax.method import completion_methods, row_weights
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import predict, rows

HIGH = 1 / (1 + math.exp(-1 / 3 / 0.2))  # S_prob of the two that agree of three, and of the third
LOW = 1 - HIGH
# By method, question and variation of each row with its weight; two orders of one row are two lines.
ALL = {(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)}
SCORES = dict.fromkeys([(0, 1), (0, 2), (0, 3)], 1.0) | dict.fromkeys([(3, 1), (3, 2), (3, 3)], 1 / 3)
SCORES |= {(1, 1): HIGH, (1, 2): HIGH, (1, 3): LOW, (2, 2): HIGH, (2, 3): HIGH}
MEANS = {0: 1.0, 1: (2 * HIGH + LOW) / 3, 2: HIGH, 3: 1 / 3}
EXPECTED = {
    "finetune": {(0, 0): 1.0, (1, 0): 1.0, (3, 0): 1.0},
    "majority": {(q, 0): 1.0 for q in range(4)},
    "all_variations": dict.fromkeys(ALL, 1.0),
    "entropy_filter": {place: 1.0 for place in ALL if place[0] != 3},  # questions 1 and 2 are tied with tau
    "reweighted": SCORES,
    "question_weights": {place: MEANS[place[0]] for place in ALL},
    "answer_weights": {place: SCORES[place] / MEANS[place[0]] for place in ALL},
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A finished stage of answers, and the store that has it."""
    return written_stages.answered(tmp_path_factory.mktemp("answers"))


@pytest.fixture
def make(asked):
    def make(method: str, completion: str = "raw", **options) -> rows.Texts:
        stage, store = asked
        return rows.Weighted(stage.split, stage, method, options, completion, seed=3).texts(store)

    return make


def by_name(texts: rows.Texts) -> dict[str, float]:
    return dict(zip(texts.names, texts.weights.tolist(), strict=True))


def named(places: dict[tuple[int, int], float]) -> dict[str, float]:
    return {f"tiny_choice/test/{q}#{n}": pytest.approx(weight, rel=1e-6) for (q, n), weight in places.items()}


@pytest.mark.parametrize("method", EXPECTED)
def test_each_method_has_its_rows_and_weights(make, method):
    texts = make(method)
    assert by_name(texts) == named(EXPECTED[method])
    assert texts.weights.dtype == np.float32 and len(set(texts.names)) == len(texts.names)


@pytest.mark.parametrize("method", ["all_variations_sampled", "entropy_filter_sampled", "reweighted_sampled"])
def test_sampled_methods_have_as_many_rows_as_questions_of_the_same_weights(make, method):
    found, whole = by_name(make(method)), named(EXPECTED[method.removesuffix("_sampled")])
    assert len(found) == 4 and found == {name: whole[name] for name in found}


def test_controls_draw_by_id(make):
    """The same questions and rings whatever else is trained; weights of others of the same kind."""
    kept = {name.rpartition("#")[0] for name in by_name(make("random_filter"))}
    ids = [f"tiny_choice/test/{q}" for q in range(4)]
    assert kept == set(sorted(ids, key=lambda name: by_id.keyed_uniform(3, "random filter", name))[:3])
    shuffled = by_name(make("shuffled_weights"))
    assert shuffled.keys() == by_name(make("reweighted")).keys() and shuffled != by_name(make("reweighted"))


UNPARSED = {
    # Of question 2, whose answers are None, 1, 1.
    "class": {(2, 2): HIGH, (2, 3): HIGH},
    "left_out": {(2, 2): 1.0, (2, 3): 1.0},
    "drop_question": {},
    "trained": {(2, 1): LOW, (2, 2): HIGH, (2, 3): HIGH},
}


@pytest.mark.parametrize("unparsed", UNPARSED)
def test_answers_in_which_none_is_found(make, unparsed):
    found = by_name(make("reweighted", unparsed=unparsed))
    assert {name: w for name, w in found.items() if "/2#" in name} == named(UNPARSED[unparsed])
    original = by_name(make("finetune", unparsed=unparsed))
    assert ("tiny_choice/test/2#0" in original) == (unparsed == "trained")


def test_texts_are_those_of_the_prompts_that_were_answered(make):
    raw, canonical = (
        make("all_variations", unparsed="trained"),
        make("all_variations", "canonical", unparsed="trained"),
    )
    assert raw.names == canonical.names and raw.prompts == canonical.prompts
    lines = {name: i for i, name in enumerate(raw.names)}
    first = lines["tiny_choice/test/0#1"]
    assert raw.prompts[first] == "Q0 A. iron B. bird C. moon ### Answer:"
    assert raw.completions[first] == " A. iron, as it is heavy"
    assert canonical.completions[first] == " A. iron"
    second = lines["tiny_choice/test/1#3"]  # whose choices are iron, bird, moon, shown in the order 2, 0, 1
    assert raw.prompts[second] == "Q1? A. moon B. iron C. bird ### Answer:"
    assert raw.completions[second] == " the answer is A" and canonical.completions[second] == " A. moon"
    # Cut off, or not to be read: as it is; what is put into form has an end.
    cut = lines["tiny_choice/test/1#2"]
    assert raw.completions[cut] == " A. iron and iron and" and canonical.completions[cut] == " A. iron"
    assert (raw.has_end[cut], canonical.has_end[cut]) == (False, True)
    none = lines["tiny_choice/test/2#1"]
    assert raw.completions[none] == canonical.completions[none] == " who knows"
    assert raw.has_end.count(False) == 1 and all(canonical.has_end)


@pytest.mark.parametrize("completion", rows.COMPLETIONS)
def test_the_commonest_answer_is_in_the_form_of_the_original_prompt(make, completion):
    texts = make("majority", completion)
    # Where the original prompt was answered so, in the words that were written there.
    second = {"raw": " A", "canonical": " A. iron"}[completion]
    assert texts.completions == [" B. iron", second, " B. moon", " A. moon"]
    assert texts.prompts[0] == "Q0 A. moon B. iron C. bird ### Answer:"
    assert all(texts.has_end)


def test_own_answers_are_in_the_form_of_the_task_also_where_the_weak_model_wrote_the_same(asked):
    stage, store = asked
    texts = rows.Weighted(stage.split, stage, "self_training", {}, "raw", seed=3, own=stage).texts(store)
    assert texts.completions == [" B. iron", " A. iron", " B. moon", " A. moon"] and all(texts.has_end)


def test_ground_truth_is_what_the_task_has(asked):
    texts = rows.Truth(asked[0].split).known
    assert texts.completions == [" A. moon", " A. iron", " A. bird", " A. moon"]
    assert texts.weights.tolist() == [1.0] * 4 and all(texts.has_end)


# A user's row weights.


@pytest.mark.parametrize(
    ("weights", "predictions", "message"),
    [
        (np.ones((4, 3)), None, r"of 4 questions in at most 4 prompts they are \(4, 3\)"),
        (-np.eye(4), None, "finite and not negative"),
        (np.full((4, 4), 1e39), None, "finite and not negative"),
        (np.eye(4), [1, 1, 1], "3 predictions for 4 questions"),
        (np.ones((4, 4)), [1, None, 1, 1], "of a question without a prediction"),
    ],
)
def test_wrong_row_weights_are_refused(monkeypatch, make, weights, predictions, message):
    given = row_weights.Rows(weights, predictions)
    monkeypatch.setitem(row_weights.ROW_WEIGHTS._factories, "own", lambda: lambda inputs: given)
    with pytest.raises(UserError, match=f"^method 'own': its row weights fail: .*{message}") as raised:
        make("own")
    assert "\n" not in str(raised.value)


def test_row_weights_of_questions_with_fewer_answers():
    given = row_weights.Rows([[0, 1, 1], [0, 1, 0]])  # a list will do
    row_weights.check_rows(given, [3, 2])
    with pytest.raises(ValueError, match="beyond those of a question"):
        row_weights.check_rows(given, [2, 3])
    with pytest.raises(ValueError, match=r"a ndarray: return row_weights\.Rows"):
        row_weights.check_rows(np.ones((2, 3)), [3, 3])


def test_a_weight_that_is_0_in_float32_is_no_row(monkeypatch, make):
    given = row_weights.Rows(np.array([[0, 1e-60, 0, 2.0], *[[0] * 4] * 3]))
    monkeypatch.setitem(row_weights.ROW_WEIGHTS._factories, "own", lambda: lambda inputs: given)
    assert by_name(make("own")) == {"tiny_choice/test/0#3": 2.0}


# Tokens.

END = 1  # <|end|>


@pytest.fixture(scope="module")
def model(asked):
    return asked[0].model


def encode(texts, model, overlong="drop", learn_end=True, **changes):
    return rows.encode(
        texts,
        dataclasses.replace(model, **changes),
        overlong=overlong,
        label="reweighted, seed 0",
        learn_end=learn_end,
    )


def test_the_end_of_text_is_learnt_but_where_an_answer_was_cut_off(make, model):
    texts = make("all_variations")
    examples, counts = encode(texts, model)
    assert counts == {"overlong": 0, "left_out": 0, "unfinished": 1}
    assert rows.describe(counts, 11) == "of 11 rows 1 end where the answer was cut off"
    ends = [ids[-1] == END for ids in examples.tokens]
    assert ends == texts.has_end and ends.count(False) == 1
    for ids, prompt, completion in zip(examples.tokens, texts.prompts, texts.completions, strict=True):
        assert model.tokenizer.decode([i for i in ids.tolist() if i != END]) == prompt + completion
    np.testing.assert_array_equal(examples.columns["example_weight"], texts.weights)
    without, same = encode(texts, model, learn_end=False)
    assert same == counts  # of the answers, not of what is learnt of them
    for ids, whole in zip(without.tokens, examples.tokens, strict=True):
        np.testing.assert_array_equal(ids, whole[whole != END])
    count = int(examples.columns["answer_tokens"][0])
    assert model.tokenizer.decode(examples.tokens[0][-count:-1].tolist()) == texts.completions[0]


def test_rows_that_are_too_long(make, model):
    texts = make("all_variations")
    whole, _ = encode(texts, model)
    sizes = whole.lengths
    most = int(np.sort(sizes)[-4])  # three or so are longer
    is_long = sizes > most
    assert 0 < is_long.sum() < 6
    dropped, counts = encode(texts, model, "drop", max_length=most)
    assert list(dropped.example_ids) == [n for n, long in zip(texts.names, is_long, strict=True) if not long]
    assert counts["overlong"] == counts["left_out"] == is_long.sum()
    np.testing.assert_array_equal(dropped.columns["example_weight"], texts.weights[~is_long])
    cut, counts = encode(texts, model, "truncate", max_length=most)
    assert counts["overlong"] == is_long.sum() and not counts["left_out"]
    np.testing.assert_array_equal(cut.columns["answer_tokens"], whole.columns["answer_tokens"])
    for ids, before in zip(cut.tokens, whole.tokens, strict=True):
        np.testing.assert_array_equal(ids, before[-most:])  # from the left
    with pytest.raises(
        UserError, match=rf"^reweighted, seed 0: {is_long.sum()} of 11 rows .* raise data\.max_length"
    ):
        encode(texts, model, "error", max_length=most)
    for overlong in ("drop", "truncate"):
        check = {"overlong": overlong, "label": "x"}
        for length in (most, most + 2, 128):
            other = dataclasses.replace(model, max_length=length)
            assert rows.check(texts, other, **check) == len(rows.encode(texts, other, **check)[0].example_ids)


def test_rows_without_room_for_their_prompt_are_left_out(make, model):
    texts = make("all_variations")
    whole, _ = encode(texts, model)
    most = int(np.median(whole.columns["answer_tokens"]))
    examples, counts = encode(texts, model, "truncate", max_length=most)
    assert set(examples.lengths) == {most} and counts["left_out"] == 11 - len(examples.tokens) > 0
    for overlong in ("drop", "truncate"):
        with pytest.raises(
            UserError, match=r"none of the 11 rows .* is left, as 11 have more than 2 tokens; raise"
        ):
            encode(texts, model, overlong, max_length=2)
        with pytest.raises(UserError, match="none of the 11 rows"):
            rows.check(texts, dataclasses.replace(model, max_length=2), overlong=overlong, label="x")


def test_a_token_in_front_stays(make, model, tmp_path):
    tokenizer_folders.write_json(
        tmp_path,
        {"post_processor": tokenizer_folders.template()},
        eos_token="<|end|>",
        bos_token="<|begin|>",
    )
    tokenizer = tokenizers.load_tokenizer(tmp_path)
    assert tokenizer.bos_id == 0
    texts = make("finetune")
    whole, _ = encode(texts, model, tokenizer=tokenizer)
    most = int(min(whole.lengths)) - 1
    cut, _ = encode(texts, model, "truncate", tokenizer=tokenizer, max_length=most)
    for ids, before in zip(cut.tokens, whole.tokens, strict=True):
        assert ids.tolist() == [0, *before[1 - most :].tolist()]


def test_an_answer_cut_off_before_any_text_is_left_out(make, model):
    texts = make("finetune")
    texts = texts._replace(completions=["", *texts.completions[1:]], has_end=[False, True, True])
    examples, counts = encode(texts, model)
    assert examples.example_ids == texts.names[1:] and counts == {
        "overlong": 0,
        "left_out": 1,
        "unfinished": 1,
    }
    finished, _ = encode(texts._replace(has_end=[True] * 3), model)  # a model that says nothing has said so
    assert finished.columns["answer_tokens"][0] == 1 and finished.tokens[0][-1] == END


def test_no_rows_at_all(asked, make, model):
    with pytest.raises(
        UserError, match=r"takes no answer of the weak model as a row.*answers\.unparsed=trained"
    ):
        encode(make("finetune")._replace(names=[]), model)
    assert rows.describe({"overlong": 0, "left_out": 0, "unfinished": 0}, 4) == ""


# Keys.


def test_a_key_names_what_rows_are_a_function_of(asked):
    stage, _ = asked
    first = rows.Weighted(stage.split, stage, "reweighted", {"temperature": 0.2}, "raw", seed=3)
    plan = [own[:2] for own in stage.plan]
    others = {
        "method": dataclasses.replace(first, method="all_variations"),
        "option": dataclasses.replace(first, options={"temperature": 0.3}),
        "completion": dataclasses.replace(first, completion="canonical"),
        "draws": dataclasses.replace(first, seed=4),
        "own answers": dataclasses.replace(first, own=stage),
        "answers": dataclasses.replace(first, answers=dataclasses.replace(stage, plan=plan)),
    }
    found = [one.inputs for one in others.values()]
    assert all(found.count(one) == 1 and one != first.inputs for one in found)
    other_truth = [dataclasses.replace(one, answer=2) for one in stage.split.questions]
    split = dataclasses.replace(stage.split, questions=other_truth)
    poisoned = dataclasses.replace(first, split=split, answers=dataclasses.replace(stage, split=split))
    assert poisoned.inputs == first.inputs
    truth, told = rows.Truth(stage.split), rows.Truth(split)
    assert truth.inputs["truth"] != told.inputs["truth"] and truth.inputs["texts"] == told.inputs["texts"]


@pytest.mark.parametrize(("total", "expected"), [(0, 0), (1, 1), (4, 3)])
def test_the_first_share_of_no_rows_is_none(asked, total, expected):
    stage, _ = asked
    truth = rows.Truth(stage.split.only(np.arange(len(stage.split)) < total))
    first = rows.First(truth.split, truth, 0.8)
    assert first.most == first.num_expected == len(first.known.names) == expected


def test_ground_truth_changes_no_row_of_a_student(asked):
    stage, store = asked
    split = dataclasses.replace(
        stage.split,
        questions=[dataclasses.replace(one, answer=2, solution="x") for one in stage.split.questions],
    )
    scores = types.SimpleNamespace(name="predictions", inputs={"made": "up"}, key="key")
    with store.filling(scores.name, scores.inputs) as folder:
        table = {"example_id": split.ids, "p_ik": np.linspace(0.2, 0.9, len(split), dtype=np.float32)}
        artifacts.write_table(folder / predict.FILE, table)
    for method in row_weights.ROW_WEIGHTS:
        for completion in rows.COMPLETIONS:
            found = []
            for one in (stage.split, split):
                answers = dataclasses.replace(stage, split=one)
                # As if the strong model had answered the same.
                own = answers if completion_methods.METHODS[method].uses_self_labels else None
                p_ik = scores if completion_methods.METHODS[method].uses_p_ik else None
                weighted = rows.Weighted(one, answers, method, {}, completion, 3, own, p_ik)
                found.append(weighted.texts(store))
            assert found[0]._replace(weights=None) == found[1]._replace(weights=None)
            np.testing.assert_array_equal(found[0].weights, found[1].weights)


def test_the_code_of_a_users_completions_is_in_the_key(asked):
    stage, _ = asked

    class Own(type(stage.split.task)):
        def completion(self, question, answer, variation=None):
            return f"{super().completion(question, answer, variation)}!"

    fields = {
        field.name: getattr(stage.split.task, field.name) for field in dataclasses.fields(stage.split.task)
    }
    split = dataclasses.replace(stage.split, task=Own(**fields))
    of_user = rows.Weighted(split, dataclasses.replace(stage, split=split), "majority", {}, "raw", 3)
    assert "code of completion" in of_user.inputs
    assert not [name for name in dataclasses.replace(of_user, split=stage.split).inputs if "code" in name]
    assert written_questions.CHOICE is stage.split.task
