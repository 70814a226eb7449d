"""Written and scored answers: the same bits whatever the batch, equal to plain computations, and read back by id."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest
from support import marks, tokenizer_folders, written_questions

from selw2s_jax.data import answer_tables, answers, variations
from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader, tokenizers
from selw2s_jax.inference import candidates, generate, partials, writing
from selw2s_jax.runtime import preemption

GREEDY = writing.Answering(max_new_tokens=6)
SAMPLED = writing.Answering(max_new_tokens=6, temperature=1.2, top_p=0.95, seed=3)
SCORED = writing.Answering(by="score")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return written_questions.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def language_model(model):
    return loader.load_decoder(model.folder, lm_head=True, param_dtype="float32", compute_dtype="float32")


@pytest.fixture(scope="module")
def asked():
    split = written_questions.make_split()
    return writing.Asked(split, written_questions.make_plan(split))


def ask(model, language_model, asked, how, folder, *, batch_tokens=3 * 64):
    return writing.answer(
        language_model,
        model.tokenizer,
        asked,
        how,
        batch_tokens=batch_tokens,
        label="test",
        partial=partials.Partial(folder / "scores.npz"),
    )


def by_place(asked, found):
    names = [(asked.example_ids[p], asked.places[p][1]) for p in range(len(asked))]
    return dict(
        zip(names, zip(found.texts, found.finish, found.num_tokens.tolist(), strict=True), strict=True)
    )


@pytest.mark.parametrize(
    ("how", "num_rows"),
    [(GREEDY, 3), (SAMPLED, 3), *(marks.in_ci(how, n) for how in (GREEDY, SAMPLED) for n in (1, 4))],
)
def test_answers_are_the_same_whatever_the_batch_and_the_order(
    model, language_model, asked, tmp_path, monkeypatch, how, num_rows
):
    """In other blocks, with other rows."""
    expected = by_place(asked, ask(model, language_model, asked, how, tmp_path / "a"))
    assert len({text for text, *_ in expected.values()}) > 2
    monkeypatch.setattr(writing, "BLOCK", 5)
    order = np.random.default_rng(1).permutation(len(asked.split))
    questions = [asked.split.questions[i] for i in order]
    other = writing.Asked(
        dataclasses.replace(asked.split, questions=questions), [asked.plan[i] for i in order]
    )
    found = ask(model, language_model, other, how, tmp_path / "b", batch_tokens=64 * num_rows)
    assert by_place(other, found) == expected


def test_a_sample_is_a_function_of_its_question_and_variation(model, language_model, tmp_path):
    """Also of equal prompts, as where one prompt is sampled several times; greedy ones are asked once."""
    split = written_questions.make_split(2)
    plan = [(variations.Variation(),) * 3] * 2
    asked, one = writing.Asked(split, plan), writing.Asked(split, [own[:1] for own in plan])
    found = by_place(asked, ask(model, language_model, asked, SAMPLED, tmp_path / "a"))
    assert len(set(found.values())) > 4
    fewer = by_place(one, ask(model, language_model, one, SAMPLED, tmp_path / "b"))
    assert fewer == {place: found[place] for place in fewer}
    other = dataclasses.replace(SAMPLED, seed=4)
    assert by_place(asked, ask(model, language_model, asked, other, tmp_path / "c")) != found


def test_greedy_answers_are_those_of_each_prompt_alone_and_equal_prompts_are_asked_once(
    model, language_model, asked, tmp_path, monkeypatch
):
    plan = [(*own, variations.Variation(), *own[:1]) for own in asked.plan]
    twice, numbers = writing.Asked(asked.split, plan), []
    plain = generate.generate

    def counted(*args, **options):
        numbers.append(len(args[2]))
        return plain(*args, **options)

    monkeypatch.setattr(generate, "generate", counted)
    found = ask(model, language_model, twice, GREEDY, tmp_path)
    assert numbers == [len(set(twice.prompts))] and numbers[0] < len(twice)
    for place in (0, 4, len(twice) - 1):
        ids = np.array(model.tokenizer.encode(twice.prompts[place]))
        tokens = list(ids)
        for _ in range(found.num_tokens[place]):
            row = np.zeros((1, 96), np.int32)
            row[0, : len(tokens)] = tokens
            logits = language_model.lm_logits(language_model.hidden_states(row)[0, len(tokens) - 1])
            tokens.append(int(np.argmax(logits)))
        assert model.tokenizer.decode(tokens[len(ids) :]).startswith(found.texts[place])
    assert np.isnan(found.log_probs).all() and (found.chosen == -1).all()


@pytest.mark.parametrize("how", [GREEDY, SAMPLED, SCORED], ids=["greedy", "sampled", "scored"])
def test_what_was_stopped_goes_on_bit_for_bit(model, language_model, asked, tmp_path, monkeypatch, how):
    monkeypatch.setattr(writing, "BLOCK", 5)
    expected = ask(model, language_model, asked, how, tmp_path / "whole")
    written = generate.generate
    calls = []

    def stopped(*args, **options):
        calls.append(len(args[2]))
        if len(calls) == 3:
            raise preemption.Preempted("stopped")
        return written(*args, **options)

    told = iter([False, False, *[True] * 9])
    reached = types.SimpleNamespace(reached=lambda: next(told), Preempted=preemption.Preempted)
    with monkeypatch.context() as patch, pytest.raises(preemption.Preempted):
        if how.is_scored:
            patch.setattr("selw2s_jax.inference.classify.preemption", reached)
        patch.setattr(generate, "generate", stopped)
        ask(model, language_model, asked, how, tmp_path / "stopped")
    assert list((tmp_path / "stopped").iterdir())
    calls.clear()
    monkeypatch.setattr(generate, "generate", lambda *a, **o: calls.append(len(a[2])) or written(*a, **o))
    found = ask(model, language_model, asked, how, tmp_path / "stopped")
    assert how.is_scored or sum(calls) < len(asked) - 9
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_likeliest_candidate_is_that_of_float64(model, language_model, asked, tmp_path):
    """With its end of text, from the logits of whole texts."""
    found = ask(model, language_model, asked, SCORED, tmp_path)
    (end,) = model.tokenizer.eos_ids
    grid = np.zeros((3 * len(asked), 96), np.int32)
    spans = []
    for place, prompt in enumerate(asked.prompts):
        own = model.tokenizer.encode(prompt)
        for row, text in enumerate(asked.candidates[place], start=3 * place):
            ids = [*model.tokenizer.encode(prompt + text), end]
            assert ids[: len(own)] == own
            grid[row, : len(ids)] = ids
            spans.append((len(own), len(ids)))
    logits = np.asarray(language_model.lm_logits(language_model.hidden_states(grid)), np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = np.array(
        [sum(log_probs[row, at - 1, grid[row, at]] for at in range(*span)) for row, span in enumerate(spans)]
    ).reshape(-1, 3)
    np.testing.assert_array_equal(found.chosen, expected.argmax(axis=1))
    np.testing.assert_allclose(found.log_probs, expected.max(axis=1), rtol=1e-5, atol=1e-4)
    assert len(set(found.chosen.tolist())) > 1 and set(found.finish) == {"scored"}
    assert found.texts == [own[i] for own, i in zip(asked.candidates, found.chosen, strict=True)]
    assert found.num_tokens.tolist() == [
        len(model.tokenizer.encode(p + t)) + 1 - len(model.tokenizer.encode(p))
        for p, t in zip(asked.prompts, found.texts, strict=True)
    ]


def test_equal_candidates_are_answered_with_the_first(model, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(
        candidates, "log_probs", lambda *args, **options: [np.float32([-3, -1, -1]) for _ in args[1]]
    )
    language_model = types.SimpleNamespace(mesh=None)
    found = ask(model, language_model, asked, SCORED, tmp_path)
    assert (found.chosen == 1).all() and (found.log_probs == -1).all()


# Tables.


def parse_all(texts, split, plan):
    asked = writing.Asked(split, plan)
    size = len(texts)
    finish = ["eos"] * (size - 1) + ["length"]
    written = writing.Answers(
        texts, finish, np.ones(size, np.int32), np.full(size, np.nan, np.float32), np.full(size, -1, np.int32)
    )
    return writing.make_table(asked, written)


def test_a_table_has_answers_in_the_original_order():
    split = written_questions.make_split(2)
    plan = [(variations.Variation(order=(2, 0, 1)), variations.Variation(order=(1, 0, 2))), ()]
    table = parse_all([" B", " B", " A. moon", "who knows"], split, plan)
    assert table["example_id"] == [split.ids[0]] * 3 + [split.ids[1]]
    assert table["variation"].tolist() == [0, 1, 2, 0] and table["variation"].dtype == np.int32
    assert table["prediction"] == ["1", "0", "1", ""]
    assert table["letter"].tolist() == [1, 1, 0, -1]
    assert table["rule"] == ["letter", "letter", "letter", ""]
    assert table["conflicts"].tolist() == [False, False, True, False]
    summary = answer_tables.summarize(table, len(split))
    assert summary == {
        "n": 4,
        "num_questions": 2,
        "unparsed": 1,
        "conflicts": 1,
        "unfinished": 1,
        "letters": {"A": 1, "B": 2},
    }
    assert answer_tables.describe(summary).startswith(
        "4 answers to 2 questions; 1 say nothing that can be read; 1 have"
    )
    numbers = parse_all(
        [" 5", " #### 5/3"], written_questions.make_split(2, written_questions.NUMBER), [(), ()]
    )
    assert numbers["letter"].tolist() == [-1, -1] and numbers["prediction"][0] == "5"


def test_a_table_is_read_by_example_id_and_variation():
    table = {
        "example_id": np.array(["a", "b", "a", "a"], object),
        "variation": np.array([2, 0, 0, 1], np.int32),
        "prediction": np.array(["2", "", "0", "1"], object),
    }
    assert answer_tables.by_question(table, ["b", "a"]) == {"prediction": [[""], ["0", "1", "2"]]}
    assert answer_tables.by_question(table, ["a"]) == {"prediction": [["0", "1", "2"]]}
    with pytest.raises(UserError, match=r"artifact x lacks 1 of 2 example_ids \(first: c\)"):
        answer_tables.by_question(table, ["a", "c"], "artifact x")
    table["variation"][0] = 3
    with pytest.raises(UserError, match="other variations of a than 0, 1, 2"):
        answer_tables.by_question(table, ["a"])


@pytest.mark.parametrize(
    "text",
    [" A. iron\n### Question: B", " 3 ### 4", "\n### x", " 18\nas 9 + 9\n#### 19\n### A", "iron ### B"],
)
def test_stopping_early_changes_no_answer(text):
    ends = [text.find(stop) for stop in writing.STOP if stop in text]
    for kind, choices in (("choice", ("iron", "a")), ("number", None), ("words", None)):
        of_kind = {"choices": choices, "words": ("iron", "a") if kind == "words" else None}
        whole = answers.parse_in_full(kind, text, **of_kind)
        assert answers.parse_in_full(kind, text[: min(ends)], **of_kind) == whole
    assert not any(stop in " 18\n#### 18" for stop in writing.STOP)


# Rows to be trained on.


def test_rows_are_the_tokens_of_whole_texts_and_their_end(tmp_path):
    """The prompt ends where the tokenizer joins its end with the completion."""
    tokenizer = tokenizers.load_tokenizer(
        tokenizer_folders.write_json(
            tmp_path, {"post_processor": tokenizer_folders.template()}, eos_token="<|end|>"
        )
    )
    assert tokenizer.bos_id == 0 and tokenizer.eos_ids == (1,)
    prompts = ["Q: What gas? A:", "the ca", "the hat;", "the"]
    completions = [" carbon dioxide", "t, the hat", "", " cat"]
    own, found = writing.encode_rows(tokenizer, prompts, completions)
    for prompt, completion, begin, ids in zip(prompts, completions, own, found, strict=True):
        whole = tokenizer.encode(prompt + completion)
        assert [*begin, *ids] == [*whole, 1] and begin[0] == 0 and begin.dtype == ids.dtype == np.int32
        assert tokenizer.encode(prompt)[: len(begin)] == begin.tolist()
    assert len(own[1]) < len(tokenizer.encode(prompts[1])), "a joined token belongs to the completion"
    assert found[2].tolist() == [1]
    one, (of_one,) = candidates.encode(tokenizer, prompts[1], [completions[1]])
    np.testing.assert_array_equal(one, own[1])
    np.testing.assert_array_equal([*of_one, 1], found[1])


def test_the_first_space_of_a_completion_stays(tmp_path):
    tokenizer = tokenizers.load_tokenizer(tokenizer_folders.write_llama(tmp_path))
    prompt, texts = "Q: What gas?\nA:", [" carbon dioxide", "carbon", "\n two  spaces"]
    for text in texts:
        own, (ids,) = candidates.encode(tokenizer, prompt, [text])
        bare = generate.Completion(tokenizer.decode(ids.tolist()), ids, "length")
        assert writing.continuation(tokenizer, own, bare) == text


def test_an_end_is_needed_to_learn_it(tmp_path):
    tokenizer = tokenizers.load_tokenizer(tokenizer_folders.write_json(tmp_path))
    assert not tokenizer.eos_ids and writing.end_of_text(tokenizer) == []
    for refused in (
        lambda: writing.check_ends(tokenizer),
        lambda: writing.encode_rows(tokenizer, ["a"], ["b"]),
    ):
        with pytest.raises(UserError, match="names no end-of-text token, so a model that learns") as raised:
            refused()
        assert "\n" not in str(raised.value)


# What cannot be asked.


def test_prompts_without_room_are_found(model, asked):
    longest = max(len(model.tokenizer.encode(text)) for text in asked.prompts)
    for how, room in ((GREEDY, 6), (SCORED, 0)):
        small = dataclasses.replace(
            model, config=dataclasses.replace(model.config, max_seq_len=longest + room - 1)
        )
        if how.is_scored:
            whole = [
                max(len(model.tokenizer.encode(p + c)) + 1 for c in own)
                for p, own in zip(asked.prompts, asked.candidates, strict=True)
            ]
        else:
            whole = [len(model.tokenizer.encode(p)) + 6 for p in asked.prompts]
        too_long = {q for (q, _), n in zip(asked.places, whole, strict=True) if n > longest + room - 1}
        found = writing.too_long(small, asked.split, asked.plan, how)
        assert set(np.flatnonzero(found).tolist()) == too_long and too_long
        assert not writing.too_long(model, asked.split, asked.plan, how).any()
        with pytest.raises(
            UserError, match=r"^prompt \d of tiny_choice/test/\d has \d+ tokens, .*overlong=drop"
        ):
            writing.check(small, asked, how)
        writing.check(model, asked, how)


def test_what_cannot_be_scored_or_is_no_way_is_refused(model):
    split = written_questions.make_split(2, written_questions.NUMBER)
    with pytest.raises(UserError, match=r"answers\.by='score' needs candidates, and tiny_number has none"):
        writing.check(model, writing.Asked(split, [(), ()]), SCORED)
    for wrong, message in (
        ({"by": "ask"}, "answers.by is 'ask'; choose one of generate, score"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
    ):
        with pytest.raises(UserError, match=message):
            writing.Answering(**wrong)
    assert json.dumps(dataclasses.asdict(GREEDY)) and jax.devices()
