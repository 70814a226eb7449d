"""Folders as people have them: the hub's cache, adapters, models that were saved through wrappers, one tied tensor."""

import json
import shutil

import numpy as np
import pytest
from support import checkpoint_edits as edits

import selw2s_jax
from selw2s_jax import errors
from selw2s_jax.hf import loader, model_folders, tokenizers, weight_files
from selw2s_jax.models import decoder

COMMITS = ("0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef")


@pytest.fixture
def gpt2(tmp_path, fixtures):
    """A copy of the committed GPT-2 checkpoint, free to be damaged."""
    return shutil.copytree(fixtures / "parity_gpt2", tmp_path / "gpt2")


def sources(folder, lm_head=True) -> dict[str, list[tuple[str, int | None]]]:
    """Which tensors of a folder fill each parameter."""
    _, found = loader._plan(folder, lm_head)
    return {path: [(one.key, one.tensor.layer) for one in of_path] for path, of_path in found.items()}


# The hub's cache as it is on disk.


@pytest.fixture
def cached(tmp_path, gpt2):
    """A repository in the cache with two commits, of which main is the first."""
    folder = tmp_path / "models--someone--tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMITS[0])
    for commit in COMMITS:
        shutil.copytree(gpt2, folder / "snapshots" / commit)
    return folder


def test_of_the_hubs_cache_the_snapshot_is_read(cached):
    assert loader.resolve(cached) == cached / "snapshots" / COMMITS[0]
    assert loader.resolve(cached, COMMITS[1]) == cached / "snapshots" / COMMITS[1]
    (cached / "refs" / "dev").write_text(COMMITS[1] + "\n")
    assert loader.resolve(cached, "dev") == cached / "snapshots" / COMMITS[1]
    shutil.rmtree(cached / "refs")
    shutil.rmtree(cached / "snapshots" / COMMITS[0])
    assert loader.resolve(str(cached)) == cached / "snapshots" / COMMITS[1]
    assert loader.check_checkpoint(loader.resolve(cached), lm_head=True).family == "gpt2"


def test_a_tokenizer_is_found_in_the_hubs_cache(cached):
    for commit in COMMITS:
        tokenizers.write_word_level(["yes", "no"], cached / "snapshots" / commit)
    assert selw2s_jax.load_tokenizer(cached).vocab_size == 4
    assert tokenizers.load_tokenizer(cached).vocab_size == 4


def test_a_snapshot_that_is_open_or_missing_is_named(cached):
    (cached / "refs" / "main").write_text("another")
    with pytest.raises(
        errors.UserError, match=rf"give {cached}/snapshots/COMMIT, of which there are {COMMITS[0]}"
    ):
        loader.resolve(cached)
    with pytest.raises(errors.UserError, match="no snapshot is of 'v2': give"):
        loader.resolve(cached, "v2")
    shutil.rmtree(cached / "snapshots")
    (cached / "snapshots").mkdir()
    with pytest.raises(errors.UserError, match="COMMIT, which is missing: copy it too"):
        loader.resolve(cached)


def test_a_folder_has_no_revision(gpt2):
    with pytest.raises(
        errors.UserError, match=r"revision 'main' is of a name on the hub, and .* is a folder"
    ):
        loader.resolve(gpt2, "main")


@pytest.mark.parametrize("inside", ["", "snapshots"])
def test_a_folder_around_the_one_with_the_model_names_that(cached, inside):
    folder = cached / inside if inside else cached.parent
    with pytest.raises(
        errors.UserError, match=r"config\.json is missing, and there is one in .*: give that folder"
    ):
        loader.check_checkpoint(loader.resolve(folder), lm_head=True)


def test_links_that_were_copied_without_what_they_lead_to(cached):
    snapshot = cached / "snapshots" / COMMITS[0]
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    with pytest.raises(errors.UserError, match=r"is a link to \.\./\.\./blobs/abc, which is not there: copy"):
        loader.check_checkpoint(loader.resolve(cached), lm_head=True)


def test_a_name_that_no_file_can_have():
    with pytest.raises(errors.UserError, match=r"(no checkpoint|cannot be looked at)"):
        loader.resolve("x" * 300)


# Adapters.


def only_adapter(folder):
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    add_adapter(folder)


def add_adapter(folder):
    (folder / model_folders.ADAPTER_CONFIG).write_text(json.dumps({"base_model_name_or_path": "org/base"}))


def adapter_of_old_files(folder):
    (folder / "model.safetensors").rename(folder / "adapter_model.bin")


def adapter_with_config(folder):
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def unmerged(folder):
    add = {"transformer.h.0.attn.c_attn.lora_A.default.weight": np.zeros((2, 21), np.float32)}
    edits.edit_weights(folder, lambda tensors: tensors.update(add))


