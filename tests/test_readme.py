"""The README's examples are complete."""

import importlib.util
import pathlib
import re
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from selw2s_jax import config as config_lib
from selw2s_jax import plugins, stages
from selw2s_jax.method import losses, registry

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def my_config() -> str:
    block = re.search(r"As a whole `my_config\.py`[^:]*:\n\n((?:    .*\n|\n)+)", README.read_text())
    return textwrap.dedent(block[1])


def test_the_example_is_a_config_with_a_method_of_its_own(registrations, tmp_path):
    (tmp_path / "my_config.py").write_text(my_config())
    spec = importlib.util.spec_from_file_location("my_config", tmp_path / "my_config.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config_lib.validate(config_lib.normalize(config), students=registry.students())
    own = [name for name in config.methods if losses.LOSSES[name].__module__ == "my_config"]
    assert len(own) == 1
    weak_probs = jnp.asarray([[0.3, 0.7], [1.0, 0.0]])
    values = losses.get(own[0])(jnp.log(weak_probs + 1e-6), weak_probs, 0.5)
    np.testing.assert_allclose(values, 0.0, atol=1e-4)


def test_the_example_works_as_a_plugin(registrations, tmp_path, monkeypatch):
    code, _, _ = my_config().partition("def get_config")
    (tmp_path / "my_methods.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    config = config_lib.default_config()
    config.plugins, config.methods = ("my_methods",), ("finetune", "jeffreys")
    plugins.load(config.plugins)
    del sys.modules["my_methods"]
    plugins.check_methods(config)
    own = stages.make_objective(config, registry.METHODS["jeffreys"])
    assert own.loss_options == (("scale", 1.0),)


def test_the_table_of_methods_is_whole():
    table = re.search(r"\| method \| what it is \|\n((?:\|.*\n)+)", README.read_text())[1]
    named = [name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(registry.students())
    options = re.findall(r"`loss\.(\w+)`", table)
    assert sorted(options) == sorted(config_lib.default_config().loss)


@pytest.mark.slow
def test_the_example_method_runs_and_its_code_is_part_of_its_key(tmp_path):
    def run(code: str) -> str:
        (tmp_path / "my_config.py").write_text(code)
        command = [sys.executable, "-m", "selw2s_jax.main", "--config=my_config.py", "--workdir=run"]
        return subprocess.run(
            [*command, "--config.data.num_train=128", "--config.data.num_test=21"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    first = run(my_config())
    assert re.search(r"^jeffreys +\d+\.\d\d", first, re.MULTILINE)
    assert ", 0 to run" in run(my_config())
    edited = run(my_config().replace("1e-6", "1e-5"))
    # The student and its evaluation; nothing else depends on the loss.
    assert ", 2 to run" in edited
