"""Few-shot answers: prompts to token ids within a context, answers back in order, sampled P(IK) targets."""

import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import marks

from selw2s_jax import sharding
from selw2s_jax.data import tasks
from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader
from selw2s_jax.inference import candidates as candidates_lib
from selw2s_jax.inference import fewshot, partials, prefix

PROPERTY = hypothesis.settings(max_examples=50, deadline=None, derandomize=True)


class PatternTokenizer:
    """A token for every match of a pattern; ids in order of appearance."""

    def __init__(self, pattern: str):
        self.pattern, self.vocab = re.compile(pattern), {}

    def encode(self, text: str) -> list[int]:
        pieces = self.pattern.findall(text)
        assert "".join(pieces) == text
        return [self.vocab.setdefault(piece, len(self.vocab) + 10) for piece in pieces]

    def encode_batch(self, texts) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids) -> str:
        names = {number: piece for piece, number in self.vocab.items()}
        return "".join(names[int(number)] for number in ids)


def words() -> PatternTokenizer:
    return PatternTokenizer(r" ?[^ ]+")  # " 1" is one token, as in GPT-2


def pieces() -> PatternTokenizer:
    return PatternTokenizer(r" |[0-9]|[^ 0-9]+")  # " 1" is a space and a digit, as in Qwen and Llama


def answer_probs(*args, **options) -> np.ndarray:
    return fewshot.to_probs(fewshot.answer_log_odds(*args, **options))


PROMPTS = ["one two R:", "a 1 b R:", "x R:"]


@pytest.mark.parametrize(
    ("tokenizer", "prompt_ends", "answers"),
    [(words(), "R:", [" 0", " 1"]), (pieces(), "R: ", ["0", "1"])],
    ids=["one token", "two tokens"],
)
def test_prompts_end_where_the_answers_differ(tokenizer, prompt_ends, answers):
    tokens, answer_ids = fewshot.encode_prompts(tokenizer, PROMPTS)
    assert [tokenizer.decode(ids) for ids in tokens] == [p.removesuffix("R:") + prompt_ends for p in PROMPTS]
    assert [tokenizer.decode([i]) for i in answer_ids] == answers
    assert all(ids.dtype == np.int32 for ids in tokens)


def test_answers_of_unequal_length_are_refused():
    tokenizer = PatternTokenizer(r" 0|[^ ]+| ")  # " 0" is one token, " 1" two
    with pytest.raises(UserError, match="does not end the answers ' 0' and ' 1' in one differing token"):
        fewshot.encode_prompts(tokenizer, PROMPTS)


def test_answers_that_a_tokenizer_does_not_tell_apart_are_refused():
    class Unknown(PatternTokenizer):
        def encode(self, text):
            return [3 if piece in (" 0", " 1") else 7 for piece in self.pattern.findall(text)]

    with pytest.raises(UserError, match="use the model's own tokenizer"):
        fewshot.encode_prompts(Unknown(" ?[^ ]+"), PROMPTS)


def test_answers_that_differ_from_prompt_to_prompt_are_refused():
    tokenizer = PatternTokenizer(r"x R: [01]| ?[^ ]+")
    with pytest.raises(UserError, match="differently from prompt to prompt"):
        fewshot.encode_prompts(tokenizer, PROMPTS)


def question(size: int, passage: int = 0) -> tasks.Example:
    """So many words of a passage behind `P:` and so many of a question, without `P:` where there is no passage."""
    context = " ".join(f"p{i}" for i in range(passage))
    text = " ".join(([f"P: {context}"] if passage else []) + [f"q{i}" for i in range(size)])
    return tasks.Example(f"t/{size}/{passage}", f"t/{size}", text, 0, passage=(3, 3 + len(context)))


def few_shot_builder():
    """Prompts of one instruction word, two words a shot, the question, and `R:`; the numbers of shots asked for."""
    asked = []

    def build(num_shots: int, questions) -> list[str]:
        asked.append((num_shots, len(questions)))
        shots = [f"shot{n} R{n}" for n in range(4)][4 - num_shots :]
        return [" ".join(["say", *shots, *question.text.split(), "R:"]) for question in questions]

    return build, asked


