"""The command as a user types it, in a process of its own; and inputs that are odd but legal."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import commands, paths

from selw2s_jax import config as config_lib
from selw2s_jax import main as main_command
from selw2s_jax.data import by_id
from selw2s_jax.experiments import inputs
from selw2s_jax.hf import random_checkpoint, weight_files
from selw2s_jax.worlds import generated, smoke

SMOKE = f"--config={paths.REPO / 'configs' / 'gpt2.py'}:smoke"


def process(*arguments: str, cwd: pathlib.Path, **environment: str) -> subprocess.CompletedProcess:
    """Runs `python -m selw2s_jax.main` with these arguments, without network or caches."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "hf"), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-m", "selw2s_jax.main", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | offline | environment,
        check=False,
    )


def call(*arguments: str, cwd: pathlib.Path) -> commands.Ended:
    """Runs the command in this process."""
    return commands.call(main_command.main, *arguments, cwd=cwd)


def error_line(start, *arguments: str, cwd: pathlib.Path, **environment: str) -> str:
    """The one line of a command, by `call` or as a `process`, that must be refused at once."""
    ended = start(*arguments, cwd=cwd, **environment)
    assert ended.returncode == 2, ended
    assert "to run" not in ended.stdout  # not even a plan
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert not list(cwd.glob("**/artifacts/*/*"))
    return ended.stderr


def test_a_mistake_found_in_the_inputs_is_one_line(tmp_path):
    """From another folder than the repository, with the default workdir."""
    line = error_line(call, f"{SMOKE},strong=gpt2-large", "--config.data.num_train=1", cwd=tmp_path)
    assert "cannot be halved; give at least 2" in line
    assert (tmp_path / "runs" / "gpt2-smoke-strong=gpt2-large").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("weak.model=gpt2", ["hf download openai-community/gpt2 --revision 607a30d7", "$HF_HOME"]),
        (
            "data.source=hub",
            ["allenai/sciq split 'train'", "FOLDER/sciq/train.parquet", "data.source=FOLDER"],
        ),
    ],
)
def test_hub_names_offline(tmp_path, override, parts):
    line = error_line(process, SMOKE, f"--config.{override}", "--workdir=run", cwd=tmp_path)
    assert all(part in line for part in parts), line


@pytest.mark.slow
@pytest.mark.parametrize("override", ["strong.model=someone/model", "data.source=hub"])
def test_a_hub_that_does_not_answer(tmp_path, override):
    line = error_line(
        process,
        SMOKE,
        f"--config.{override}",
        cwd=tmp_path,
        HF_HUB_OFFLINE="0",
        HF_ENDPOINT="http://127.0.0.1:9",  # the discard port: refused at once
    )
    assert "hub" in line and ("hf download someone/model" in line or "FOLDER/sciq/train.parquet" in line)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.mesh.shape=1,1,2"], "mesh.shape (1, 1, 2) does not fit 1 device(s)"),
        (["--config.training.batch_size=ten"], "config.training.batch_size takes a value of type int"),
        (["--config.task=sci"], "did you mean 'sciq'?"),
        (["--config.strong.model=model"], "no checkpoint 'model'"),
        (["--config.execution.attention=cudnn", "--config.precision.compute_dtype=bfloat16"], "needs a GPU"),
        (["--config.data.max_length=5"], "every example of weak_half is longer than 5 tokens"),
        (["--config.data.train_file=own.tsv", "--config.task=own"], "unknown format '.tsv'"),
        (["--workdir=occupied/run"], "workdir occupied/run cannot be written"),
    ],
)
def test_mistakes_end_the_command_with_one_line(tmp_path, arguments, message):
    (tmp_path / "occupied").write_text("")
    assert message in error_line(call, SMOKE, *arguments, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.ci
def test_a_mesh_that_does_not_divide_the_model(tmp_path):
    flags = commands.xla_flags(3)
    line = error_line(process, SMOKE, "--config.mesh.shape=1,3,1", cwd=tmp_path, XLA_FLAGS=flags)
    assert "does not divide the gpt2 model: embed_dim 64 by fsdp 3; choose mesh sizes" in line


@pytest.mark.slow
@pytest.mark.ci
def test_a_full_disk_is_one_line(tmp_path):
    """A limit on the size of files: system calls fail as on a full disk."""
    arguments = [SMOKE, "--workdir=run", "--config.methods=()", "--config.data.num_train=64"]
    code = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))\n"
        "runpy.run_module('selw2s_jax.main', run_name='__main__', alter_sys=True)"
    )
    smoke.model_folder("random-tiny-gpt2", tmp_path / "run" / "inputs")
    smoke.model_folder("random-small-gpt2", tmp_path / "run" / "inputs")
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert ended.returncode == 2 and "[1/5] weak, seed 0" in ended.stdout
    # Threads of libraries may have spoken of the failed write before; the command's own word is one line, the last.
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and ended.stderr.endswith(f"{lines[0]}\n"), ended.stderr
    assert "File too large" in ended.stderr and "finished stages are kept" in ended.stderr
    assert not list((tmp_path / "run" / "artifacts").glob("*/*"))


