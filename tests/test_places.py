"""Every place that is asked for, in a flag or in a key, is a file or a folder on this machine or one is told so."""

import pytest
from support import commands, paths

from selw2s_jax import config as config_lib
from selw2s_jax import main as main_command
from selw2s_jax.benchmark import __main__ as benchmark_command
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks
from selw2s_jax.export import __main__ as export_command
from selw2s_jax.plan import __main__ as plan_command
from selw2s_jax.predict import __main__ as predict_command
from selw2s_jax.preregister import __main__ as preregister_command
from selw2s_jax.report import __main__ as report_command

SMOKE = f"--config={paths.CONFIGS / 'gpt2.py'}:smoke"
COMMANDS = {
    "main": (main_command, [SMOKE]),
    "report": (report_command, []),
    "predict": (predict_command, ["--task=a", "--method=b", "--seed=0"]),
    "export": (export_command, ["--task=a", "--method=b", "--seed=0"]),
    "plan": (plan_command, [SMOKE, "--target=cpu:1"]),
    "preregister": (preregister_command, [SMOKE]),
    "benchmark": (benchmark_command, [SMOKE]),
}
FLAGS = {
    "main": ["workdir"],
    "report": ["workdir", "output"],
    "predict": ["workdir", "input", "output", "base", "tokenizer", "weak_base", "weak_tokenizer"],
    "export": ["workdir", "output", "base", "tokenizer"],
    "plan": ["workdir"],
    "preregister": ["workdir"],
    "benchmark": ["output", "profile_dir"],
}


@pytest.mark.parametrize(("command", "flag"), [(name, flag) for name, of in FLAGS.items() for flag in of])
@pytest.mark.parametrize("place", ["https://huggingface.co/org/name", "file:///data/x", "hf://org/name", ""])
def test_every_flag_of_a_place_refuses_an_address(tmp_path, command, flag, place):
    module, arguments = COMMANDS[command]
    ended = commands.call(module.main, *arguments, f"--{flag}={place}", cwd=tmp_path)
    commands.assert_refused(ended, f"--{flag}={place} is not taken" if place else f"--{flag} is empty")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_that_are_no_text_are_refused(tmp_path, command):
    module, arguments = COMMANDS[command]
    ended = commands.call(module.main, *arguments, "--workdir=run\udcff", cwd=tmp_path)
    commands.assert_refused(ended, "argument '--workdir=run\\udcff' is not UTF-8 text")


@pytest.mark.parametrize("key", checks._PLACES)
@pytest.mark.parametrize(
    "place",
    ["https://hf.co/datasets/a/b", "file:///data", "hf://a/b", "gs:/a", "", "a\0b", "~nobody-of-it/a"],
)
def test_every_key_of_a_place_refuses_what_is_none(key, place):
    config = config_lib.default_config()
    config.weak.model = config.strong.model = "gpt2"
    section, _, leaf = key.rpartition(".")
    config_lib.get(config, section)[leaf] = place
    with pytest.raises(UserError, match=rf"config\.{key}[= ]"):
        checks.validate(config)


def test_all_keys_of_places_are_known():
    """A new key of a file or folder is one that is checked."""
    names = {"model", "tokenizer", "file", "train_file", "test_file", "scores_file", "context_file"}
    keys = config_lib.dotted_keys(config_lib.default_config())
    assert {key for key in keys if key.rpartition(".")[2] in names} | {"data.source"} == set(checks._PLACES)


def test_a_link_that_is_no_folder_is_refused_as_a_folder_to_write(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    ended = commands.call(report_command.main, "--workdir=loop/run", cwd=tmp_path)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