def test_prompts_lose_shots_then_the_beginning_of_their_passage():
    # Tokens of a full prompt: 1 + 8 + words + 1; without shots 2 + words.
    questions = [question(size) for size in (1, 2, 3, 4, 7, 8, 9, 10)] + [question(2, 8), question(7, 20)]
    build, asked = few_shot_builder()
    tokenizer = words()
    tokens, cut = fewshot.fit_prompts(tokenizer.encode_batch, build, questions, num_shots=4, max_length=12)
    assert [len(ids) for ids in tokens] == [11, 12, 11, 12, 11, 12, 11, 12, 12, 12]
    assert all(ids.dtype == np.int32 for ids in tokens)
    assert cut == {"fewer_shots": 8, "shortened": 2}
    texts = [tokenizer.decode(ids) for ids in tokens]
    assert texts[1] == "say shot0 R0 shot1 R1 shot2 R2 shot3 R3 q0 q1 R:"
    assert texts[2] == "say shot1 R1 shot2 R2 shot3 R3 q0 q1 q2 R:"
    assert texts[5] == "say shot3 R3 " + " ".join(f"q{i}" for i in range(8)) + " R:"
    assert texts[7] == "say " + " ".join(f"q{i}" for i in range(10)) + " R:"
    assert texts[8] == "say P: p1 p2 p3 p4 p5 p6 p7 q0 q1 R:"
    assert texts[9] == "say P: p18 p19 q0 q1 q2 q3 q4 q5 q6 R:"
    assert asked[:5] == [(4, 10), (3, 8), (2, 6), (1, 6), (0, 4)]
    assert set(asked[5:]) == {(0, 1)}


@PROPERTY
@hypothesis.given(st.integers(1, 6), st.integers(0, 40), st.integers(1, 20), st.integers(0, 4))
def test_as_much_of_a_passage_as_fits_is_kept(size, passage, max_length, num_shots):
    build, _ = few_shot_builder()
    tokenizer = words()
    asked, shortest = question(size, passage), 2 + size + bool(passage)

    def fit():
        return fewshot.fit_prompts(
            tokenizer.encode_batch, build, [asked], num_shots=num_shots, max_length=max_length
        )

    if max_length < 3:  # the instruction, R: and a word of the question
        with pytest.raises(UserError, match=rf"{asked.example_id} has 3 tokens .* for {max_length}:"):
            fit()
        return
    (ids,), cut = fit()
    too_long = fewshot.is_too_long(tokenizer.encode_batch, build, [asked], max_length=max_length)
    assert too_long == [shortest > max_length]
    if shortest > max_length:
        assert cut == {"fewer_shots": int(num_shots > 0), "shortened": 0, "truncated": 1}
        kept = tokenizer.decode(ids).split()
        last = f"q{size - 1}"
        assert len(kept) == max_length and kept[0] == "say" and kept[-1] == "R:" and last.endswith(kept[-2])
        return
    full = shortest + passage
    assert cut == {
        "fewer_shots": int(full + 2 * num_shots > max_length and num_shots > 0),
        "shortened": int(full > max_length),
    }
    if full > max_length:
        kept = range(passage - (max_length - shortest), passage)
        told = ["say", "P:", *(f"p{i}" for i in kept), *(f"q{i}" for i in range(size)), "R:"]
        assert tokenizer.decode(ids) == " ".join(told)


def test_prompts_that_fit_are_built_once():
    build, asked = few_shot_builder()
    questions = [question(1), question(2)]
    tokens, cut = fewshot.fit_prompts(words().encode_batch, build, questions, num_shots=4, max_length=12)
    assert cut == {"fewer_shots": 0, "shortened": 0} and asked == [(4, 2)]
    assert [len(ids) for ids in tokens] == [11, 12]


