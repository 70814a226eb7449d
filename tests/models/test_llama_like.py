"""The families with Llama's layers: files, config.json, grouped queries and windows in every way that attention has."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import llama_like, tiny_decoders

from selw2s_jax import errors, sharding
from selw2s_jax.hf import loader, peft, random_checkpoint, writer
from selw2s_jax.models import blockwise_attention, decoder, heads, kv_cache, layers, lora, registry
from selw2s_jax.plan import estimate, search

_IN_BLOCKS = 2 * blockwise_attention._BLOCK_TOKENS + 5


@pytest.fixture(scope="module", params=llama_like.CONFIGS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    random_checkpoint.write_random_checkpoint(folder, llama_like.CONFIGS[name], seed=3)
    return folder


def test_a_checkpoint_goes_round(folder, name, tmp_path):
    assert loader.check_checkpoint(folder, lm_head=True) == llama_like.CONFIGS[name]
    model = tiny_decoders.load(folder)
    writer.save_checkpoint(tmp_path, model.config, model)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_tokens_behind_a_cache_are_as_in_one_pass(folder):
    model = tiny_decoders.load(folder)
    tokens = tiny_decoders.random_tokens(model.config, (3, 13))
    whole = model.hidden_states(tokens)
    cache = kv_cache.empty(model.config, model.settings, 3, 17)
    found, cuts = [], (0, 6, 7, 13)
    for start, stop in itertools.pairwise(cuts):
        hidden, (keys, values) = model.extend(tokens[:, start:stop], cache=cache)
        cache = kv_cache.append(cache, keys, values, np.full(3, stop - start, np.int32))
        found.append(hidden)
    assert cache.keys.shape[3] == model.config.kv_heads
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, atol=2e-5)


def test_packed_examples_share_a_past(folder):
    model = tiny_decoders.load(folder)
    past = tiny_decoders.random_tokens(model.config, (1, 6))
    examples = [tiny_decoders.random_tokens(model.config, length, seed=length) for length in (9, 1, 5)]
    tokens, segment_ids, starts = tiny_decoders.pack(examples, num_tokens=18)
    _, (keys, values) = model.extend(past)
    cache = kv_cache.empty(model.config, model.settings, 1, 7)
    cache = kv_cache.append(cache, keys, values, np.full(1, 6, np.int32))
    found = model.hidden_states(tokens.repeat(2, axis=0), segment_ids.repeat(2, axis=0), cache=cache)
    packed = model.hidden_states(tokens, segment_ids)
    whole = [np.concatenate([past[0], example]) for example in examples]
    for start, behind, alone in zip(
        starts, tiny_decoders.alone(model, whole), tiny_decoders.alone(model, examples), strict=True
    ):
        place = slice(start, start + len(alone))
        np.testing.assert_allclose(found[1, place], behind[6:], atol=2e-5)
        np.testing.assert_allclose(packed[0, place], alone, atol=2e-5)


@pytest.mark.parametrize(("num_tokens", "window"), [(9, None), (9, 3), (_IN_BLOCKS, None), (_IN_BLOCKS, 70)])
def test_grouped_attention_is_that_of_jax(num_tokens, window, monkeypatch):
    """Whole and in blocks, values and gradients; heads in the order of the comparison with torch."""
    monkeypatch.setattr(layers, "_BLOCKWISE_TOKENS", 20)
    rng = np.random.default_rng(0)
    q, weight = jnp.asarray(rng.normal(size=(2, 2, num_tokens, 6, 8)), jnp.float32)
    k, v = jnp.asarray(rng.normal(size=(2, 2, num_tokens, 2, 8)), jnp.float32)
    mask = layers.attention_mask(jnp.asarray(np.sort(rng.integers(0, 3, (2, num_tokens)))))
    if window is not None:
        mask &= layers.window_mask(jnp.arange(num_tokens)[None], num_tokens, window)
    settings = decoder.abstract_decoder(llama_like.CONFIGS["llama"]).settings

    def values_and_gradients(attend):
        def run(q, k, v):
            out, pull = jax.vjp(attend, q, k, v)
            return out, *pull(weight)

        return jax.jit(run)(q, k, v)

    found = values_and_gradients(
        lambda q, k, v: layers.attend(q, k, v, layers.Context(mask, None, {}), settings)
    )
    expected = values_and_gradients(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, mask=mask))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama"], indirect=True)
def test_adapters_are_of_each_weight_and_merge(folder, tmp_path):
    settings = lora.Settings(rank=3, alpha=6.0, dropout=0.0, targets=("attention", "mlp"))
    model = loader.load_decoder(folder, param_dtype="float32", compute_dtype="float32", lm_head=False)
    classifier = heads.Classifier(model, p_ik_head=False, adapters=settings, seed=1)
    weights = {"attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.gate", "mlp.down"}
    assert set(classifier.adapters.names) == weights
    for number, name in enumerate(sorted(weights)):
        b = classifier.adapters[name].b
        b[...] = 0.1 * jax.random.normal(jax.random.key(number), b.shape)
    tokens = tiny_decoders.random_tokens(model.config, (2, 7))
    plain = model.hidden_states(tokens)
    adapted = model.hidden_states(tokens, adapters=classifier.adapters)
    peft.save(tmp_path, classifier, base="base", main_head="class_head")
    read = peft.read(tmp_path / peft.WEIGHTS_NAME, classifier)
    for name, param in peft.params(classifier).items():
        np.testing.assert_array_equal(read[name], param[...])
    assert len(json.loads((tmp_path / peft.CONFIG_NAME).read_text())["target_modules"]) == 7
    lora.merge(classifier)
    assert np.abs(adapted - plain).max() > 0.01
    np.testing.assert_allclose(classifier.backbone.hidden_states(tokens), adapted, atol=2e-5)


def test_a_window_is_of_so_many_tokens():
    found = np.asarray(layers.window_mask(jnp.array([[0, 5]]), 6, 3))
    assert found[0, 0].tolist() == [[True] * 6, [False] * 3 + [True] * 3]


FIELDS = json.dumps(
    {"hidden_size": 24, "num_attention_heads": 6, "num_hidden_layers": 2, "intermediate_size": 38}
)


def _fields(model_type, **fields):
    known = {"model_type": model_type, "vocab_size": 58, "max_position_embeddings": 17, "rms_norm_eps": 1e-6}
    return json.loads(FIELDS) | known | {"head_dim": 4} | fields


def _parse(model_type, **fields):
    return registry.get_family(model_type).parse_config(_fields(model_type, **fields))


@pytest.mark.parametrize(
    "scaling", [None, *(llama_like.CONFIGS[n].rope_scaling for n in ("llama", "llama_tied"))]
)
def test_rotary_positions_of_both_versions_of_transformers(scaling):
    written = llama_like.CONFIGS["llama"]
    written = registry.get_family("llama").format_config(dataclasses.replace(written, rope_scaling=scaling))
    old = _parse("llama", rope_theta=5e5, rope_scaling=written["rope_scaling"])
    rope = {"rope_theta": 5e5, "rope_type": "default"} | (written["rope_scaling"] or {})
    new = _parse("llama", rope_parameters=rope, dtype="bfloat16", eos_token_id=[1, 2])
    assert old == new and old.rope_base == 5e5 and old.rope_scaling == scaling


def test_fields_that_may_be_missing():
    config = _parse(
        "llama", head_dim=None, num_key_value_heads=None, torch_dtype="float16", rope_scaling=None
    )
    assert (config.head_dim, config.num_kv_heads, config.kv_heads, config.rope_base) == (4, None, 6, 1e4)
    assert _parse("llama", num_key_value_heads=6).num_kv_heads is None
    assert _parse("mistral", sliding_window=None).sliding_window is None
    assert _parse("mistral", sliding_window=7).sliding_window == 7
    layer_types = ["full_attention"] * 2
    for model_type in ("qwen2", "qwen3"):
        ignored = {"sliding_window": 7, "use_sliding_window": False, "layer_types": layer_types}
        assert _parse(model_type, **ignored).sliding_window is None


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        ("llama", {"attention_bias": True}, "attention_bias True"),
        ("llama", {"mlp_bias": True}, "mlp_bias True"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("llama", {"quantization_config": {}}, "quantization_config"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_type 'yarn'"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "factor must be a positive float, not None"),
        ("llama", {"rope_scaling": "linear"}, "rope_scaling must be an object or null, not 'linear'"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        ("llama", {"num_key_value_heads": 4}, "6 is no multiple of num_key_value_heads 4"),
        ("llama", {"head_dim": 5}, "head_dim 5 must be even"),
        ("llama", {"head_dim": None, "hidden_size": 25}, "hidden_size 25 is no multiple"),
        ("mistral", {"sliding_window": 0}, "sliding_window must be a positive int, not 0"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window True"),
        ("qwen2", {"use_mrope": True}, "use_mrope True"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types sliding_attention"),
        ("qwen3", {"attention_bias": True}, "attention_bias True"),
        ("qwen3", {"head_dim": None}, "head_dim must be a positive int, not None"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(tmp_path, model_type, fields, message):
    (tmp_path / "config.json").write_text(json.dumps(_fields(model_type, **fields)))
    with pytest.raises(errors.UserError, match=message) as info:
        loader.read_model_config(tmp_path)
    assert "\n" not in str(info.value)


def test_a_tensor_axis_divides_the_kv_heads():
    config = dataclasses.replace(
        llama_like.CONFIGS["llama"], embed_dim=24, num_heads=8, mlp_dim=48, vocab_size=64
    )
    sharding.check_divisible(jax.sharding.AbstractMesh((1, 4, 2), sharding.MESH_AXES), config)
    with pytest.raises(errors.UserError, match="the llama model: num_kv_heads 2 by tensor 4; choose"):
        sharding.check_divisible(jax.sharding.AbstractMesh((1, 2, 4), sharding.MESH_AXES), config)
    assert max(tensor for *_, tensor in search.mesh_shapes(config, 8)) == 2


def test_the_plan_counts_grouped_weights():
    """Smaller products of k and v, the same attention."""
    grouped = llama_like.CONFIGS["llama"]
    whole = dataclasses.replace(grouped, num_kv_heads=None)
    fewer = 2 * 2 * 4 * 10 * 30  # layers, k and v, heads, entries, width
    assert decoder.num_params(whole, lm_head=True) - decoder.num_params(grouped, lm_head=True) == fewer
    sizes = {"num_tokens": 38, "num_examples": 2, "mean_length": 19.0, "backward": False}
    small, large = (estimate.step_flops(config, **sizes) for config in (grouped, whole))
    assert large.matmul - small.matmul == 2 * 38 * fewer and large.attention == small.attention


def test_sizes_of_older_families_are_the_json_that_they_were():
    config = registry.MODELS["gpt2"].config
    later = {"num_kv_heads", "rope_scaling", "sliding_window"}
    assert config.as_json() == {k: v for k, v in dataclasses.asdict(config).items() if k not in later}
    assert config.as_json()["rope_base"] is None
    assert dataclasses.replace(config, num_kv_heads=3).as_json()["num_kv_heads"] == 3
    for sizes in (config, *llama_like.CONFIGS.values()):
        assert registry.ModelConfig.from_json(json.loads(json.dumps(sizes.as_json()))) == sizes


PUBLISHED = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
)


# Sizes of the published checkpoints.
@pytest.mark.parametrize(
    ("model_type", "sizes", "total"),
    [
        # SmolLM2-135M: 576 wide, 30 layers.
        ("llama", (576, 30, 9, 3, 64, 1536, 49152, True), 134_515_008),
        # Llama-3-8B.
        ("llama", (4096, 32, 32, 8, 128, 14336, 128256, False), 8_030_261_248),
        # Mistral-7B-v0.1.
        ("mistral", (4096, 32, 32, 8, 128, 14336, 32000, False), 7_241_732_096),
        # Qwen2.5-1.5B.
        ("qwen2", (1536, 28, 12, 2, 128, 8960, 151936, True), 1_543_714_304),
        # Qwen3-0.6B.
        ("qwen3", (1024, 28, 16, 8, 128, 3072, 151936, True), 596_049_920),
    ],
)
def test_num_params(model_type, sizes, total):
    config = _parse(model_type, **dict(zip(PUBLISHED, sizes, strict=True)))
    assert decoder.num_params(config, lm_head=True) == total
