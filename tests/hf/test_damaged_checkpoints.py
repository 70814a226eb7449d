"""One clear line for every way in which a checkpoint folder can be damaged or unsupported."""

import json
import os
import shutil
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import checkpoint_edits as edits

from selw2s_jax import errors
from selw2s_jax.hf import loader, weight_files


@pytest.fixture
def gpt2(tmp_path, fixtures):
    """A copy of the committed GPT-2 checkpoint, free to be damaged."""
    return shutil.copytree(fixtures / "parity_gpt2", tmp_path / "gpt2")


# Damage to a folder -> what the one line says.


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_to_nothing(folder):
    (folder / "model.safetensors").write_bytes(b"\x10\x00")


def lengthen(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"more")


def pickle_inside(folder):
    (folder / "model.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))


def pointer_inside(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n")


def text_inside(folder):
    (folder / "model.safetensors").write_text("<!DOCTYPE html><html>Not found</html>")


def break_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"data_offsets"', b'"data_0ffsets"', 1))


def integer_weights(folder):
    edits.edit_weights(folder, lambda t: t.update({"transformer.ln_f.bias": np.zeros(21, np.int32)}))


def wrong_shape(folder):
    def change(t):
        key = "transformer.h.1.attn.c_attn.weight"
        t[key] = np.ascontiguousarray(t[key].T)

    edits.edit_weights(folder, change)


def missing_tensor(folder):
    edits.edit_weights(folder, lambda t: t.pop("transformer.h.2.mlp.c_fc.bias"))


def unknown_tensor(folder):
    edits.edit_weights(
        folder, lambda t: t.update({"transformer.h.0.attn.q_norm.weight": np.zeros(3, np.float32)})
    )


def layer_too_many(folder):
    edits.edit_config(folder, n_layer=2)


def layer_too_few(folder):
    edits.edit_config(folder, n_layer=5)


def given_twice(folder):
    edits.edit_weights(folder, lambda t: t.update({"wte.weight": t["transformer.wte.weight"].copy()}))


def head_of_its_own(folder):
    edits.edit_weights(folder, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"] + 1}))


def head_of_other_rows(folder):
    edits.edit_weights(folder, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"][1:].copy()}))


def wrong_vocabulary(folder):
    edits.edit_config(folder, vocab_size=50257)


def only_bin(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def only_checkpoint(folder):
    (folder / "model.safetensors").rename(folder / "model.ckpt")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def two_files(folder):
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")


def missing_shard(folder):
    make_index(folder, "model-00001-of-00002.safetensors")


def make_index(folder, name):
    keys = load_file(folder / "model.safetensors")
    (folder / weight_files.INDEX_NAME).write_text(json.dumps({"weight_map": dict.fromkeys(keys, name)}))


def index_without_map(folder):
    (folder / weight_files.INDEX_NAME).write_text("{}")


def index_outside(folder):
    make_index(folder, "../model.safetensors")


def index_disagrees(folder):
    make_index(folder, "model.safetensors")
    edits.edit_weights(folder, lambda t: t.pop("transformer.ln_f.bias"))


def edit_header(folder, change):
    """A header as it was, changed as JSON, before the same data."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    text = change(header)
    text = json.dumps(header if text is None else text).encode() if not isinstance(text, bytes) else text
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


def same_place(folder):
    """Two tensors of one size with the same offsets: a part of the file belongs to none."""

    def change(header):
        one, other = (f"transformer.h.{layer}.ln_1.bias" for layer in (0, 1))
        header[one]["data_offsets"] = header[other]["data_offsets"]

    edit_header(folder, change)


def reversed_offsets(folder):
    edit_header(folder, lambda header: header["transformer.ln_f.bias"]["data_offsets"].reverse())


def negative_shape(folder):
    edit_header(folder, lambda header: header["transformer.ln_f.bias"].update(shape=[-21]))


def shape_of_text(folder):
    edit_header(folder, lambda header: header["transformer.ln_f.bias"].update(shape="21"))


def no_such_dtype(folder):
    edit_header(folder, lambda header: header["transformer.ln_f.bias"].update(dtype="F33"))


def hole(folder):
    """Offsets that leave out some bytes, and reach as much further."""

    def change(header):
        for entry in header.values():
            if entry.get("data_offsets", [0])[0] > 0:
                entry["data_offsets"] = [offset + 4 for offset in entry["data_offsets"]]

    edit_header(folder, change)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + bytes(4))


def metadata_of_numbers(folder):
    edit_header(folder, lambda header: header.update(__metadata__={"format": 3}))


def offsets_beyond_numbers(folder):
    edit_header(folder, lambda header: header["transformer.ln_f.bias"].update(data_offsets=[0, 10**30]))


def header_of_lists(folder):
    edit_header(folder, lambda header: [header])


def header_without_end(folder):
    edit_header(folder, lambda header: b'{"a": ' + b"[" * 100_000)


def config_without_end(folder):
    (folder / "config.json").write_text("[" * 100_000)


def index_without_end(folder):
    (folder / weight_files.INDEX_NAME).write_text('{"weight_map":' * 100_000)


def a_folder_for_weights(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


def a_pipe_for_weights(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def a_pipe_for_config(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def no_config(folder):
    (folder / "config.json").unlink()


def config_not_json(folder):
    (folder / "config.json").write_text("{'model_type': 'gpt2'")


def config_is_a_list(folder):
    (folder / "config.json").write_text("[]")


def other_family(folder):
    edits.edit_config(folder, model_type="mamba")


def relu(folder):
    edits.edit_config(folder, activation_function="relu")


def inverse_layer_scale(folder):
    edits.edit_config(folder, scale_attn_by_inverse_layer_idx=True)


def upcast(folder):
    edits.edit_config(folder, reorder_and_upcast_attn=True)


def no_heads(folder):
    edits.edit_config(folder, n_head="three")


def heads_do_not_divide(folder):
    edits.edit_config(folder, n_head=4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"model.safetensors has \d+ bytes where its header promises \d+: it is truncated"),
        (cut_to_nothing, "not a safetensors file or is cut short"),
        (lengthen, "it is damaged, download it again"),
        (pickle_inside, "PyTorch file under a safetensors name.*safe_serialization=True"),
        (pointer_inside, "Git LFS pointer"),
        (text_inside, "not a safetensors file"),
        (break_header, "damaged safetensors header"),
        (same_place, "damaged safetensors header"),
        (reversed_offsets, "it is damaged, download it again"),
        (negative_shape, "damaged safetensors header"),
        (shape_of_text, "damaged safetensors header"),
        (no_such_dtype, "damaged safetensors header"),
        (hole, "damaged safetensors header"),
        (metadata_of_numbers, "damaged safetensors header"),
        (offsets_beyond_numbers, r"bytes where its header promises \d+: it is truncated"),
        (header_of_lists, "is not a safetensors file"),
        (header_without_end, "damaged safetensors header .it is nested too deeply."),
        (config_without_end, r"config\.json is not readable JSON .it is nested too deeply."),
        (index_without_end, r"index\.json is not readable JSON .it is nested too deeply."),
        (a_folder_for_weights, "model.safetensors is no file"),
        (a_pipe_for_weights, "model.safetensors is no file"),
        (a_pipe_for_config, "config.json is no file"),
        (integer_weights, r"wrong dtype: transformer\.ln_f\.bias I32"),
        (wrong_shape, r"wrong shape: transformer\.h\.1\.attn\.c_attn\.weight \[63, 21\] for \[21, 63\]"),
        (missing_tensor, r"missing: transformer\.h\.2\.mlp\.c_fc\.bias"),
        (unknown_tensor, r"unknown: transformer\.h\.0\.attn\.q_norm\.weight"),
        (layer_too_many, r"unknown: transformer\.h\.2\..* and 7 more"),
        (layer_too_few, r"missing: transformer\.h\.3\..* and 19 more"),
        (given_twice, r"given twice: (transformer\.)?wte\.weight"),
        (
            head_of_its_own,
            "lm_head.weight, which differs from transformer.wte.weight, and its config.json ties them",
        ),
        (head_of_other_rows, "lm_head.weight, which differs from transformer.wte.weight"),
        (wrong_vocabulary, r"wrong shape: transformer\.wte\.weight \[67, 21\] for \[50257, 21\]"),
        (only_bin, "pytorch_model.bin and no safetensors.*safe_serialization=True"),
        (only_checkpoint, "model.ckpt and no safetensors"),
        (no_weights, r"no \*\.safetensors file"),
        (two_files, "2 safetensors files and no model.safetensors.index.json"),
        (missing_shard, "lacks model-00001-of-00002.safetensors"),
        (index_without_map, "no weight_map"),
        (index_outside, "names files outside its folder"),
        (index_disagrees, r"disagree on transformer\.ln_f\.bias"),
        (no_config, "config.json is missing"),
        (config_not_json, "config.json is not readable JSON"),
        (config_is_a_list, "config.json holds no JSON object"),
        (other_family, "model_type 'mamba': supported are gpt2, qwen"),
        (relu, "unsupported activation_function 'relu' .supported: 'gelu_new'"),
        (inverse_layer_scale, "unsupported scale_attn_by_inverse_layer_idx True"),
        (upcast, "unsupported reorder_and_upcast_attn True"),
        (no_heads, "n_head must be a positive int, not 'three'"),
        (heads_do_not_divide, "n_head 4 does not divide n_embd 21"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damaged_folder_is_one_clear_line(gpt2, damage, message):
    damage(gpt2)
    with pytest.raises(errors.UserError, match=message) as info:
        loader.check_checkpoint(gpt2, lm_head=True)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        1.5,
        True,
        [],
        ["model.safetensors"],
        {},
        "",
        "x" * 300,
        "\u00e9" * 200,
        "a\0b",
        "a\nb",
        "\ud800",
    ],
)
def test_an_index_of_other_things_than_names_is_one_clear_line(gpt2, value):
    index = dict.fromkeys(load_file(gpt2 / "model.safetensors"), "model.safetensors")
    index["transformer.ln_f.bias"] = value
    (gpt2 / weight_files.INDEX_NAME).write_text(json.dumps({"weight_map": index}))
    with pytest.raises(
        errors.UserError, match=r"index\.json has .* where a file of its folder should be named"
    ) as info:
        loader.check_checkpoint(gpt2, lm_head=True)
    assert "\n" not in str(info.value)


def test_all_faults_are_in_one_line(gpt2):
    for damage in (missing_tensor, unknown_tensor, wrong_shape, integer_weights):
        damage(gpt2)
    with pytest.raises(errors.UserError) as info:
        loader.load_decoder(gpt2, param_dtype="float32", compute_dtype="float32", lm_head=True)
    for fault in ("c_fc.bias", "q_norm.weight", "[63, 21]", "I32"):
        assert fault in str(info.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"no_bias": False}, "no_bias False"),
        ({"rotary_pct": 0.25}, "rotary_pct 0.25"),
        ({"scale_attn_weights": False}, "scale_attn_weights False"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"kv_channels": 8}, "times kv_channels 8 is not hidden_size 30"),
        ({"intermediate_size": 37}, "must both be even"),
        ({"seq_length": None}, "seq_length must be a positive int"),
    ],
)
def test_unsupported_qwen_fields(fixtures, tmp_path, fields, message):
    folder = shutil.copytree(fixtures / "parity_qwen", tmp_path / "qwen")
    edits.edit_config(folder, **fields)
    with pytest.raises(errors.UserError, match=message):
        loader.check_checkpoint(folder, lm_head=True)