class TableDecoder(nnx.Module):
    """A decoder whose hidden state is a row of a table and whose head is the same table."""

    has_lm_head = True

    def __init__(self, table):
        self.table = nnx.Param(jnp.asarray(table))

    def hidden_states(self, tokens, segment_ids, positions, reads, cache=None):
        return self.table[...][jnp.take_along_axis(tokens, reads, axis=1)]

    def answer_logits(self, hidden, token_ids):
        return jnp.einsum("ed,ead->ea", hidden, self.table[...][token_ids])


def test_answer_probs_come_back_in_the_order_of_the_prompts():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50, 3)).astype(np.float32)
    tokens = [rng.integers(50, size=length).astype(np.int32) for length in rng.integers(1, 120, size=23)]
    probs = answer_probs(
        TableDecoder(table),
        tokens,
        (4, 9),
        mesh=sharding.single_device_mesh(),
        batch_tokens=256,
        label="answers",
    )
    last = np.stack([table[ids[-1]] for ids in tokens]).astype(np.float64)
    expected = 1 / (1 + np.exp(last @ table[4] - last @ table[9]))
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs, expected, rtol=1e-5)


IDS = [f"arc/{i}" for i in range(5)]
LABELS = [0, 1, 1, 0, 1]


@PROPERTY
@hypothesis.given(
    st.lists(st.floats(-200, 200, width=32), min_size=5, max_size=5),
    st.permutations(range(5)),
    st.sampled_from([1, 3]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_sampled_targets_belong_to_the_example_not_to_its_place(log_odds, order, num_samples, temperature):
    options = {"seed": 7, "num_samples": num_samples, "temperature": temperature}
    found = fewshot.sampled_accuracy(np.array(log_odds), LABELS, IDS, **options)
    assert found.dtype == np.float32 and set(np.round(found * num_samples, 5)) <= set(range(num_samples + 1))
    moved = fewshot.sampled_accuracy(
        np.array(log_odds)[order], np.array(LABELS)[order], [IDS[i] for i in order], **options
    )
    np.testing.assert_array_equal(moved, found[order])
    alone = fewshot.sampled_accuracy(np.array(log_odds[2:3]), LABELS[2:3], IDS[2:3], **options)
    assert alone[0] == found[2]


def test_temperature_0_takes_the_likelier_answer():
    log_odds = np.array([-0.04, 0.04, -1.4, 2.2, 0.0], np.float32)  # a tie answers 0
    for num_samples in (1, 4):
        found = fewshot.sampled_accuracy(
            log_odds, LABELS, IDS, seed=0, num_samples=num_samples, temperature=0.0
        )
        assert found.tolist() == [1, 1, 0, 0, 0]


def test_certain_answers_are_always_sampled():
    log_odds = np.array([-900, 900, -900, 900, np.inf], np.float32)
    for temperature in (0.1, 1.0, 5.0):
        found = fewshot.sampled_accuracy(
            log_odds, LABELS, IDS, seed=1, num_samples=50, temperature=temperature
        )
        assert found.tolist() == [1, 1, 0, 0, 1]


def test_a_temperature_reaches_answers_whose_probability_is_1_in_float32():
    log_odds = np.full(4000, 30.0, np.float32)
    assert (fewshot.to_probs(log_odds) == 1).all()
    ids = [str(i) for i in range(4000)]
    found = fewshot.sampled_accuracy(log_odds, [1] * 4000, ids, seed=0, temperature=30.0)
    assert found.mean() == pytest.approx(1 / (1 + np.exp(-1)), abs=0.025)


@pytest.mark.parametrize(("temperature", "prob"), [(1.0, 0.8), (2.0, 2 / 3), (0.5, 16 / 17)])
def test_many_samples_are_near_the_tempered_probability(temperature, prob):
    """0.8 has odds 4; a temperature T takes the root T of the odds."""
    options = {"seed": 3, "num_samples": 4000, "temperature": temperature}
    right, wrong = fewshot.sampled_accuracy(np.log([4.0, 4.0]), [1, 0], ["a", "a"], **options)
    assert right == pytest.approx(prob, abs=0.025)
    assert right + wrong == pytest.approx(1.0, abs=1e-6)


def test_samples_of_examples_and_seeds_are_independent():
    ids = [f"q{i}" for i in range(2000)]
    half, ones = np.zeros(2000), np.ones(2000, int)
    first, second = (fewshot.sampled_accuracy(half, ones, ids, seed=seed) for seed in (0, 1))
    for draws in (first, second):
        assert set(draws) == {0.0, 1.0} and draws.mean() == pytest.approx(0.5, abs=0.04)
    assert (first == second).mean() == pytest.approx(0.5, abs=0.04)
    # The first of several samples is the one sample.
    three = fewshot.sampled_accuracy(half, ones, ids, seed=0, num_samples=3)
    assert three[first == 1].min() > 0


SHOTS = np.random.default_rng(3).integers(60, size=(3, 4)).astype(np.int32)


def shot_prompts(config, *, num_shots, sizes, seed=0):
    """Prompts that begin with an instruction of 2 tokens and the last shots, as a task's do."""
    rng = np.random.default_rng(seed)
    begin = [np.array([5, 6], np.int32), *SHOTS[len(SHOTS) - num_shots :]]
    return [
        np.concatenate([*begin, rng.integers(config.vocab_size, size=size).astype(np.int32)])
        for size in sizes
    ]


@pytest.fixture(params=[marks.in_ci("gpt2"), "qwen"])
def language_model(request, fixtures):
    folder = fixtures / f"parity_{request.param}"
    return loader.load_decoder(folder, lm_head=True, param_dtype="float32", compute_dtype="float32")


@pytest.fixture
def short_prefixes(monkeypatch):
    """Any beginning of 3 tokens that 3 prompts share is computed once."""
    monkeypatch.setattr(prefix.group, "__kwdefaults__", {"min_members": 3, "min_tokens": 3})


def score_settings():
    return {"mesh": sharding.single_device_mesh(), "batch_tokens": 64, "label": "answers"}


def test_a_shared_beginning_gives_the_scores_of_whole_prompts(language_model, short_prefixes):
    """Three groups: all shots, fewer shots, and prompts too few to share."""
    config = language_model.config
    tokens = shot_prompts(config, num_shots=3, sizes=[1, 5, 3, 1, 2, 4])
    tokens += shot_prompts(config, num_shots=2, sizes=[7, 9, 8], seed=1)
    tokens += shot_prompts(config, num_shots=0, sizes=[16, 17], seed=2)
    order = np.random.default_rng(4).permutation(len(tokens))
    tokens = [tokens[i] for i in order]
    assert sorted((len(g.members), g.length) for g in prefix.group(tokens)) == [(2, 0), (3, 10), (6, 14)]
    settings = score_settings()
    found = answer_probs(language_model, tokens, (7, 11), **settings)
    plain = answer_probs(language_model, tokens, (7, 11), **settings, shares_prefix=False)
    np.testing.assert_allclose(found, plain, rtol=1e-5)
    assert plain.std() > 0.001


@PROPERTY
@hypothesis.given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 9))
def test_groups_share_what_they_say(shots, seed):
    """Every prompt is in one group, and a group's members begin alike and keep a token of their own."""
    rng = np.random.default_rng(seed)
    parts = [rng.integers(3, size=4) for _ in range(5)]
    tokens = [np.concatenate([[1], *parts[5 - n :], rng.integers(3, size=1 + n)]) for n in shots]
    groups = prefix.group(tokens, min_members=3, min_tokens=4)
    members = np.concatenate([g.members for g in groups])
    assert sorted(members.tolist()) == list(range(len(tokens)))
    for g in groups:
        assert g.length == 0 or (len(g.members) >= 3 and g.length >= 4)
        assert len({tuple(tokens[i][: g.length]) for i in g.members}) == 1
        assert all(len(tokens[i]) > g.length for i in g.members)


