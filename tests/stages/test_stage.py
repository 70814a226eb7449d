"""What the key of a training stage holds of its method: options of its parts, and the code of a user's own."""

import functools
import importlib.util
import pathlib

import pytest
from support import training_stages

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.method import label_rules, losses, registry
from selw2s_jax.stages import train
from selw2s_jax.worlds import smoke

pytestmark = pytest.mark.usefixtures("registrations")

MY_METHODS = """
from selw2s_jax.method import label_rules, losses, registry

FLOOR = 1e-6

@losses.register("own")
def make_loss(*, alpha=3.0, gamma=7.0, openai_ramp=None):
    return lambda logits, weak_probs, step_fraction, example_mask=None: FLOOR * logits[:, 0]

@label_rules.register("own")
def make_rule(*, alpha, gamma, openai_ramp=None):
    return None

registry.register("own_loss", registry.Method(loss="own"))
registry.register("own_rule", registry.Method(label_rule="own"))
"""


def training(method: str) -> train.Train:
    """The stage that would train a student with a method."""
    return training_stages.make(method, config_lib.default_config(), smoke.RANDOM_MODELS["random-tiny-gpt2"])


def load(path: pathlib.Path, code: str) -> None:
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def forget() -> None:
    for names in (label_rules.LABEL_RULES, losses.LOSSES):
        del names["own"]
    for name in ("own_loss", "own_rule"):
        del registry.METHODS[name]


@pytest.mark.parametrize("method", ["own_loss", "own_rule"])
def test_a_key_holds_the_code_of_a_users_own_method(tmp_path, method):
    keys = {}
    for folder, code in {"a": MY_METHODS, "b": MY_METHODS, "c": MY_METHODS.replace("1e-6", "1e-5")}.items():
        (tmp_path / folder).mkdir()
        load(tmp_path / folder / "my_config.py", code)
        keys[folder] = training(method).key
        finetune = training("finetune")
        forget()
    assert keys["a"] == keys["b"], "where the file lies is no part of a result"
    assert keys["a"] != keys["c"]
    assert finetune.key == training("finetune").key


@pytest.mark.parametrize("method", sorted(registry.METHODS))
def test_no_key_holds_the_code_of_this_package(method):
    assert not [name for name in training(method).inputs if name.startswith("code of")]


def test_losses_and_label_rules_have_options_of_their_own(tmp_path):
    load(tmp_path / "my_config.py", MY_METHODS)
    graph = config_lib.default_config().graph
    own_loss, own_rule = (training(name).inputs["objective"] for name in ("own_loss", "own_rule"))
    assert dict(own_loss["loss_options"]) == {"openai_ramp": False}
    assert dict(own_rule["rule_options"]) == {"alpha": graph.alpha, "gamma": 0.8}


def test_a_loss_whose_source_cannot_be_read_is_refused():
    losses.register("own")(functools.partial(losses.make_confidence_loss, confidence_coefficient=0.7))
    registry.register("own_loss", registry.Method(loss="own"))
    with pytest.raises(UserError, match=r"the source of loss .* cannot be read") as raised:
        training("own_loss").key  # noqa: B018
    assert "\n" not in str(raised.value)
