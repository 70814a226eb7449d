"""The decoders and heads: equal to torch's outputs (committed), to themselves under packing and remat."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import make_parity
from flax import nnx
from safetensors.numpy import load_file
from support import marks, parity, tiny_decoders

from selw2s_jax import errors, sharding
from selw2s_jax.models import decoder, family, heads, layers, registry


@pytest.fixture(params=tiny_decoders.FAMILIES)
def folder(request, fixtures):
    return fixtures / f"parity_{request.param}"


# Each policy must give torch's gradients, and so the same ones; which one it is does not depend on the family.
@pytest.mark.parametrize(
    ("name", "remat"),
    [("gpt2", "full"), ("qwen", "full"), marks.in_ci("qwen", "dots"), marks.in_ci("qwen", "none")],
)
def test_matches_committed_torch_outputs(fixtures, name, remat):
    folder = fixtures / f"parity_{name}"
    stored = load_file(folder / "expected" / "expected.safetensors")
    inputs = {name.removeprefix("input/"): stored.pop(name) for name in list(stored) if "input/" in name}
    parity.assert_close(parity.run_jax(folder, inputs, remat=remat), stored, tolerance=1e-5)


def test_packed_examples_equal_examples_alone(folder):
    model = tiny_decoders.load(folder)
    examples = [tiny_decoders.random_tokens(model.config, length, seed=length) for length in (7, 1, 5)]
    tokens, segment_ids, starts = tiny_decoders.pack(examples, num_tokens=17)
    packed = model.hidden_states(tokens, segment_ids)
    assert np.isfinite(packed).all()
    for alone, start in zip(tiny_decoders.alone(model, examples), starts, strict=True):
        np.testing.assert_allclose(packed[0, start : start + len(alone)], alone, atol=1e-5)
    first = tiny_decoders.alone(model, [example[:1] for example in examples])
    for alone, start in zip(first, starts, strict=True):  # the other tokens of its row change nothing
        np.testing.assert_allclose(packed[0, start : start + 1], alone, atol=1e-5)


def test_examples_of_a_row_never_see_each_other(folder):
    model = tiny_decoders.load(folder)
    examples = [tiny_decoders.random_tokens(model.config, length, seed=length) for length in (7, 4, 5)]
    tokens, segment_ids, _ = tiny_decoders.pack(examples, num_tokens=18)
    changed = np.where(segment_ids == 2, tokens, (tokens + 1) % model.config.vocab_size)
    before, after = (model.hidden_states(t, segment_ids) for t in (tokens, changed))
    is_second = segment_ids == 2
    np.testing.assert_array_equal(before[is_second], after[is_second])
    assert (np.asarray(before)[segment_ids == 1] != np.asarray(after)[segment_ids == 1]).any()


@pytest.mark.parametrize("compute_dtype", [*map(marks.in_ci, ("float32", "bfloat16"))])
def test_rows_of_padding_stay_finite_with_their_gradients(folder, compute_dtype):
    model = tiny_decoders.load(folder, compute_dtype=compute_dtype)
    tokens, segment_ids = np.zeros((2, 3, 11), np.int32)
    graphdef, state = nnx.split(model)

    def total(state):
        return nnx.merge(graphdef, state).hidden_states(tokens, segment_ids).astype(jnp.float32).sum()

    value, gradients = jax.value_and_grad(total)(state)
    assert np.isfinite(value) and all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@hypothesis.given(st.lists(st.integers(0, 2), min_size=11, max_size=11))
@hypothesis.settings(max_examples=30, deadline=None)
def test_positions_and_mask_follow_segments(row):
    segment_ids = np.array([row], np.int32)
    positions = np.zeros_like(segment_ids)
    for t in range(1, len(row)):
        positions[0, t] = positions[0, t - 1] + 1 if row[t] == row[t - 1] else 0
    np.testing.assert_array_equal(jax.jit(layers.segment_positions)(segment_ids), positions)
    mask = np.asarray(jax.jit(layers.attention_mask)(segment_ids))
    for t in range(len(row)):
        for s in range(len(row)):
            assert mask[0, 0, t, s] == (s <= t and row[t] == row[s])
    assert mask.any(axis=-1).all()


def test_explicit_positions_are_used(folder):
    model = tiny_decoders.load(folder)
    tokens = tiny_decoders.random_tokens(model.config, (2, 6))
    default = model.hidden_states(tokens)
    given = model.hidden_states(tokens, positions=np.arange(6, dtype=np.int32)[None].repeat(2, axis=0))
    np.testing.assert_allclose(default, given, atol=1e-6)
    spread = model.hidden_states(tokens, positions=2 * np.arange(6, dtype=np.int32)[None].repeat(2, axis=0))
    assert not np.allclose(default, spread, atol=1e-3)


def test_answer_logits_are_columns_of_lm_logits(folder):
    model = tiny_decoders.load(folder)
    hidden = model.hidden_states(tiny_decoders.random_tokens(model.config, (5, 7)))[:, -1]
    token_ids = tiny_decoders.random_tokens(model.config, (5, 3), seed=1)
    expected = jnp.take_along_axis(model.lm_logits(hidden), token_ids, axis=1)
    actual = model.answer_logits(hidden, token_ids)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert actual.dtype == expected.dtype == jnp.float32


def test_bfloat16_compute_is_close_to_float32(folder):
    exact, rounded = (
        tiny_decoders.load(folder),
        tiny_decoders.load(folder, param_dtype="bfloat16", compute_dtype="bfloat16"),
    )
    tokens = tiny_decoders.random_tokens(exact.config, (3, 13))
    expected, hidden = exact.hidden_states(tokens), rounded.hidden_states(tokens)
    assert hidden.dtype == jnp.bfloat16
    error = np.abs(np.asarray(hidden, np.float32) - expected)
    assert error.mean() < 0.03 * np.abs(expected).mean()
    logits = rounded.lm_logits(hidden)
    assert logits.dtype == jnp.float32
    assert np.abs(logits - exact.lm_logits(expected)).mean() < 0.05


def test_eager_calls_compile_once(folder, monkeypatch):
    model = tiny_decoders.load(folder)
    traces = []
    attention_mask = layers.attention_mask
    monkeypatch.setattr(layers, "attention_mask", lambda *ids: traces.append(1) or attention_mask(*ids))
    for seed in range(3):  # a shape that no other test uses
        model.hidden_states(tiny_decoders.random_tokens(model.config, (3, 3), seed))
        another = tiny_decoders.load.__wrapped__(folder)
        another.hidden_states(tiny_decoders.random_tokens(model.config, (3, 3), seed))
    assert len(traces) <= 1


def test_classifier_reads_each_example_at_its_last_token(folder):
    model = tiny_decoders.load(folder)
    examples = [tiny_decoders.random_tokens(model.config, length, seed=length) for length in (7, 2, 5)]
    tokens, segment_ids, starts = tiny_decoders.pack(examples, num_tokens=17)
    row = np.zeros(3, np.int32)
    last = np.array([s + len(e) - 1 for s, e in zip(starts, examples, strict=True)])
    classifier = heads.Classifier(model, p_ik_head=True)
    outputs = classifier(tokens, segment_ids, None, row, last)
    assert outputs.class_logits.shape == outputs.p_ik_logits.shape == (3, 2)
    assert not outputs.class_logits.any() and not outputs.p_ik_logits.any()  # zero-initialised heads
    expected = np.stack([hidden[-1] for hidden in tiny_decoders.alone(model, examples)])
    np.testing.assert_allclose(outputs.embeddings, expected, atol=1e-5)

    classifier.class_head[...] = jnp.eye(2, model.config.embed_dim)
    classifier.p_ik_head[...] = -jnp.eye(2, model.config.embed_dim)
    outputs = classifier(tokens, segment_ids, None, row, last)
    np.testing.assert_allclose(outputs.class_logits, expected[:, :2], atol=1e-5)
    np.testing.assert_allclose(outputs.p_ik_logits, -expected[:, :2], atol=1e-5)


def test_classifier_without_p_ik_head(folder):
    classifier = heads.Classifier(
        tiny_decoders.load(folder, lm_head=False, param_dtype="bfloat16"), p_ik_head=False
    )
    outputs = jax.eval_shape(
        lambda: classifier(np.zeros((1, 3), np.int32), None, None, np.array([0]), np.array([2]))
    )
    assert outputs.p_ik_logits is None
    assert outputs.class_logits.dtype == outputs.embeddings.dtype == jnp.float32
    assert classifier.class_head.dtype == jnp.bfloat16


def test_classifier_can_be_abstract():
    config = registry.MODELS["qwen-14b"].config
    model = nnx.eval_shape(
        lambda: heads.Classifier(
            decoder.Decoder(config, param_dtype="float32", compute_dtype="bfloat16", rngs=nnx.Rngs(0)),
            p_ik_head=True,
        )
    )
    params = decoder.flatten_params(nnx.state(model, nnx.Param))
    assert all(isinstance(v.get_value(), jax.ShapeDtypeStruct) for v in params.values())
    assert params["p_ik_head"].shape == (2, 5120)
    assert "backbone.lm_head" not in params


def test_initialised_decoder_runs():
    config = make_parity.GPT2_CONFIG
    options = {"param_dtype": "float32", "compute_dtype": "float32"}
    first, second = (decoder.Decoder(config, **options, rngs=nnx.Rngs(7)) for _ in range(2))
    tokens = tiny_decoders.random_tokens(config, (2, 5))
    np.testing.assert_array_equal(first.hidden_states(tokens), second.hidden_states(tokens))


def test_num_params_without_head():
    config = registry.MODELS["qwen-72b"].config
    difference = decoder.num_params(config, lm_head=True) - decoder.num_params(config, lm_head=False)
    assert difference == config.vocab_size * config.embed_dim
    config = registry.MODELS["gpt2"].config
    assert decoder.num_params(config, lm_head=True) == decoder.num_params(config, lm_head=False)


def test_a_new_family_registers(monkeypatch):
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    entry = dataclasses.replace(registry.get_family("gpt2"), name="gpt2-again")
    registry.register_family(entry)
    assert registry.get_family("gpt2-again") is entry
    with pytest.raises(ValueError, match="registered already"):
        registry.register_family(registry.get_family("gpt2"))
    with pytest.raises(errors.UserError, match="supported are gpt2, qwen"):
        registry.get_family("mamba")


def test_rows_longer_than_the_context(folder):
    model = tiny_decoders.load(folder)
    limit = model.config.max_seq_len
    tokens = tiny_decoders.random_tokens(model.config, (1, 2 * limit))
    with pytest.raises(errors.UserError, match=f"{2 * limit} tokens exceed the model's context of {limit}"):
        model.hidden_states(tokens)
    segment_ids = np.repeat([[1, 2]], limit, axis=1).astype(
        np.int32
    )  # longer rows of short examples are fine
    packed = model.hidden_states(tokens, segment_ids)
    np.testing.assert_allclose(packed[:, limit:], model.hidden_states(tokens[:, limit:]), atol=1e-5)


def test_head_not_built(fixtures):
    model = tiny_decoders.load(fixtures / "parity_gpt2", lm_head=False)
    with pytest.raises(ValueError, match="lm_head=False"):
        model.lm_logits(jnp.zeros((1, 21)))


@pytest.mark.parametrize(
    "options",
    [{"remat": "some"}, {"attention": "flash"}, {"param_dtype": "int32"}, {"compute_dtype": "float64"}],
)
def test_unknown_settings_are_refused(fixtures, options):
    with pytest.raises(errors.UserError, match=r"is not supported: choose"):
        tiny_decoders.load(fixtures / "parity_gpt2", **options)


def _settings():
    return family.Settings(
        jnp.dtype("float32"), jnp.dtype("float32"), "none", "xla", sharding.single_device_mesh()
    )


@pytest.mark.parametrize(
    "num_tokens",
    [5, *map(marks.in_ci, (331, 255, layers._BLOCKWISE_TOKENS))],
)
def test_attention_on_a_cpu_is_that_of_jax(num_tokens):
    """Values and gradients, with several examples and padding in a row."""
    rng = np.random.default_rng(0)
    q, k, v, weight = jnp.asarray(rng.normal(size=(4, 2, num_tokens, 3, 8)), jnp.float32)
    segment_ids = np.sort(rng.integers(0, 4, (2, num_tokens)), axis=1)[:, ::-1]
    mask = layers.attention_mask(jnp.asarray(segment_ids))
    context = layers.Context(mask, None, {})

    def ours(q, k, v):
        return layers.attend(q, k, v, context, _settings())

    def jaxs(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, mask=mask)

    def value_and_gradients(function):
        def run(*args):
            value, pull = jax.vjp(function, *args)
            return value, *pull(weight)

        return jax.jit(run)(q, k, v)

    for found, expected in zip(value_and_gradients(ours), value_and_gradients(jaxs), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "x_shape", "weight_shape"),
    [
        ("rtd,dcnh->rtcnh", (2, 3, 5), (5, 3, 2, 7)),
        ("rtd,cnhd->rtcnh", (2, 3, 5), (3, 2, 7, 5)),
        ("rtnh,nhd->rtd", (2, 3, 5, 7), (5, 7, 4)),
        ("rtnh,dnh->rtd", (2, 3, 5, 7), (4, 5, 7)),
        ("rtk,cnhk->rtcnh", (2, 3, 1), (3, 2, 7, 1)),
    ],
)
def test_a_product_of_matrices_is_the_einsum(spec, x_shape, weight_shape):
    rng = np.random.default_rng(0)
    x, weight = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (x_shape, weight_shape))
    expected = np.einsum(spec, x, weight)
    found = layers.project(spec, x, weight, _settings())
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)
