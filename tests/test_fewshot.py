"""Few-shot answers: prompts to token ids within a context, answers back in order, sampled P(IK) targets."""

import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader
from selw2s_jax.inference import classify, fewshot, prefix

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


def few_shot_builder(sizes: list[int]):
    """Prompts of one instruction word, two words a shot, so many words of question, and `R:`."""
    asked = []

    def build(num_shots: int) -> list[str]:
        asked.append(num_shots)
        shots = [f"shot{n} R{n}" for n in range(4)][4 - num_shots :]
        return [" ".join(["say", *shots, *(f"q{i}" for i in range(size)), "R:"]) for size in sizes]

    return build, asked


def test_prompts_lose_shots_then_their_beginning():
    # Tokens of a full prompt: 1 + 8 + words + 1; without shots 2 + words.
    sizes = [1, 2, 3, 4, 7, 8, 9, 10, 11]
    build, asked = few_shot_builder(sizes)
    tokenizer = words()
    tokens, answer_ids, cut = fewshot.fit_prompts(tokenizer, build, num_shots=4, max_length=12)
    assert [len(ids) for ids in tokens] == [11, 12, 11, 12, 11, 12, 11, 12, 12]
    assert cut == {"fewer_shots": 7, "truncated": 1}
    texts = [tokenizer.decode(ids) for ids in tokens]
    assert texts[1] == "say shot0 R0 shot1 R1 shot2 R2 shot3 R3 q0 q1 R:"
    assert texts[2] == "say shot1 R1 shot2 R2 shot3 R3 q0 q1 q2 R:"
    assert texts[5] == "say shot3 R3 " + " ".join(f"q{i}" for i in range(8)) + " R:"
    assert texts[7] == "say " + " ".join(f"q{i}" for i in range(10)) + " R:"
    assert texts[8] == " " + " ".join(f"q{i}" for i in range(11)) + " R:"
    assert [tokenizer.decode([i]) for i in answer_ids] == [" 0", " 1"]
    assert asked == [4, 3, 2, 1, 0]


def test_prompts_that_fit_are_built_once():
    build, asked = few_shot_builder([1, 2])
    tokens, _, cut = fewshot.fit_prompts(words(), build, num_shots=4, max_length=12)
    assert cut == {"fewer_shots": 0, "truncated": 0} and asked == [4]
    assert [len(ids) for ids in tokens] == [11, 12]


def test_prompts_without_shots_have_none_to_lose():
    build, _ = few_shot_builder([1, 9])
    tokens, _, cut = fewshot.fit_prompts(words(), build, num_shots=0, max_length=7)
    assert cut == {"fewer_shots": 0, "truncated": 1}
    assert [len(ids) for ids in tokens] == [3, 7]


class TableDecoder(nnx.Module):
    """A decoder whose hidden state is a row of a table and whose head is the same table."""

    has_lm_head = True

    def __init__(self, table):
        self.table = nnx.Param(jnp.asarray(table))

    def hidden_states(self, tokens, segment_ids, positions, cache=None):
        return self.table[...][tokens]

    def answer_logits(self, hidden, token_ids):
        return jnp.einsum("ed,ead->ea", hidden, self.table[...][token_ids])


