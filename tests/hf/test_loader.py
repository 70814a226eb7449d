"""Checkpoint files: what is read where, every layout alike, and one clear line for every damaged folder."""

import json
import shutil

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from fixtures import make_parity
from flax import nnx
from safetensors.numpy import load_file, save_file
from support import checkpoint_edits as edits

from selw2s_jax import errors
from selw2s_jax.hf import loader, random_checkpoint, weight_files, writer
from selw2s_jax.models import decoder, key_tables, qwen, registry

FLOAT32 = {"param_dtype": "float32", "compute_dtype": "float32", "lm_head": True}


def params_of(model) -> dict[str, np.ndarray]:
    return {
        path: np.asarray(variable.get_value())
        for path, variable in decoder.flatten_params(nnx.state(model)).items()
    }


def assert_same_params(first, second):
    first, second = params_of(first), params_of(second)
    assert first.keys() == second.keys()
    for path, value in first.items():
        np.testing.assert_array_equal(value, second[path], err_msg=path)


@pytest.fixture(params=tuple(make_parity.CONFIGS))
def config(request):
    return make_parity.CONFIGS[request.param]


@pytest.fixture
def checkpoint(tmp_path, config):
    """A small checkpoint folder, free to be damaged."""
    folder = tmp_path / "checkpoint"
    random_checkpoint.write_random_checkpoint(folder, config, seed=3)
    return folder


@pytest.fixture
def gpt2(tmp_path, fixtures):
    """A copy of the committed GPT-2 checkpoint, free to be damaged."""
    return shutil.copytree(fixtures / "parity_gpt2", tmp_path / "gpt2")


def write_integers(folder, config):
    """Every entry of every tensor its own integer, exact in float32. Returns the tensors by key."""
    writer.write_checkpoint(
        folder,
        config,
        {path: v.shape for path, v in decoder.abstract_params(config, lm_head=True).items()},
        lambda tensor: [np.zeros(tensor.shape)],
    )
    tensors, start = load_file(folder / "model.safetensors"), 0
    for key in sorted(tensors):
        shape = tensors[key].shape
        tensors[key] = np.arange(start, start + tensors[key].size, dtype=np.float32).reshape(shape)
        start += tensors[key].size
    assert start < 2**24
    save_file(tensors, folder / "model.safetensors")
    return tensors


def test_gpt2_weights_land_where_conv1d_has_them(tmp_path):
    config = make_parity.GPT2_CONFIG
    tensors = write_integers(tmp_path, config)
    params = params_of(loader.load_decoder(tmp_path, **FLOAT32))
    D, H = config.embed_dim, config.head_dim
    for layer in range(config.num_layers):
        file = {
            key: tensors[f"transformer.h.{layer}.{key}"] for key in ("attn.c_attn.weight", "mlp.c_fc.weight")
        }
        for d, c, n, h in ((0, 0, 0, 0), (5, 1, 2, 3), (20, 2, 0, 6), (13, 2, 1, 1)):
            column = c * D + n * H + h  # q, k, v side by side, each by head
            assert params["layers.attn.qkv"][layer, d, c, n, h] == file["attn.c_attn.weight"][d, column]
        assert params["layers.mlp.up"][layer, 4, 30] == file["mlp.c_fc.weight"][4, 30]  # [in, out]
        assert (
            params["layers.attn.out"][layer, 2, 3, 1]
            == tensors[f"transformer.h.{layer}.attn.c_proj.weight"][2 * H + 3, 1]
        )
    np.testing.assert_array_equal(params["wpe"], tensors["transformer.wpe.weight"])


def test_qwen_weights_land_where_linear_has_them(tmp_path):
    config = make_parity.QWEN_CONFIG
    tensors = write_integers(tmp_path, config)
    params = params_of(loader.load_decoder(tmp_path, **FLOAT32))
    D, H = config.embed_dim, config.head_dim
    for layer in range(config.num_layers):
        file = {
            key: tensors[f"transformer.h.{layer}.{key}"] for key in ("attn.c_attn.weight", "attn.c_attn.bias")
        }
        for c, n, h, d in ((0, 0, 0, 0), (1, 2, 3, 5), (2, 0, 6, 20), (2, 1, 1, 13)):
            row = c * D + n * H + h
            assert params["layers.attn.qkv"][layer, c, n, h, d] == file["attn.c_attn.weight"][row, d]
            assert params["layers.attn.qkv_bias"][layer, c, n, h] == file["attn.c_attn.bias"][row]
        for path, key in (("up", "w1"), ("gate", "w2"), ("down", "c_proj")):
            np.testing.assert_array_equal(
                params[f"layers.mlp.{path}"][layer], tensors[f"transformer.h.{layer}.mlp.{key}.weight"]
            )
    np.testing.assert_array_equal(params["lm_head"], tensors["lm_head.weight"])