def test_candidates_have_their_log_probabilities(language_model, short_prefixes):
    config = language_model.config
    tokens = shot_prompts(config, num_shots=2, sizes=[1, 4, 2, 3])
    rng = np.random.default_rng(8)
    candidates = [
        [rng.integers(config.vocab_size, size=size).astype(np.int32) for size in sizes]
        for sizes in ([1, 3, 2], [2, 1], [4], [1, 1, 1, 2])
    ]
    ids = [f"q{i}" for i in range(4)]
    found = candidates_lib.log_probs(language_model, tokens, candidates, ids, **score_settings())
    for own, prompt, scores in zip(candidates, tokens, found, strict=True):
        assert scores.shape == (len(own),)
        for candidate, score in zip(own, scores, strict=True):
            whole = np.concatenate([prompt, candidate])
            logits = language_model.lm_logits(language_model.hidden_states(whole[None]))[0]
            log_probs = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(prompt) - 1, len(whole) - 1)]
            np.testing.assert_allclose(
                score, log_probs[np.arange(len(candidate)), candidate].sum(), rtol=1e-5
            )


def test_an_interrupted_score_goes_on_in_every_group(language_model, short_prefixes, tmp_path):
    tokens = shot_prompts(language_model.config, num_shots=3, sizes=[1, 5, 3, 1])
    tokens += shot_prompts(language_model.config, num_shots=2, sizes=[7, 9, 8], seed=1)
    settings = score_settings()
    whole = fewshot.answer_log_odds(language_model, tokens, (7, 11), **settings)
    partial = partials.Partial(tmp_path / "scores.npz", every_s=-1.0)
    partial.part("1_of_2").save(np.array([0, 1, 2, 3]), [np.arange(4, dtype=np.float32)])
    found = fewshot.answer_log_odds(language_model, tokens, (7, 11), **settings, partial=partial)
    np.testing.assert_array_equal(found[:4], np.arange(4))
    np.testing.assert_array_equal(found[4:], whole[4:])


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [([" yes", " no"], [" yes", " no"]), (["es R", "es"], ["Res R", "Res"])],
    ids=["apart", "joined with the prompt's end"],
)
def test_candidates_begin_where_they_differ_from_the_prompt(candidates, expected):
    tokenizer = PatternTokenizer(r"Res|R| ?[^ R]+| ")
    prompt, found = candidates_lib.encode(tokenizer, "a b R", candidates)
    assert [tokenizer.decode(ids) for ids in found] == expected
    assert tokenizer.decode(prompt) == "a b R".removesuffix("R" if expected[0].startswith("R") else "")


