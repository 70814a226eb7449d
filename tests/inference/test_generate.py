"""Generation: equal to recomputing the whole sequence, and a function of the example and the seed alone."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import commands, families, inference_worker, marks, mesh_models, paths, written_answers

from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader, random_checkpoint
from selw2s_jax.inference import candidates, fewshot, generate, prefix
from selw2s_jax.models import lora

MAX_SEQ_LEN = 19  # of the fixtures
# All mechanisms of attention: mistral has grouped queries and a short window.
MODELS = [
    "mistral",
    *map(marks.in_ci, ("gpt2", "qwen", "olmo2")),
    marks.thorough("gpt_neox"),
]
FLOAT32 = {"param_dtype": "float32", "compute_dtype": "float32"}


class LetterTokenizer:
    """Token i is the i-th letter."""

    def decode(self, ids) -> str:
        return "".join(chr(ord("A") + int(i)) for i in ids)


@pytest.fixture(scope="module", params=[marks.in_ci("gpt2"), "qwen"])
def model(request, tmp_path_factory):
    folder = paths.FIXTURES / f"parity_{request.param}"
    if request.param in families.CONFIGS:
        folder = tmp_path_factory.mktemp(request.param)
        random_checkpoint.write_random_checkpoint(folder, families.CONFIGS[request.param])
    model = loader.load_decoder(folder, lm_head=True, **FLOAT32)
    if request.param == "gpt2":  # its output is nearly the same everywhere otherwise
        model.final_norm.bias[...] *= 0
        model.wpe[...] *= 10
    return model


def random_prompts(model, lengths=(3, 11, 1, 7, 16, 2, 5), seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(model.config.vocab_size, size=n).astype(np.int32) for n in lengths]


def run(model, prompts, names=None, *, num_rows=3, steps_per_chunk=4, work=None, **settings):
    names = names or [f"q{i}" for i in range(len(prompts))]
    return generate.generate(
        model,
        LetterTokenizer(),
        prompts,
        names,
        generate.Settings(**{"max_new_tokens": 9, "temperature": 0.0} | settings),
        batch_tokens=num_rows * MAX_SEQ_LEN,
        label="test",
        steps_per_chunk=steps_per_chunk,
        work=work,
    )


def recompute(model, prompt, max_new_tokens, eos_ids=()):
    """Greedy generation by reading the whole sequence for every token."""
    whole = list(prompt)
    while len(whole) < min(len(prompt) + max_new_tokens, MAX_SEQ_LEN):
        row = np.zeros((1, MAX_SEQ_LEN), np.int32)
        row[0, : len(whole)] = whole
        logits = model.lm_logits(model.hidden_states(row)[0, len(whole) - 1])
        whole.append(int(jnp.argmax(logits)))
        if whole[-1] in eos_ids:
            break
    return whole[len(prompt) :]


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_greedy_is_recomputing_the_whole_sequence(model):
    """Prompts of all lengths through three rows, refilled; some end by the context, some by EOS."""
    prompts = random_prompts(model)
    free = [recompute(model, prompt, 9) for prompt in prompts]
    eos = free[0][4]
    expected = [recompute(model, prompt, 9, (eos,)) for prompt in prompts]
    found = run(model, prompts, eos_ids=(eos,))
    for (completion,), tokens, prompt in zip(found, expected, prompts, strict=True):
        assert completion.tokens.tolist() == tokens and completion.tokens.dtype == np.int32
        has_eos = tokens[-1] == eos
        assert completion.finish == ("eos" if has_eos else "length")
        assert completion.text == LetterTokenizer().decode(tokens[: len(tokens) - has_eos])
        assert has_eos or len(tokens) == min(9, MAX_SEQ_LEN - len(prompt))
    assert {own.finish for (own,) in found} == {"eos", "length"}


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_a_shared_beginning_is_read_once(model, monkeypatch):
    begin = np.array([5, 1, 8, 2], np.int32)
    prompts = [np.concatenate([begin, prompt]) for prompt in random_prompts(model, (3, 1, 9, 5, 2))]
    plain = run(model, prompts)
    monkeypatch.setattr(prefix, "MIN_TOKENS", 3)
    monkeypatch.setattr(prefix, "MIN_MEMBERS", 3)
    read = []
    prefill = prefix.prefill
    monkeypatch.setattr(prefix, "prefill", lambda *args: read.append(len(args[1])) or prefill(*args))
    found = run(model, prompts)
    assert read == [4]
    for (completion,), (expected,) in zip(found, plain, strict=True):
        assert completion.tokens.tolist() == expected.tokens.tolist()


@pytest.mark.parametrize("model", ["mistral", *map(marks.in_ci, ("gpt2", "qwen"))], indirect=True)
@pytest.mark.parametrize("num_rows", [4, marks.in_ci(1), marks.in_ci(9)])
def test_what_permutations_begin_with_is_read_once(model, num_rows):
    """Two questions whose prompts begin alike, one of them asked twice in the same words, and a third by itself."""
    stems, (alone,) = random_prompts(model, (6, 4)), random_prompts(model, (5,), seed=9)
    ends = random_prompts(model, (3, 2, 4, 1), seed=4)
    prompts = [np.concatenate([stem, end]) for end in ends for stem in stems] + [alone]
    prompts.append(prompts[0])
    expected = [recompute(model, prompt, 9) for prompt in prompts[:-1]]
    work = generate.Work()
    found = run(model, prompts, num_rows=num_rows, work=work)
    assert tokens_of(found) == [[own] for own in [*expected, expected[0]]]
    assert work.tokens == sum(map(len, expected)) + len(expected[0])
    if num_rows == 9:  # all but one are read together
        own = sum(map(len, ends))
        assert 2 * own + 4 + 6 + 5 <= work.prompt_tokens < sum(map(len, prompts)) - 20
    elif num_rows == 1:
        assert work.prompt_tokens == sum(map(len, prompts))


@pytest.mark.slow
@pytest.mark.ci
def test_samples_of_a_prompt_read_it_once(model):
    prompts = random_prompts(model, (7, 4))
    work = generate.Work()
    found = run(model, prompts, num_rows=6, work=work, **SAMPLED | {"num_samples": 3})
    assert work.prompt_tokens == 11
    one_by_one = run(model, prompts, num_rows=1, **SAMPLED | {"num_samples": 3})
    assert tokens_of(found) == tokens_of(one_by_one)


@pytest.mark.slow
@pytest.mark.ci
def test_rows_do_not_wait_for_the_longest(model):
    """Completions that end at very different lengths: most row-steps make a token, and more than in whole batches."""
    prompts = random_prompts(model, np.random.default_rng(0).integers(1, 9, 64))
    free = run(model, prompts, num_rows=64, steps_per_chunk=9)
    tokens, counts = np.unique([token for (own,) in free for token in own.tokens], return_counts=True)
    eos = tuple(tokens[np.argsort(-counts)[:2]].tolist())
    work = generate.Work()
    found = run(model, prompts, num_rows=8, steps_per_chunk=9, eos_ids=eos, work=work)
    steps = np.array([len(own.tokens) - 1 for (own,) in found])  # the first token is the prompt's
    assert len(set(steps.tolist())) > 4
    in_batches = sum(8 * of_batch.max() for of_batch in steps.reshape(8, 8))
    occupancy = steps.sum() / work.row_steps
    assert occupancy > 0.7 and occupancy > 1.15 * steps.sum() / in_batches


@pytest.fixture(scope="module", params=["mistral", marks.in_ci("qwen2"), marks.thorough("gpt2")])
def adapted(request, tmp_path_factory):
    """A model with adapters of queries and values, the same with merged weights, and without adapters."""
    folder, targets = paths.FIXTURES / f"parity_{request.param}", ("attention", "mlp")
    if request.param in families.CONFIGS:
        folder, targets = tmp_path_factory.mktemp(request.param), ("q", "v")
        random_checkpoint.write_random_checkpoint(folder, families.CONFIGS[request.param])
    settings = lora.Settings(rank=3, alpha=9.0, dropout=0.05, targets=targets)
    unmerged, merged = (written_answers.make_model(folder, settings) for _ in range(2))
    lora.merge(merged)
    assert merged.adapters is None
    return unmerged, merged, loader.load_decoder(folder, lm_head=True, **FLOAT32)


@pytest.mark.parametrize("case", ["shared", marks.in_ci("apart"), marks.in_ci("sampled")])
def test_adapters_write_as_merged_weights_do(adapted, monkeypatch, case):
    """Token for token: of prompts of all lengths through three rows, and with a common beginning that is read once."""
    monkeypatch.setattr(prefix, "MIN_TOKENS", 3)
    monkeypatch.setattr(prefix, "MIN_MEMBERS", 3)
    *both, plain = adapted
    begin = np.array([5, 1, 8, 2] if case != "apart" else [], np.int32)
    prompts = [np.concatenate([begin, prompt]) for prompt in random_prompts(plain, (3, 1, 9, 5, 2))]
    settings = SAMPLED if case == "sampled" else {}
    found, expected = (tokens_of(run(model, prompts, **settings)) for model in both)
    assert found == expected
    if case == "apart":
        assert found != tokens_of(run(plain, prompts))


@pytest.mark.slow
@pytest.mark.ci
def test_adapters_score_as_merged_weights_do(adapted, monkeypatch):
    """Candidates and answers of one token, with a common beginning and without."""
    plain = adapted[-1]
    begin = np.arange(5, dtype=np.int32)
    prompts = [np.concatenate([begin, prompt]) for prompt in random_prompts(plain, (3, 1, 9, 5, 2))]
    texts, names = [[ids[-2:], ids[:1]] for ids in prompts], [f"q{i}" for i in range(len(prompts))]
    scoring = {"mesh": plain.mesh, "batch_tokens": 3 * MAX_SEQ_LEN, "label": "test"}
    for least in (3, 64):
        monkeypatch.setitem(prefix.group.__kwdefaults__, "min_members", least)
        monkeypatch.setitem(prefix.group.__kwdefaults__, "min_tokens", least)
        found, expected, other = (
            np.concatenate(
                [
                    *candidates.log_probs(model, prompts, texts, names, **scoring),
                    fewshot.answer_log_odds(model, prompts, (3, 8), **scoring),
                ]
            )
            for model in adapted
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert np.abs(found - other).max() > 0.01


SAMPLED = {"temperature": 1.3, "top_p": 0.9, "num_samples": 2, "seed": 5}


def tokens_of(found):
    return [[completion.tokens.tolist() for completion in own] for own in found]


@pytest.mark.slow
@pytest.mark.ci
def test_samples_do_not_depend_on_rows_or_order(model):
    num_rows = {"gpt2": 1, "qwen": 5}[model.config.family]
    prompts = random_prompts(model)
    names = [f"arc/{i}" for i in range(len(prompts))]
    expected = tokens_of(run(model, prompts, names, **SAMPLED))
    assert len({str(own) for pair in expected for own in pair}) > 10
    order = np.random.default_rng(num_rows).permutation(len(prompts))
    found = run(
        model,
        [prompts[i] for i in order],
        [names[i] for i in order],
        num_rows=num_rows,
        steps_per_chunk={1: 4, 5: 3}[num_rows],
        **SAMPLED,
    )
    assert tokens_of(found) == [expected[i] for i in order]


def test_samples_are_keyed_by_seed_and_example(model):
    prompt = random_prompts(model, (4,))
    first, again, other_seed = (
        tokens_of(run(model, prompt, ["a"], num_rows=1, **SAMPLED | {"seed": seed})) for seed in (5, 5, 6)
    )
    assert first == again != other_seed
    assert tokens_of(run(model, prompt, ["b"], num_rows=1, **SAMPLED)) != first
    # The first of more samples is the one sample.
    assert tokens_of(run(model, prompt, ["a"], num_rows=1, **SAMPLED | {"num_samples": 1})) == [first[0][:1]]


def test_greedy_samples_are_all_the_same(model):
    for found in run(model, random_prompts(model, (4, 2, 7)), num_samples=2):
        assert len(found) == 2 and found[0].text == found[1].text


def test_stop_strings_end_a_completion_wherever_chunks_end(model):
    """A stop string within another, one over several tokens, and one that never comes."""
    prompts = random_prompts(model, (3, 5, 2, 4, 6))
    free = [own.text for (own,) in run(model, prompts)]
    stop = (free[0][2:6], free[0][3:5], free[1][4:6], "nothing")
    steps_per_chunk = {"gpt2": 1, "qwen": 7}[model.config.family]
    found = run(model, prompts, steps_per_chunk=steps_per_chunk, stop=stop)
    for (own,), text in zip(found, free, strict=True):
        ends = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
        if ends:
            end = min(ends)[0]
            start = min(text.find(s) for s in stop if s in text[:end])
            assert own.finish == "stop" and own.text == text[:start] and len(own.tokens) == end
        else:
            assert own.finish == "length" and own.text == text
    assert sum(own.finish == "stop" for (own,) in found) >= 2


def keys(num):
    return np.arange(2 * num, dtype=np.uint32).reshape(num, 2)


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.5, 0.25, 0.15, 0.1]),
        (0.5, 1.0, np.square([0.5, 0.25, 0.15, 0.1]) / 0.345),
        (1.0, 0.7, [2 / 3, 1 / 3, 0, 0]),  # 0.5 is not enough, with 0.25 it is
        (1.0, 0.5, [1, 0, 0, 0]),
        (1.0, 1e-6, [1, 0, 0, 0]),
        (0.0, 1.0, [1, 0, 0, 0]),
    ],
)
def test_draws_have_the_distribution_asked_for(temperature, top_p, expected):
    num = 4000
    order = np.array([2, 0, 3, 1])
    logits = jnp.log(jnp.array([0.5, 0.25, 0.15, 0.1]))[order][None].repeat(num, axis=0)
    found = generate.sample(logits, keys(num), jnp.zeros(num, jnp.int32), temperature, top_p)
    shares = np.bincount(np.asarray(found), minlength=4) / num
    np.testing.assert_allclose(shares, np.array(expected)[order], atol=0.03)
    assert not shares[np.array(expected)[order] == 0].any()


def test_draws_of_positions_are_independent():
    logits = jnp.zeros((500, 7))
    first, second = (generate.sample(logits, keys(500), jnp.full(500, i), 1.0, 1.0) for i in (0, 1))
    assert 0.05 < np.mean(first == second) < 0.25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"stop": ("a", "")}, "a stop string is empty"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        generate.Settings(**{"max_new_tokens": 9, "temperature": 1.0} | settings)


def test_prompts_that_cannot_be_answered_are_named(model):
    fitting = np.zeros(MAX_SEQ_LEN - 1, np.int32)
    assert [len(completion.tokens) for (completion,) in run(model, [fitting] * 3)] == [1] * 3
    with pytest.raises(UserError, match="q1 has 19 tokens and the context leaves room for 18"):
        run(model, [fitting, np.zeros(MAX_SEQ_LEN, np.int32)])
    with pytest.raises(UserError, match="the prompt of q0 has no tokens"):
        run(model, [fitting[:0]])
    assert run(model, []) == []


def test_a_model_without_a_language_model_head_generates_nothing(fixtures):
    headless = loader.load_decoder(fixtures / "parity_gpt2", lm_head=False, **FLOAT32)
    with pytest.raises(UserError, match="no language-model head"):
        run(headless, [np.zeros(3, np.int32)])


@pytest.mark.torch
@pytest.mark.parametrize(("family", "seed"), [("gpt2", 3), ("qwen", 4)])
def test_greedy_is_torch_generate(tmp_path, family, seed):
    """transformers' `generate` of a left-padded batch of prompts of different lengths."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from fixtures import make_parity

    config = make_parity.CONFIGS[family]
    random_checkpoint.write_random_checkpoint(tmp_path, config, seed=seed)
    model = loader.load_decoder(tmp_path, lm_head=True, **FLOAT32)
    prompts = random_prompts(model, (3, 9, 1, 6), seed)
    free = [own.tokens for (own,) in run(model, prompts)]
    eos = int(free[1][5])
    longest = max(map(len, prompts))
    ids, attention = np.full((2, len(prompts), longest), 0)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :], attention[row, longest - len(prompt) :] = prompt, 1
    torch_model, _ = make_parity.build(tmp_path, config)
    expected = torch_model.generate(
        torch.tensor(ids),
        attention_mask=torch.tensor(attention),
        max_new_tokens=9,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=eos,
    )[:, longest:]
    found = run(model, prompts, eos_ids=(eos,))
    for (own,), row in zip(found, expected.tolist(), strict=True):
        row = row[: row.index(eos) + 1] if eos in row else row
        assert own.tokens.tolist() == row
    assert {len(own.tokens) for (own,) in found} != {9}