def test_every_layout_loads_alike(tmp_path, config):
    options = ({}, {"prefix": False}, {"max_shard_bytes": 9000}, {"prefix": False, "max_shard_bytes": 1})
    models = []
    for number, option in enumerate(options):
        folder = tmp_path / str(number)
        random_checkpoint.write_random_checkpoint(folder, config, seed=5, **option)
        assert (folder / weight_files.INDEX_NAME).exists() == ("max_shard_bytes" in option)
        assert loader.check_checkpoint(folder, lm_head=True) == config
        models.append(loader.load_decoder(folder, **FLOAT32))
    for model in models[1:]:
        assert_same_params(models[0], model)


@pytest.mark.parametrize("options", [{}, {"prefix": False, "max_shard_bytes": 5000}])
def test_export_is_the_inverse_of_load(tmp_path, checkpoint, config, options):
    model = loader.load_decoder(checkpoint, **FLOAT32)
    writer.save_checkpoint(tmp_path / "saved", config, model, **options)
    assert_same_params(model, loader.load_decoder(tmp_path / "saved", **FLOAT32))
    if not options:
        first, second = (load_file(f / "model.safetensors") for f in (checkpoint, tmp_path / "saved"))
        assert first.keys() == second.keys()
        for key, value in first.items():
            np.testing.assert_array_equal(value, second[key])