def test_answer_probs_come_back_in_the_order_of_the_prompts():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50, 3)).astype(np.float32)
    tokens = [rng.integers(50, size=length).astype(np.int32) for length in rng.integers(1, 120, size=23)]
    probs = fewshot.answer_probs(
        TableDecoder(table),
        tokens,
        (4, 9),
        mesh=sharding.single_device_mesh(),
        batch_tokens=256,
        max_length=128,
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
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
    st.permutations(range(5)),
    st.sampled_from([1, 3]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_sampled_targets_belong_to_the_example_not_to_its_place(probs, order, num_samples, temperature):
    options = {"seed": 7, "num_samples": num_samples, "temperature": temperature}
    found = fewshot.sampled_accuracy(np.array(probs), LABELS, IDS, **options)
    assert found.dtype == np.float32 and set(np.round(found * num_samples, 5)) <= set(range(num_samples + 1))
    moved = fewshot.sampled_accuracy(
        np.array(probs)[order], np.array(LABELS)[order], [IDS[i] for i in order], **options
    )
    np.testing.assert_array_equal(moved, found[order])
    alone = fewshot.sampled_accuracy(np.array(probs[2:3]), LABELS[2:3], IDS[2:3], **options)
    assert alone[0] == found[2]


def test_temperature_0_takes_the_likelier_answer():
    probs = np.array([0.49, 0.51, 0.2, 0.9, 0.5], np.float32)  # a tie answers 0
    for num_samples in (1, 4):
        found = fewshot.sampled_accuracy(probs, LABELS, IDS, seed=0, num_samples=num_samples, temperature=0.0)
        assert found.tolist() == [1, 1, 0, 0, 0]


def test_certain_answers_are_always_sampled():
    probs = np.array([0, 1, 0, 1, 1], np.float32)
    for temperature in (0.1, 1.0, 5.0):
        found = fewshot.sampled_accuracy(probs, LABELS, IDS, seed=1, num_samples=50, temperature=temperature)
        assert found.tolist() == [1, 1, 0, 0, 1]


@pytest.mark.parametrize(("temperature", "prob"), [(1.0, 0.8), (2.0, 2 / 3), (0.5, 16 / 17)])
def test_many_samples_are_near_the_tempered_probability(temperature, prob):
    """0.8 has odds 4; a temperature T takes the root T of the odds."""
    options = {"seed": 3, "num_samples": 4000, "temperature": temperature}
    right, wrong = fewshot.sampled_accuracy(np.array([0.8, 0.8]), [1, 0], ["a", "a"], **options)
    assert right == pytest.approx(prob, abs=0.025)
    assert right + wrong == pytest.approx(1.0, abs=1e-6)


def test_samples_of_examples_and_seeds_are_independent():
    ids = [f"q{i}" for i in range(2000)]
    half, ones = np.full(2000, 0.5), np.ones(2000, int)
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


@pytest.fixture(params=["gpt2", "qwen"])
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
    settings = score_settings() | {"max_length": 19}
    found = fewshot.answer_probs(language_model, tokens, (7, 11), **settings)
    plain = fewshot.answer_probs(language_model, tokens, (7, 11), **settings, shares_prefix=False)
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
    found = fewshot.candidate_log_probs(language_model, tokens, candidates, ids, **score_settings())
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
    settings = score_settings() | {"max_length": 19}
    whole = fewshot.answer_probs(language_model, tokens, (7, 11), **settings)
    partial = classify.Partial(tmp_path / "scores.npz", every_s=-1.0)
    partial.part("1_of_2").save(np.array([0, 1, 2, 3]), [np.arange(4, dtype=np.float32)])
    found = fewshot.answer_probs(language_model, tokens, (7, 11), **settings, partial=partial)
    np.testing.assert_array_equal(found[:4], np.arange(4))
    np.testing.assert_array_equal(found[4:], whole[4:])


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [([" yes", " no"], [" yes", " no"]), (["es R", "es"], ["Res R", "Res"])],
    ids=["apart", "joined with the prompt's end"],
)
def test_candidates_begin_where_they_differ_from_the_prompt(candidates, expected):
    tokenizer = PatternTokenizer(r"Res|R| ?[^ R]+| ")
    prompt, found = fewshot.encode_candidates(tokenizer, "a b R", candidates)
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
        fewshot.encode_candidates(words(), prompt, candidates, name="q3")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_scored_is_named(fixtures, language_model):
    prompt, candidate = np.ones(18, np.int32), np.ones(2, np.int32)
    with pytest.raises(UserError, match="q7 has 20 tokens and the context leaves room for 19"):
        fewshot.candidate_log_probs(language_model, [prompt], [[candidate]], ["q7"], **score_settings())
    with pytest.raises(UserError, match="a candidate of q7 has no tokens"):
        fewshot.candidate_log_probs(language_model, [prompt], [[candidate[:0]]], ["q7"], **score_settings())
    headless = loader.load_decoder(
        fixtures / "parity_gpt2", lm_head=False, param_dtype="float32", compute_dtype="float32"
    )
    with pytest.raises(UserError, match="no language-model head"):
        fewshot.answer_probs(headless, [prompt], (1, 2), max_length=19, **score_settings())
