"""Fixtures of the tests of bad input: a command that must be refused, and what it is refused on."""

import dataclasses
import pathlib
import shutil

import pytest

from selw2s_jax import cli
from selw2s_jax import config as config_lib
from selw2s_jax.hf import random_checkpoint, tokenizers
from selw2s_jax.run import pipeline
from selw2s_jax.worlds import generated, smoke


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Generated questions, and a random checkpoint with a tokenizer made for them."""

    data: pathlib.Path
    model: pathlib.Path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    generated.write_generated_data(folder / "data", num_train=60, num_test=20)
    texts = (path.read_bytes().decode("utf-8", "replace") for path in [pathlib.Path(generated.__file__)])
    tokenizer = tokenizers.train_byte_level_bpe(texts, 300, folder / "model")
    sizes = smoke.RANDOM_MODELS["random-tiny-gpt2"]
    sizes = dataclasses.replace(
        sizes, num_layers=1, embed_dim=16, mlp_dim=24, num_heads=2, head_dim=8, max_seq_len=512
    )
    sizes = dataclasses.replace(sizes, vocab_size=tokenizer.vocab_size)
    random_checkpoint.write_random_checkpoint(folder / "model", sizes)
    return Prepared(folder / "data", folder / "model")


@pytest.fixture
def model(prepared, tmp_path) -> pathlib.Path:
    """A copy of the checkpoint, free to be damaged."""
    return shutil.copytree(prepared.model, tmp_path / "model")


def make_config(prepared: Prepared, **overrides):
    """A run of a few steps; `section__key` overrides."""
    config = config_lib.default_config()
    config.data.source = str(prepared.data)
    config.weak.model = config.strong.model = str(prepared.model)
    config.seeds = (0,)
    config.data.num_train = 40
    config.p_ik.num_train = 20
    config.training.batch_size = 10
    config.training.epochs = 1.0
    config.precision.compute_dtype = "float32"
    for key, value in overrides.items():
        section, _, leaf = key.rpartition("__")
        (config_lib.get(config, section) if section else config)[leaf] = value
    return config


def ending(config, workdir: pathlib.Path, capsys) -> tuple[int, str, str]:
    """Exit status, standard output and the one line on standard error of a command that fails."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as info:
        cli.guard(lambda: pipeline.run(config, workdir))
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
    return info.value.code, out, err


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs a config that must be refused before any stage, and returns the line."""

    def run(config, workdir=tmp_path / "run") -> str:
        status, out, line = ending(config, workdir, capsys)
        assert status == 2 and "to run" not in out  # not even a plan
        assert not list(workdir.glob("artifacts/*/*")) and not (workdir / "results.json").exists()
        return line

    return run