def test_export_takes_a_state(tmp_path, checkpoint, config):
    model = loader.load_decoder(checkpoint, **FLOAT32)
    writer.save_checkpoint(tmp_path / "saved", config, nnx.state(model))
    assert_same_params(model, loader.load_decoder(tmp_path / "saved", **FLOAT32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_float_dtype_is_read_and_cast(tmp_path, fixtures, dtype):
    folder = shutil.copytree(fixtures / "parity_gpt2", tmp_path / dtype)
    stored = {"bfloat16": ml_dtypes.bfloat16}.get(dtype, dtype)

    def cast(tensors):
        tensors |= {key: value.astype(stored) for key, value in tensors.items()}

    exact = params_of(loader.load_decoder(folder, **FLOAT32))
    edits.edit_weights(folder, cast)
    model = loader.load_decoder(folder, **FLOAT32)
    for path, value in params_of(model).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, exact[path].astype(stored).astype(np.float32))
    narrow = loader.load_decoder(folder, **FLOAT32 | {"param_dtype": "bfloat16"})
    assert all(value.dtype == jnp.bfloat16 for value in params_of(narrow).values())


def test_dtypes_may_differ_between_layers(gpt2):
    exact = params_of(loader.load_decoder(gpt2, **FLOAT32))
    key = "transformer.h.1.mlp.c_fc.weight"
    edits.edit_weights(gpt2, lambda tensors: tensors.update({key: tensors[key].astype(np.float16)}))
    actual = params_of(loader.load_decoder(gpt2, **FLOAT32))["layers.mlp.up"]
    np.testing.assert_array_equal(actual[0], exact["layers.mlp.up"][0])
    np.testing.assert_array_equal(actual[1], exact["layers.mlp.up"][1].astype(np.float16))


def test_buffers_and_tied_heads_are_skipped(gpt2):
    exact = loader.load_decoder(gpt2, **FLOAT32)

    def add(tensors):
        for layer in range(3):
            tensors[f"transformer.h.{layer}.attn.bias"] = np.ones((1, 1, 19, 19), np.uint8)
            tensors[f"transformer.h.{layer}.attn.masked_bias"] = np.full((), -1e4, np.float32)
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"].copy()

    edits.edit_weights(gpt2, add)
    assert_same_params(exact, loader.load_decoder(gpt2, **FLOAT32))


def test_head_that_is_not_asked_for_is_not_read(fixtures, monkeypatch):
    read = []
    read_slice = loader._read_slice
    monkeypatch.setattr(
        loader, "_read_slice", lambda source, b: read.append(source.key) or read_slice(source, b)
    )
    model = loader.load_decoder(fixtures / "parity_qwen", **FLOAT32 | {"lm_head": False})
    assert "lm_head.weight" not in read and "lm_head" not in params_of(model)
    assert len(read) == len(set(read)) == 2 + 8 * 3  # each tensor once


def test_a_checkpoint_without_its_head_serves_only_without(fixtures, tmp_path):
    folder = shutil.copytree(fixtures / "parity_qwen", tmp_path / "qwen")
    edits.edit_weights(folder, lambda tensors: tensors.pop("lm_head.weight"))
    assert loader.check_checkpoint(folder, lm_head=False).family == "qwen"
    with pytest.raises(errors.UserError, match=r"missing: lm_head\.weight"):
        loader.check_checkpoint(folder, lm_head=True)


def test_real_qwen_7b_config_and_index(real_data):
    folder = real_data / "checkpoints" / "qwen-7b"
    config = loader.read_model_config(folder)
    assert config == registry.MODELS["qwen-7b"].config
    index = json.loads((folder / weight_files.INDEX_NAME).read_text())
    shapes = {path: v.shape for path, v in decoder.abstract_params(config, lm_head=True).items()}
    assert {tensor.key for tensor in key_tables.tensors(qwen.KEYS, shapes)} == set(index["weight_map"])
    assert index["metadata"]["total_size"] == 2 * decoder.num_params(config, lm_head=True)


def test_random_checkpoints_do_not_depend_on_layout_but_on_seed(tmp_path, config):
    for name, options in (("a", {}), ("b", {"prefix": False}), ("c", {"seed": 1})):
        random_checkpoint.write_random_checkpoint(tmp_path / name, config, **options)
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert a["lm_head.weight" if config.family == "qwen" else "transformer.ln_f.bias"].std() > 0.05
    for key, value in b.items():
        full_key = key if key == "lm_head.weight" else f"transformer.{key}"
        np.testing.assert_array_equal(value, a[full_key])
    assert all((a[key] != c[key]).any() for key in a)


def test_checks_do_not_read_weights(gpt2, monkeypatch):
    monkeypatch.setattr(loader, "_read_slice", None)
    assert loader.check_checkpoint(gpt2, lm_head=True) == loader.read_model_config(gpt2)
    with pytest.raises(TypeError):  # what reads them
        loader.load_decoder(gpt2, lm_head=True, param_dtype="float32", compute_dtype="float32")


def test_resolve(tmp_path, gpt2, monkeypatch):
    assert loader.resolve(str(gpt2)) == gpt2
    for name, message in (
        ("./no/such/folder", "no checkpoint './no/such/folder'"),
        (str(tmp_path / "absent"), "give an existing folder, a hub name org/name, or one of gpt2"),
        ("gpt3", "no checkpoint 'gpt3'"),
        ("qwen-2.5-7b", r"no checkpoint 'qwen-2.5-7b' \(did you mean qwen2.5-7b\?\): give"),
        (str(gpt2 / "config.json"), "is a file"),
    ):
        with pytest.raises(errors.UserError, match=message):
            loader.resolve(name)


def test_hub_without_network_or_cache(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(errors.UserError) as info:
        loader.resolve("qwen-1.8b")
    for part in ("Qwen/Qwen-1_8B", "5fde88df", "hf download", "$HF_HOME", "strong.model"):
        assert part in str(info.value)
    assert "\n" not in str(info.value)


def test_fingerprint_follows_content(gpt2, tmp_path):
    first = weight_files.fingerprint(gpt2)
    assert weight_files.fingerprint(shutil.copytree(gpt2, tmp_path / "copy")) == first
    edits.edit_weights(gpt2, lambda t: t["transformer.ln_f.bias"].__setitem__(0, 1.5))
    second = weight_files.fingerprint(gpt2)
    edits.edit_config(gpt2, n_ctx=7)
    assert len({first, second, weight_files.fingerprint(gpt2)}) == 3


def test_fingerprint_reads_a_file_once(gpt2, tmp_path, monkeypatch):
    cache = tmp_path / "hashes"
    first = weight_files.fingerprint(gpt2, cache)
    monkeypatch.setattr(weight_files.hashlib, "file_digest", None)
    assert weight_files.fingerprint(gpt2, cache) == first


def test_fingerprint_takes_the_name_of_a_cache_blob(gpt2, tmp_path, monkeypatch):
    expected = weight_files.fingerprint(gpt2)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for name in ("config.json", "model.safetensors"):
        digest = weight_files._file_hash(gpt2 / name, None)
        shutil.copy(gpt2 / name, blobs / digest)
        (snapshot / name).symlink_to(blobs / digest)
    monkeypatch.setattr(weight_files.hashlib, "file_digest", None)
    assert weight_files.fingerprint(snapshot) == expected


def test_load_model_is_the_public_door(fixtures):
    import selw2s_jax

    model = selw2s_jax.load_model(str(fixtures / "parity_qwen"), param_dtype="bfloat16")
    hidden = model.hidden_states(np.zeros((1, 3), np.int32))
    assert model.lm_logits(hidden).shape == (1, 3, 71)
