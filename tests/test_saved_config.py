"""`--config=DIR/config.json`: a run's own config is read again as it was, and nothing else is."""

import json

import pytest
from support import commands, paths, small_run

from selw2s_jax import config as config_lib
from selw2s_jax import main as main_command
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import started

METHOD = """
from selw2s_jax import config as config_lib
from selw2s_jax.method import registry

registry.register("of_the_file", registry.Method(description="mine"))


def get_config(arguments=None):
    config = config_lib.default_config()
    config_lib.smoke_settings(config, weak="random-tiny-gpt2", strong="random-tiny-gpt2")
    config.methods = ("of_the_file",)
    return config
"""


def save(config, path) -> str:
    path.write_text(config.to_json_best_effort(indent=1, sort_keys=True))
    return str(path)


def test_a_config_is_read_again_as_it_was(tmp_path):
    """With values of every type, and a sweep."""
    config = config_lib.default_config()
    config_lib.world_settings(config)
    config.sweep.update(tasks=("sciq", "boolq"), settings=("p_ik.gamma=0.5,0.6",))
    config.mesh.shape, config.weak.members, config.plugins = (
        (1, 2, 1),
        ("gpt2", "gpt2@arc"),
        ("mine.methods",),
    )
    config.data.num_test, config.training.warmup_steps, config.logging.tensorboard = 7, 3, True
    normal = config_lib.normalize(config)
    again = config_lib.normalize(config_lib.read_saved(save(normal, tmp_path / "config.json")))
    assert again.to_dict() == normal.to_dict()


def test_keys_that_came_later_are_at_their_default(tmp_path):
    values = config_lib.to_json(config_lib.normalize(small_run.make_config()))
    del values["weak"]["name"], values["iterate"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = config_lib.read_saved(str(tmp_path / "config.json"))
    assert config.iterate.rounds == 2 and config.weak.name is None
    assert config.weak.model == "random-tiny-gpt2" and config.p_ik.prompt == "instruction"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[1]", "is none that a run has saved: they are not the values of a config"),
        ('{"training": {"epochs": "two"}}', "they are not the values of a config"),
        ('{"training": 3}', "config.training is a section"),
        ('{"trainings": {"epochs": 2}}', "did you mean config.training.epochs"),
    ],
)
def test_what_no_run_has_saved_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        config_lib.read_saved(str(tmp_path / "config.json"))
    ended = commands.call(main_command.main, "--config=config.json", cwd=tmp_path)
    commands.assert_refused(ended, message)


def test_the_command_takes_the_file_overrides_and_no_arguments(tmp_path, monkeypatch):
    started_with = {}

    def run(config, workdir, *, shard, start):
        started_with.update(config=config, workdir=workdir, start=start)

    monkeypatch.setattr("selw2s_jax.run.pipeline.run", run)
    (tmp_path / "mine").mkdir()
    path = save(config_lib.normalize(small_run.make_config()), tmp_path / "mine" / "config.json")
    for flag in ([f"--config={path}"], ["--config", path]):
        ended = commands.call(main_command.main, *flag, "--config.p_ik.gamma=0.25", cwd=tmp_path)
        assert ended.returncode == 0, ended
        assert started_with["config"].p_ik.gamma == 0.25 and started_with["config"].methods == ("selective",)
        assert str(started_with["workdir"]) == "runs/mine-again"
        assert started_with["start"].config_file == path and started_with["start"].config_text is None
    commands.assert_refused(
        commands.call(main_command.main, f"--config={path}:smoke", cwd=tmp_path),
        "takes no arguments; leave out :smoke",
    )
    commands.assert_refused(
        commands.call(main_command.main, "--config=mine", cwd=tmp_path), "give --config=mine/config.json"
    )


def test_the_start_of_a_run_has_command_and_file(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(
        "selw2s_jax.run.pipeline.run", lambda config, workdir, *, shard, start: found.append(start)
    )
    config = paths.REPO / "configs" / "gpt2.py"
    ended = commands.call(main_command.main, f"--config={config}:smoke", "--workdir=a b", cwd=tmp_path)
    assert ended.returncode == 0, ended
    command = f"python -m selw2s_jax.main --config={config}:smoke '--workdir=a b'"
    assert found == [started.Start(command, "gpt2:smoke", config.read_text())]


@pytest.mark.usefixtures("registrations")
def test_a_method_of_the_config_file_is_told_with_the_copy_of_it(tmp_path):
    (tmp_path / "config.py").write_text(METHOD)
    arguments = ("--dry_run", "--workdir=run")
    config = config_lib.default_config()
    config_lib.smoke_settings(config, weak="random-tiny-gpt2", strong="random-tiny-gpt2")
    config.methods = ("of_the_file",)
    save(config, tmp_path / "config.json")
    ended = commands.call(main_command.main, "--config=config.json", *arguments, cwd=tmp_path)
    commands.assert_refused(
        ended, f"registers it, give the copy of it, --config={tmp_path.resolve()}/config.py"
    )
    (tmp_path / "config.py").unlink()
    ended = commands.call(main_command.main, "--config=config.json", *arguments, cwd=tmp_path)
    assert ended.returncode == 2 and "the copy of it" not in ended.stderr
