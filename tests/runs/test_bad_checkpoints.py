"""Damaged checkpoints and tokenizers: one line with the remedy and exit status 2, before anything is trained."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from support import checkpoint_edits as edits
from support.refusals import make_config

from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs
from selw2s_jax.hf import loader


def weights(folder) -> pathlib.Path:
    return folder / "model.safetensors"


def truncate(folder):
    weights(folder).write_bytes(weights(folder).read_bytes()[:-7])


def random_bytes(folder):
    weights(folder).write_bytes(np.random.default_rng(0).bytes(999))


def zip_inside(folder):
    shutil.make_archive(folder / "archive", "zip", folder, "config.json")
    (folder / "archive.zip").replace(weights(folder))


def other_dtype(folder):
    edits.edit_weights(folder, lambda t: t.update({"transformer.ln_f.bias": np.zeros(16, np.int32)}))


def other_shape(folder):
    edits.edit_weights(folder, lambda t: t.update({"transformer.ln_f.bias": np.zeros(17, np.float32)}))


def other_key(folder):
    edits.edit_weights(folder, lambda t: t.update({"norm.bias": t.pop("transformer.ln_f.bias")}))


def only_bin(folder):
    weights(folder).rename(folder / "pytorch_model.bin")


def lost_shard(folder):
    index = {"weight_map": {"transformer.ln_f.bias": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def damaged_tokenizer(folder):
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:999])


def resize_vocabulary(folder, num_rows):
    edits.edit_weights(
        folder, lambda t: t.update({"transformer.wte.weight": np.zeros((num_rows, 16), np.float32)})
    )
    edits.edit_config(folder, vocab_size=num_rows)


def small_vocabulary(folder):
    resize_vocabulary(folder, 299)


def other_tokenizer(folder):
    resize_vocabulary(folder, 50257)


def no_answer_tokens(folder):
    """A tokenizer of whole words that knows no digit."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel({f"word{i}": i for i in range(299)} | {"?": 299}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("role", ["weak", "strong"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing: download"),
        (lambda folder: weights(folder).unlink(), "has no *.safetensors file: download"),
        (
            lost_shard,
            "lacks model-00002-of-00002.safetensors, named in model.safetensors.index.json: download",
        ),
        (only_bin, "has pytorch_model.bin and no safetensors: only safetensors are read; convert"),
        (truncate, "it is truncated, download it again"),
        (random_bytes, "is not a safetensors file or is cut short (999 bytes): download"),
        (zip_inside, "is a PyTorch file under a safetensors name: only safetensors are read; convert"),
        (other_dtype, "of a wrong dtype: transformer.ln_f.bias I32): download"),
        (other_shape, "of a wrong shape: transformer.ln_f.bias [17] for [16]): download"),
        (other_key, "missing: transformer.ln_f.bias; unknown: norm.bias): download"),
        (no_tokenizer, "no tokenizer in"),
        (damaged_tokenizer, "tokenizer.json cannot be read"),
        (small_vocabulary, "too small for the ids of"),
        (other_tokenizer, "is the wrong tokenizer for"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_checkpoint(refused, prepared, model, role, damage, message):
    damage(model)
    line = refused(make_config(prepared, **{f"{role}__model": str(model)}))
    assert message in line and str(model) in line


def test_a_tokenizer_without_answers(refused, prepared, model):
    no_answer_tokens(model)
    line = refused(make_config(prepared, strong__model=str(model)))
    assert (
        "the tokenizer does not end the answers ' 0' and ' 1' in one differing token; use the model's" in line
    )


def test_a_damaged_header_never_ends_in_a_traceback(refused, prepared, model, tmp_path):
    """A byte of the header changed at a time: each is refused, or was without meaning."""
    original = weights(model).read_bytes()
    size = int.from_bytes(original[:8], "little")
    draw = np.random.default_rng(0)
    config = make_config(prepared, strong__model=str(model), methods=("finetune",))
    num_refused = 0
    for position in draw.choice(8 + size, 40, replace=False):
        content = bytearray(original)
        content[position] = draw.integers(256)
        weights(model).write_bytes(content)
        try:
            found = inputs.prepare(config, tmp_path / "run")
        except UserError as error:
            num_refused += "\n" not in str(error)
        else:
            loader.load_decoder(
                found.strong.folder, param_dtype="float32", compute_dtype="float32", lm_head=True
            )
    assert num_refused > 25