@pytest.mark.parametrize(
    ("prompt", "candidates", "message"),
    [
        ("x R:", [" 1", ""], "the candidate '' of q3 has no tokens"),
        ("x R:", [], "q3 has no candidates"),
        ("", [" 1"], "the prompt of q3 has no tokens"),
    ],
)
def test_candidates_that_cannot_be_scored(prompt, candidates, message):
    with pytest.raises(UserError, match=message) as caught:
        candidates_lib.encode(words(), prompt, candidates, name="q3")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_scored_is_named(fixtures, language_model):
    prompt, candidate = np.ones(18, np.int32), np.ones(2, np.int32)
    with pytest.raises(UserError, match="q7 has 20 tokens and the context leaves room for 19"):
        candidates_lib.log_probs(language_model, [prompt], [[candidate]], ["q7"], **score_settings())
    with pytest.raises(UserError, match="a candidate of q7 has no tokens"):
        candidates_lib.log_probs(language_model, [prompt], [[candidate[:0]]], ["q7"], **score_settings())
    headless = loader.load_decoder(
        fixtures / "parity_gpt2", lm_head=False, param_dtype="float32", compute_dtype="float32"
    )
    with pytest.raises(UserError, match="no language-model head"):
        answer_probs(headless, [prompt], (1, 2), **score_settings())