@pytest.mark.slow
def test_a_researchers_own_questions(tmp_path):
    """Own CSV and config below `~`, relative folders, one seed and one method: the second time nothing runs."""
    lines = ["question,choices,answer"]
    lines += [f'is {i} even or odd,"[""even"", ""odd""]",{i % 2}' for i in range(60)]
    (tmp_path / "own.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(paths.REPO / "configs" / "gpt2.py", tmp_path / "mine.py")
    smoke.model_folder("random-tiny-gpt2", tmp_path / "models")
    arguments = [
        "--config=~/mine.py:smoke",
        "--workdir=~/here",
        "--config.task=parity",
        "--config.data.train_file=~/own.csv",
        "--config.weak.model=models/random-tiny-gpt2",
        "--config.strong.model=~/models/random-tiny-gpt2",
        "--config.strong.tokenizer=~/models/random-tiny-gpt2",
        "--config.seeds=3",
        "--config.methods=finetune",
        "--config.training.batch_size=8",
    ]
    ended = process(*arguments, cwd=tmp_path, HOME=str(tmp_path))
    assert ended.returncode == 0 and ended.stderr == "", ended
    assert "7 stages" in ended.stdout and "7 to run" in ended.stdout and "parity: " in ended.stdout
    assert (
        "  training  " in ended.stdout and "evaluation of weak, seed 3  " not in ended.stdout
    )  # counted by kind
    assert ended.stdout.splitlines()[-1].startswith("report: python -m selw2s_jax.report --workdir=")
    records = json.loads((tmp_path / "here" / "results.json").read_text())["records"]
    assert [(r["task"], r["method"], r["seed"]) for r in records] == [
        ("parity", "weak", 3),
        ("parity", "ceiling", 3),
        ("parity", "finetune", 3),
    ]
    ended = process(*arguments, cwd=tmp_path, HOME=str(tmp_path))
    assert ended.returncode == 0 and "0 to run" in ended.stdout and "\n[" not in ended.stdout


# Odd but legal.


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> pathlib.Path:
    """A folder with generated `data` and a random checkpoint with its tokenizer."""
    folder = tmp_path_factory.mktemp("made")
    generated.write_generated_data(folder / "data", num_train=60, num_test=20)
    smoke.model_folder("random-tiny-gpt2", folder)
    return folder


def prepare(made: pathlib.Path, workdir: pathlib.Path, **overrides) -> inputs.Inputs:
    config = config_lib.default_config()
    config.data.source = str(made / "data")
    config.weak.model = config.strong.model = str(made / "random-tiny-gpt2")
    config.seeds, config.methods = (0,), ("finetune",)
    for key, value in overrides.items():
        section, _, leaf = key.rpartition("__")
        config_lib.get(config, section)[leaf] = value
    return inputs.prepare(config, workdir)


def test_a_tokenizer_from_another_folder(made, tmp_path):
    folder = shutil.copytree(made / "random-tiny-gpt2", tmp_path / "model")
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(tokenizer / name)
    found = prepare(made, tmp_path / "run", weak__model=str(folder), weak__tokenizer=str(tokenizer))
    assert found.weak[0].fingerprint == found.strong.fingerprint


@pytest.mark.parametrize(
    "options", [dict(prefix=False), dict(max_shard_bytes=20_000)], ids=["bare", "sharded"]
)
def test_every_layout_of_a_checkpoint_is_taken(made, tmp_path, options):
    source = made / "random-tiny-gpt2"
    folder = shutil.copytree(source, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    original = inputs.loader.read_model_config(source)
    random_checkpoint.write_random_checkpoint(folder, original, seed=len("random-tiny-gpt2"), **options)
    found = prepare(made, tmp_path / "run", strong__model=str(folder))
    assert found.strong.config == found.weak[0].config

    tensors = {}
    for path in folder.glob("*.safetensors"):
        tensors |= load_file(path)
    assert (folder / weight_files.INDEX_NAME).exists() == ("max_shard_bytes" in options)
    for key, value in load_file(source / "model.safetensors").items():
        key = key if options.get("prefix", True) else key.removeprefix("transformer.")
        np.testing.assert_array_equal(tensors[key], value)


def test_own_files_may_begin_with_a_byte_order_mark(made, tmp_path):
    rows = "".join(json.dumps({"text": f"row {i}", "label": i % 2}) + "\n" for i in range(30))
    (tmp_path / "own.jsonl").write_text("\ufeff" + rows, encoding="utf-8")
    found = prepare(made, tmp_path / "run", data__train_file=str(tmp_path / "own.jsonl"))
    texts = {example.text for example in found.by_seed[0].weak_half.examples}
    texts |= {example.text for example in found.by_seed[0].student_half.examples}
    texts |= {example.text for example in found.by_seed[0].test.examples}
    assert texts == {f"row {i}" for i in range(30)}
    assert any("task sciq is" in note and "call it otherwise" in note for note in found.notes)

    (tmp_path / "labels.jsonl").write_text(
        '\ufeff{"example_id": "a\u2028b", "label": 0.5}\n\n', encoding="utf-8"
    )
    assert by_id.read_values(str(tmp_path / "labels.jsonl"), "label", 0, 1) == {"a\u2028b": 0.5}


def test_paths_may_be_relative_or_begin_with_a_tilde(made, tmp_path, monkeypatch):
    absolute = prepare(made, tmp_path / "run")
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.chdir(made)
    for place in ("~/", ""):
        found = prepare(
            made,
            tmp_path / "run",
            data__source=f"{place}data",
            weak__model=f"{place}random-tiny-gpt2",
            weak__tokenizer=f"{place}random-tiny-gpt2",
        )
        assert found.weak[0].fingerprint == absolute.weak[0].fingerprint
        assert found.by_seed[0].test.texts_hash == absolute.by_seed[0].test.texts_hash