@pytest.mark.slow
@pytest.mark.ci
def test_samples_are_finite_in_bfloat16(fixtures):
    model = loader.load_decoder(
        fixtures / "parity_qwen", lm_head=True, param_dtype="bfloat16", compute_dtype="bfloat16"
    )
    found = run(model, random_prompts(model), temperature=1.0)
    assert all(0 <= token < model.config.vocab_size for (own,) in found for token in own.tokens)
    assert jax.tree.all([len(own.tokens) > 0 for (own,) in found])


MESHES = ("2,2,2", "1,4,1")


@pytest.fixture(scope="module")
def by_mesh(tmp_path_factory):
    """Scores and tokens by mesh and name, from a process with 8 CPU devices."""
    folder = tmp_path_factory.mktemp("sharded")
    random_checkpoint.write_random_checkpoint(folder, mesh_models.CONFIGS["qwen"], seed=2)
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": commands.xla_flags(8),
    }
    command = [sys.executable, inference_worker.__file__, folder, folder / "arrays.npz", "1,1,1", *MESHES]
    subprocess.run(list(map(str, command)), env=environment, check=True, timeout=900)
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "arrays.npz") as arrays:
        for key, array in arrays.items():
            mesh, name = key.split("/")
            found.setdefault(mesh, {})[name] = array
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_layouts_equal_one_device(by_mesh, mesh):
    expected, found = by_mesh["1,1,1"], by_mesh[mesh]
    assert found.keys() == expected.keys() and len(found) == 7
    for name, array in expected.items():
        if "temperature" in name or name == "groups":
            np.testing.assert_array_equal(found[name], array, err_msg=name)
        else:
            np.testing.assert_allclose(found[name], array, rtol=1e-5, err_msg=name)
    assert expected["groups"].tolist() == [[1, 0], [3, 4], [9, 5]]
