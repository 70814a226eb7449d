"""The families after GPT-2 and Qwen: files, adapters, grouped queries and windows in every way that attention has."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file
from support import families, marks, tiny_decoders

from selw2s_jax import errors, sharding
from selw2s_jax.hf import loader, peft, random_checkpoint, writer
from selw2s_jax.models import blockwise_attention, decoder, heads, kv_cache, layers, lora, registry
from selw2s_jax.plan import estimate
from selw2s_jax.training import layouts

_IN_BLOCKS = 2 * blockwise_attention._BLOCK_TOKENS + 5


@pytest.fixture(scope="module", params=families.params())
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    random_checkpoint.write_random_checkpoint(folder, families.CONFIGS[name], seed=3)
    return folder


def test_a_checkpoint_goes_round(folder, name, tmp_path):
    assert loader.check_checkpoint(folder, lm_head=True) == families.CONFIGS[name]
    model = tiny_decoders.load(folder)
    writer.save_checkpoint(tmp_path, model.config, model)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_narrow_weights_are_read_exactly(name, dtype, tmp_path):
    dtype = np.dtype(dtype)
    random_checkpoint.write_random_checkpoint(tmp_path / "narrow", families.CONFIGS[name], dtype=dtype.name)
    stored = load_file(tmp_path / "narrow" / "model.safetensors")
    assert {array.dtype for array in stored.values()} == {dtype}
    model = tiny_decoders.load(tmp_path / "narrow")
    writer.save_checkpoint(tmp_path / "wide", model.config, model)
    wide = load_file(tmp_path / "wide" / "model.safetensors")
    assert wide.keys() == stored.keys()
    for key, array in wide.items():
        np.testing.assert_array_equal(array, stored[key].astype(np.float32), err_msg=key)


# Of those that are quick the one whose window ends within the cache.
@pytest.mark.parametrize("name", families.params("mistral"), indirect=True)
def test_tokens_behind_a_cache_are_as_in_one_pass(folder):
    model = tiny_decoders.load(folder)
    tokens = tiny_decoders.random_tokens(model.config, (3, 13))
    whole = model.hidden_states(tokens)
    cache = kv_cache.empty(model.config, model.settings, 3, 17)
    found, cuts = [], (0, 6, 7, 13)
    for start, stop in itertools.pairwise(cuts):
        hidden, (keys, values) = model.extend(tokens[:, start:stop], cache=cache)
        cache = kv_cache.append(cache, keys, values, np.ones(3, bool))
        found.append(hidden)
    assert cache.keys.shape[2] == model.config.kv_heads
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, atol=2e-5)


@pytest.mark.parametrize("name", families.params("mistral"), indirect=True)
def test_packed_examples_share_a_past(folder):
    model = tiny_decoders.load(folder)
    past = tiny_decoders.random_tokens(model.config, (1, 6))
    examples = [tiny_decoders.random_tokens(model.config, length, seed=length) for length in (9, 1, 5)]
    tokens, segment_ids, starts = tiny_decoders.pack(examples, num_tokens=18)
    _, (keys, values) = model.extend(past)
    cache = kv_cache.empty(model.config, model.settings, 1, 7)
    cache = kv_cache.append(cache, keys, values, np.ones(1, bool))
    found = model.hidden_states(tokens.repeat(2, axis=0), segment_ids.repeat(2, axis=0), cache=cache)
    packed = model.hidden_states(tokens, segment_ids)
    whole = [np.concatenate([past[0], example]) for example in examples]
    for start, behind, alone in zip(
        starts, tiny_decoders.alone(model, whole), tiny_decoders.alone(model, examples), strict=True
    ):
        place = slice(start, start + len(alone))
        np.testing.assert_allclose(found[1, place], behind[6:], atol=2e-5)
        np.testing.assert_allclose(packed[0, place], alone, atol=2e-5)


@pytest.mark.parametrize(
    ("num_tokens", "window"),
    [
        (9, None),
        marks.in_ci(9, 3),
        marks.in_ci(_IN_BLOCKS, None),
        marks.in_ci(_IN_BLOCKS, 70),
    ],
)
def test_grouped_attention_is_that_of_jax(num_tokens, window, monkeypatch):
    """Whole and in blocks, values and gradients; heads in the order of the comparison with torch."""
    monkeypatch.setattr(layers, "_BLOCKWISE_TOKENS", 20)
    rng = np.random.default_rng(0)
    q, weight = jnp.asarray(rng.normal(size=(2, 2, num_tokens, 6, 8)), jnp.float32)
    k, v = jnp.asarray(rng.normal(size=(2, 2, num_tokens, 2, 8)), jnp.float32)
    mask = layers.attention_mask(jnp.asarray(np.sort(rng.integers(0, 3, (2, num_tokens)))))
    if window is not None:
        mask &= layers.window_mask(*2 * [jnp.arange(num_tokens)[None]], window)
    settings = decoder.abstract_decoder(families.CONFIGS["llama"]).settings

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


@pytest.mark.parametrize("name", families.params("none of them"), indirect=True)
def test_adapters_are_of_each_weight_and_merge(folder, tmp_path):
    settings = lora.Settings(rank=3, alpha=6.0, dropout=0.0, targets=("attention", "mlp"))
    model = loader.load_decoder(folder, param_dtype="float32", compute_dtype="float32", lm_head=False)
    classifier = heads.Classifier(model, p_ik_head=False, adapters=settings, seed=1)
    weights = {"attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.gate", "mlp.down"}
    if model.config.family == "gpt_neox":
        weights = {"attn.qkv", "attn.out", "mlp.up", "mlp.down"}
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
    assert len(json.loads((tmp_path / peft.CONFIG_NAME).read_text())["target_modules"]) == len(weights)
    lora.merge(classifier)
    writer.save_checkpoint(tmp_path / "merged", model.config, classifier.backbone)
    adapters = load_file(tmp_path / peft.WEIGHTS_NAME)
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "merged"))
    for key in [key for key in adapters if "lora_A" in key]:  # as PEFT adds them, alpha / rank B A
        weight = key.removeprefix("base_model.model.").replace(".lora_A", "")
        product = 2.0 * adapters[key.replace("lora_A", "lora_B")] @ adapters[key]
        np.testing.assert_allclose(after[weight], before[weight] + product, atol=1e-6, err_msg=weight)
    assert np.abs(adapted - plain).max() > 0.01
    np.testing.assert_allclose(classifier.backbone.hidden_states(tokens), adapted, atol=2e-5)


def test_a_part_of_each_head_is_rotated():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 3, 10)), jnp.float32)
    rotary = layers.rotary_tables(jnp.arange(5)[None].repeat(2, axis=0), 6, 100.0)
    found = layers.apply_rotary(x, rotary)
    np.testing.assert_array_equal(found[..., 6:], x[..., 6:])
    np.testing.assert_array_equal(found[..., :6], layers.apply_rotary(x[..., :6], rotary))


def test_a_window_is_of_so_many_tokens():
    found = np.asarray(layers.window_mask(jnp.array([[0, 5]]), jnp.arange(6)[None], 3))
    assert found[0, 0].tolist() == [[True] * 6, [False] * 3 + [True] * 3]


def test_a_tensor_axis_divides_the_kv_heads():
    config = dataclasses.replace(
        families.CONFIGS["llama"], embed_dim=24, num_heads=8, mlp_dim=48, vocab_size=64
    )
    sharding.check_divisible(jax.sharding.AbstractMesh((1, 4, 2), sharding.MESH_AXES), config)
    with pytest.raises(errors.UserError, match="the llama model: num_kv_heads 2 by tensor 4; choose"):
        sharding.check_divisible(jax.sharding.AbstractMesh((1, 2, 4), sharding.MESH_AXES), config)
    assert max(tensor for *_, tensor in layouts.mesh_shapes(config, 8)) == 2


def test_the_plan_counts_grouped_weights():
    """Smaller products of k and v, the same attention."""
    grouped = families.CONFIGS["llama"]
    whole = dataclasses.replace(grouped, num_kv_heads=None)
    fewer = 2 * 2 * 4 * 10 * 30  # layers, k and v, heads, entries, width
    assert decoder.num_params(whole, lm_head=True) - decoder.num_params(grouped, lm_head=True) == fewer
    sizes = {"num_tokens": 38, "num_examples": 2, "mean_length": 19.0, "backward": False}
    small, large = (estimate.step_flops(config, **sizes) for config in (grouped, whole))
    assert large.matmul - small.matmul == 2 * 38 * fewer and large.attention == small.attention
    windowed = estimate.step_flops(dataclasses.replace(grouped, sliding_window=4), **sizes)
    seen_less = 4 * 38 * 2 * 6 * 10 * (19 - 4)  # tokens, layers, heads, entries, tokens out of sight
    assert windowed.total == small.total and small.model - windowed.model == seen_less


def test_sizes_of_older_families_are_the_json_that_they_were():
    config = registry.MODELS["gpt2"].config
    later = {
        "num_kv_heads",
        "rope_scaling",
        "sliding_window",
        "rotary_fraction",
        "parallel_residual",
        "activation",
    }
    assert config.as_json() == {k: v for k, v in dataclasses.asdict(config).items() if k not in later}
    assert config.as_json()["rope_base"] is None
    assert dataclasses.replace(config, num_kv_heads=3).as_json()["num_kv_heads"] == 3
    for sizes in (config, *families.CONFIGS.values()):
        assert registry.ModelConfig.from_json(json.loads(json.dumps(sizes.as_json()))) == sizes