def wrapped_by_peft(folder):
    edits.edit_weights(folder, lambda t: rename(t, lambda key: f"base_model.model.{key}"))


def adapter_and_model(folder):
    add_adapter(folder)


def odd_settings(folder):
    only_adapter(folder)
    (folder / model_folders.ADAPTER_CONFIG).write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (only_adapter, r"is a low-rank adapter \(PEFT\) of another model, org/base, not a model: merge it"),
        (adapter_of_old_files, "is a low-rank adapter"),
        (adapter_with_config, "is a low-rank adapter"),
        (unmerged, "is a low-rank adapter .*merge_and_unload"),
        (wrapped_by_peft, "is a low-rank adapter"),
        (adapter_and_model, "holds a low-rank adapter .* beside a model's weights"),
        (odd_settings, "is a low-rank adapter"),
    ],
)
def test_an_adapter_is_told_from_a_model(gpt2, make, message):
    make(gpt2)
    with pytest.raises(errors.UserError, match=message) as info:
        loader.check_checkpoint(gpt2, lm_head=True)
    assert "\n" not in str(info.value)


# Keys that wrappers of torch have changed.


def rename(tensors, change) -> None:
    renamed = {change(key): value for key, value in tensors.items()}
    tensors.clear()
    tensors.update(renamed)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: f"_orig_mod.{key}",
        lambda key: f"module.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: f"_orig_mod.module.{key}",
        lambda key: f"_forward_module.{key}",
        lambda key: f"module.{key.removeprefix('transformer.')}",
        lambda key: key.replace(".h.0.", ".h.0._orig_mod."),
        lambda key: key.replace(".mlp.", "._fsdp_wrapped_module._checkpoint_wrapped_module.mlp."),
    ],
)
def test_keys_of_wrapped_models_are_read(gpt2, change):
    expected = {path: [place for _, place in found] for path, found in sources(gpt2).items()}
    edits.edit_weights(gpt2, lambda tensors: rename(tensors, change))
    assert {path: [place for _, place in found] for path, found in sources(gpt2).items()} == expected


def test_a_tensor_with_and_without_its_wrapper_is_given_twice(gpt2):
    key = "transformer.ln_f.bias"
    edits.edit_weights(gpt2, lambda tensors: tensors.update({f"module.{key}": tensors[key]}))
    with pytest.raises(errors.UserError, match=rf"given twice: (module\.)?{key}"):
        loader.check_checkpoint(gpt2, lm_head=True)


# One tensor under two names.


def test_of_tied_tensors_either_name_is_read(gpt2):
    params = decoder.abstract_params(loader.check_checkpoint(gpt2, lm_head=True), lm_head=True)
    edits.edit_weights(gpt2, lambda t: t.update({"lm_head.weight": t.pop("transformer.wte.weight")}))
    for lm_head in (True, False):
        assert sources(gpt2, lm_head)["wte"] == [("lm_head.weight", None)]
    assert params.keys() == sources(gpt2).keys()
    edits.edit_weights(gpt2, lambda t: t.update({"transformer.wte.weight": t["lm_head.weight"].copy()}))
    assert sources(gpt2)["wte"] == [("transformer.wte.weight", None)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.update({"lm_head.weight": t.pop("transformer.wte.weight")[:-1]}),
            r"missing: transformer\.wte",
        ),
        (
            lambda t: t.update({"lm_head.weight": t.pop("transformer.wte.weight").astype(np.int32)}),
            r"wrong dtype: lm_head\.weight I32",
        ),
        (lambda t: t.pop("transformer.wte.weight"), r"missing: transformer\.wte"),
    ],
)
def test_a_head_that_is_no_embedding(gpt2, change, message):
    edits.edit_weights(gpt2, change)
    with pytest.raises(errors.UserError, match=message):
        loader.check_checkpoint(gpt2, lm_head=True)


def test_where_the_two_are_not_tied_both_have_to_be_there(gpt2):
    edits.edit_config(gpt2, tie_word_embeddings=False)
    with pytest.raises(errors.UserError, match=r"missing: lm_head\.weight"):
        loader.check_checkpoint(gpt2, lm_head=True)
    edits.edit_weights(gpt2, lambda t: t.update({"lm_head.weight": t.pop("transformer.wte.weight")}))
    with pytest.raises(errors.UserError, match=r"missing: transformer\.wte\.weight"):
        loader.check_checkpoint(gpt2, lm_head=True)


def test_the_key_of_a_part_is_left_as_it_is():
    for key in ("model.layers.3.mlp.up_proj.weight", "lm_head.weight", "module"):
        assert weight_files.plain_key(key) == key
