"""What config.json says of each family: as both versions of transformers write it, and what is refused by name."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from support import checkpoint_edits as edits
from support import families

from selw2s_jax import errors
from selw2s_jax.hf import loader, random_checkpoint
from selw2s_jax.models import decoder, registry

_FIELDS = {"hidden_size": 24, "num_attention_heads": 6, "num_hidden_layers": 2, "intermediate_size": 38}


def _fields(model_type, **fields):
    known = {"model_type": model_type, "vocab_size": 58, "max_position_embeddings": 17, "rms_norm_eps": 1e-6}
    if model_type != "gpt_neox":
        known |= {"head_dim": 4}
    return _FIELDS | known | fields


def _parse(model_type, **fields):
    return registry.get_family(model_type).parse_config(_fields(model_type, **fields))


@pytest.mark.parametrize("name", families.CONFIGS)
def test_rotary_positions_of_both_versions_of_transformers(name):
    config = families.CONFIGS[name]
    family = registry.get_family(config.family)
    old = family.format_config(config) | {"torch_dtype": "float16"}
    assert family.parse_config(old) == config
    new = old | {"dtype": "bfloat16", "eos_token_id": [1, 2]}
    rope = {"rope_type": "default"} | (new.pop("rope_scaling") or {})
    rope["rope_theta"] = new.pop("rotary_emb_base" if "rotary_emb_base" in new else "rope_theta")
    if "rotary_pct" in new:
        rope["partial_rotary_factor"] = new.pop("rotary_pct")
    assert family.parse_config(new | {"rope_parameters": rope}) == config


# As EleutherAI/pythia-70m, EleutherAI/gpt-neox-20b and allenai/OLMo-2-0425-1B have them, from memory, smaller.
PYTHIA = {
    "architectures": ["GPTNeoXForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "gelu",
    "hidden_size": 48,
    "initializer_range": 0.02,
    "intermediate_size": 192,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "gpt_neox",
    "num_attention_heads": 3,
    "num_hidden_layers": 6,
    "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.24.0",
    "use_cache": True,
    "use_parallel_residual": True,
    "vocab_size": 304,
}
OLMO2 = {
    "architectures": ["Olmo2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": 257,
    "hidden_act": "silu",
    "hidden_size": 48,
    "initializer_range": 0.02,
    "intermediate_size": 192,
    "max_position_embeddings": 4096,
    "model_type": "olmo2",
    "num_attention_heads": 6,
    "num_hidden_layers": 6,
    "num_key_value_heads": 3,
    "pad_token_id": 277,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 500000,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.47.0",
    "use_cache": False,
    "vocab_size": 352,
}


def test_published_forms():
    config = registry.get_family("gpt_neox").parse_config(PYTHIA)
    assert (config.rotary_dim, config.head_dim, config.parallel_residual) == (4, 16, True)
    config = registry.get_family("gpt_neox").parse_config(
        PYTHIA | {"hidden_act": "gelu_fast", "rotary_pct": 1.0}
    )
    assert (config.activation, config.rotary_fraction, config.rotary_dim) == ("gelu_fast", None, 16)
    config = registry.get_family("olmo2").parse_config(OLMO2)
    assert (config.kv_heads, config.head_dim, config.rope_base) == (3, 8, 5e5)


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
    config = _parse("gpt_neox", hidden_size=48)
    assert (config.activation, config.rotary_dim, config.rope_base, config.norm_eps) == ("gelu", 2, 1e4, 1e-5)
    assert config.parallel_residual and not config.tie_embeddings


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
        (
            "llama",
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}},
            "rope_type 'linear' of rope_scaling and 'default' of rope_parameters differ",
        ),
        (
            "llama",
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
            "rope_parameters of its own for full_attention",
        ),
        ("llama", {"rope_scaling": "linear"}, "rope_scaling must be an object or null, not 'linear'"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        ("llama", {"num_key_value_heads": 4}, "6 is no multiple of num_key_value_heads 4"),
        ("llama", {"head_dim": 5}, "head_dim 5 must be even"),
        ("llama", {"head_dim": None, "hidden_size": 25}, "hidden_size 25 is no multiple"),
        ("llama", {"tie_word_embeddings": "false"}, "tie_word_embeddings must be true or false, not 'false'"),
        ("llama", {"layer_types": 3}, "layer_types must be a list or null, not 3"),
        ("mistral", {"sliding_window": 0}, "sliding_window must be a positive int, not 0"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window True"),
        ("qwen2", {"use_mrope": True}, "use_mrope True"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types sliding_attention"),
        ("qwen3", {"attention_bias": True}, "attention_bias True"),
        ("qwen3", {"head_dim": None}, "head_dim must be a positive int, not None"),
        ("gpt_neox", {"attention_bias": False}, "attention_bias False"),
        ("gpt_neox", {"hidden_act": "relu"}, "hidden_act 'relu' .supported: 'gelu' or"),
        ("gpt_neox", {"num_attention_heads": 5}, "num_attention_heads 5 does not divide hidden_size 24"),
        (
            "gpt_neox",
            {"rotary_pct": 0.75},
            r"rotary_pct .* 0.75 of the 4 entries of a head must be .*, not 3",
        ),
        ("gpt_neox", {"rotary_pct": 0.1}, "even number of them, not 0"),
        ("gpt_neox", {"rotary_pct": 1.5}, "rotary_pct must lie in .* to 1, not be 1.5"),
        (
            "gpt_neox",
            {"rotary_emb_base": 10000, "rope_theta": 500.0},
            "rotary_emb_base .* and rope_theta .* differ",
        ),
        ("gpt_neox", {"use_parallel_residual": 1}, "use_parallel_residual must be true or false, not 1"),
        ("gpt_neox", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
        ("olmo2", {"attention_bias": True}, "attention_bias True"),
        ("olmo2", {"hidden_act": "relu"}, "hidden_act 'relu'"),
        ("olmo2", {"num_key_value_heads": 4}, "6 is no multiple of num_key_value_heads 4"),
        ("olmo2", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(tmp_path, model_type, fields, message):
    (tmp_path / "config.json").write_text(json.dumps(_fields(model_type, **fields)))
    with pytest.raises(errors.UserError, match=f"config.json: .*{message}") as info:
        loader.read_model_config(tmp_path)
    assert "\n" not in str(info.value)


_INF, _NAN = float("inf"), float("nan")
NO_NUMBERS = [_INF, -_INF, _NAN, 10**400, 1e300, True, "3", [3], None]
NO_POSITIVE_INTEGERS = [0, -1, 2.5, 2**24 + 1, 2**63]
NO_NUMBERS_OF_FLOAT32 = [0.0, -1e-6, 1e-40]


MAY_BE_NULL = {
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "rotary_emb_base",
    "rotary_pct",
    "rope_theta",
}
NOT_READ = {"attention_dropout", "hidden_dropout", "initializer_range"}


@pytest.mark.parametrize("name", families.CONFIGS)
def test_sizes_that_are_no_numbers_are_refused_by_name(name):
    """Every size, epsilon and base."""
    family = registry.get_family(families.CONFIGS[name].family)
    fields = family.format_config(families.CONFIGS[name])
    for field, value in fields.items():
        if type(value) not in (int, float) or field in NOT_READ:
            continue
        for wrong in NO_NUMBERS + (NO_POSITIVE_INTEGERS if type(value) is int else NO_NUMBERS_OF_FLOAT32):
            if wrong is None and field in MAY_BE_NULL:
                continue
            with pytest.raises(ValueError, match=field) as info:
                family.parse_config(fields | {field: wrong})
            assert len(str(info.value)) < 200, (field, wrong)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "9223372036854775808", '["gpt2"]', "1e300"])
@pytest.mark.parametrize("field", ["model_type", "n_layer", "n_head", "layer_norm_epsilon"])
def test_json_that_is_no_number_is_refused_by_name(fixtures, tmp_path, field, text):
    config = json.loads((fixtures / "parity_gpt2" / "config.json").read_text())
    rest = json.dumps(config | {field: None})
    (tmp_path / "config.json").write_text(rest.replace(f'"{field}": null', f'"{field}": {text}'))
    with pytest.raises(errors.UserError, match=f"config.json.* {field} "):
        loader.read_model_config(tmp_path)


@pytest.mark.parametrize("num_layers", [44, 10_000_000])
def test_layers_without_end_are_refused_before_they_are_listed(fixtures, tmp_path, monkeypatch, num_layers):
    folder = shutil.copytree(fixtures / "parity_gpt2", tmp_path / "model")
    edits.edit_config(folder, n_layer=num_layers)
    monkeypatch.setattr(loader.key_tables, "tensors", None)
    with pytest.raises(errors.UserError, match=f"its config.json .{num_layers} layers for 40 tensors.: "):
        loader.check_checkpoint(folder, lm_head=True)


def _wrong_shape(folder):
    def cut(tensors):
        key = next(key for key in sorted(tensors) if "layers.1" in key and tensors[key].ndim == 2)
        tensors[key] = np.ascontiguousarray(tensors[key][:-1])

    edits.edit_weights(folder, cut)


def _no_head(folder):
    keys = ("lm_head.weight", "embed_out.weight")
    edits.edit_weights(folder, lambda tensors: [tensors.pop(key, None) for key in keys])


BY_FAMILY = {
    "wrong shape": (_wrong_shape, r"its config.json \(of a wrong shape: \S*layers\.1\.\S* \[\d+, \d+\] for"),
    "no head": (_no_head, r"its config.json \(missing: (lm_head|embed_out)\.weight\)"),
    "rope type": (
        lambda folder: edits.edit_config(folder, rope_scaling={"type": "longrope", "factor": 2.0}),
        "config.json: unsupported rope_type 'longrope'",
    ),
    "heads": (
        lambda folder: edits.edit_config(folder, num_attention_heads=7),
        "config.json: num_attention_heads 7 (is no multiple of num_key_value_heads|does not divide hidden_size)",
    ),
    "activation": (
        lambda folder: edits.edit_config(folder, hidden_act="relu"),
        "config.json: unsupported hidden_act 'relu'",
    ),
}


@pytest.mark.parametrize("name", families.CONFIGS)
def test_a_checkpoint_that_is_wrong_is_one_line(name, tmp_path):
    config = families.CONFIGS[name]
    config = dataclasses.replace(
        config, tie_embeddings=False, num_kv_heads=config.num_kv_heads and config.kv_heads
    )
    random_checkpoint.write_random_checkpoint(tmp_path / "whole", config)
    for what, (damage, message) in BY_FAMILY.items():
        folder = shutil.copytree(tmp_path / "whole", tmp_path / what)
        if what == "heads" and config.num_kv_heads == 1:
            edits.edit_config(folder, num_key_value_heads=2)
        damage(folder)
        with pytest.raises(errors.UserError, match=message) as info:
            loader.check_checkpoint(folder, lm_head=True)
        assert "\n" not in str(info.value), what
    assert loader.check_checkpoint(tmp_path / "whole", lm_head=True) == config


def test_buffers_and_heads_of_classifiers_are_not_read(tmp_path):
    """As Pythia's and other older checkpoints hold them."""
    random_checkpoint.write_random_checkpoint(tmp_path, families.CONFIGS["gpt_neox_serial"])
    buffers = {"attention.bias": np.ones((1, 1, 19, 19), bool), "attention.masked_bias": np.float32(-1e9)}
    buffers["attention.rotary_emb.inv_freq"] = np.ones(6, np.float32)
    added = {f"gpt_neox.layers.1.{name}": np.asarray(value) for name, value in buffers.items()}
    added["score.weight"] = np.ones((2, 36), np.float32)

    def add(tensors):
        tensors |= added | {"embed_out.weight": tensors["gpt_neox.embed_in.weight"]}  # tied

    edits.edit_weights(tmp_path, add)
    assert loader.check_checkpoint(tmp_path, lm_head=True) == families.CONFIGS["gpt_neox_serial"]


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
        # Pythia-70M and 6.9B, by the tables of its paper and of its hub pages.
        ("gpt_neox", (512, 6, 8, None, None, 2048, 50304, False), 70_426_624),
        ("gpt_neox", (4096, 32, 32, None, None, 16384, 50432, False), 6_857_302_016),
        # OLMo-2-1124-7B.
        ("olmo2", (4096, 32, 32, 32, 128, 11008, 100352, False), 7_298_617_344),
    ],
)
def test_num_params(model_type, sizes, total):
    config = _parse(model_type, **dict(zip(PUBLISHED, sizes, strict=True)))
    assert decoder.num_params(config, lm_head=True) == total
