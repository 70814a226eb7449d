"""Options of one method alone: which a method has, of which types, and what else of a run they change: nothing."""

import pytest

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, plugins, unread
from selw2s_jax.method import (
    label_rules,
    losses,
    method_options,
    objectives,
    registry,
    row_weights,
    selection,
)

pytestmark = pytest.mark.usefixtures("registrations")


def make_own_loss(*, beta=1.0, scale=1.0, mode="a", levels=(1, 2), is_on=False, most: int, floor=None):
    return lambda logits, weak_probs, step_fraction, example_mask=None: logits[:, 0].astype("float32")


@pytest.fixture
def make(registrations):
    """A config of methods `own`, with a loss and a selector of the test's own, and `selective`, given options."""
    losses.register("own")(make_own_loss)
    registry.register("own", registry.Method(loss="own", loss_options={"is_on": True}))

    @selection.SELECTORS.register("unsure", reads=("weak_probs",))
    def make_unsure(*, gamma, margin=0.3):
        return lambda inputs, p_ik: (p_ik > gamma) & (inputs.weak_probs.max(-1) < 0.5 + margin)

    def make_config(**given):
        config = config_lib.default_config()
        config.weak.model = config.strong.model = "gpt2"
        config.methods, config.selection.selector = ("own", "selective"), "unsure"
        config.method_options.own = dict(most=3)
        for key, value in given.items():
            config_lib.put(config, f"method_options.{key.replace('__', '.')}", value)
        return config_lib.normalize(config)

    return make_config


def objective(config, name: str) -> objectives.Objective:
    return objectives.make_objective(config, method_options.applied(config, name))


def test_options_are_given_to_the_parts_that_name_them(make):
    config = make(own__beta=3, own__scale=2.0, own__levels=[3, [4]], own__floor="low", selective__margin=0.25)
    plugins.check_methods(config)
    expected = {"beta": 3.0, "scale": 2.0, "levels": (3, (4,)), "floor": "low", "most": 3, "is_on": True}
    assert dict(objective(config, "own").loss_options) == expected
    assert type(dict(objective(config, "own").loss_options)["beta"]) is float
    assert dict(objective(config, "own").rule_options) == {}
    plain = dict(objective(make(), "selective").rule_options)
    assert dict(objective(config, "selective").rule_options) == plain | {"margin": 0.25}
    hash(objective(config, "own"))


def test_without_options_an_objective_is_what_it_was(make):
    config = make()
    for name in registry.METHODS:
        if name != "own":
            assert method_options.applied(config, name) is registry.METHODS[name]
    # One method's are no other's, and a value that the config says for all is the same option.
    other = make(own__beta=2.0)
    assert objective(other, "selective") == objective(config, "selective")
    config.methods = ("reverse_kl",)
    same = config_lib.normalize(config)
    config_lib.put(same, "method_options.reverse_kl.scale", 1)
    assert objective(same, "reverse_kl") == objective(config, "reverse_kl")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"own__bet": 3}, ["own.bet: method 'own' has no such option (did you mean 'beta'?)", "levels, mode"]),
        ({"own__beta": "3"}, ["own.beta='3': give a value of type float"]),
        ({"own__beta": True}, ["own.beta=True: give a value of type float"]),
        ({"own__beta": None}, ["own.beta=None: give a value of type float; leave it out for its default"]),
        ({"own__most": 3.5}, ["own.most=3.5: give a value of type int"]),
        ({"own__levels": 3}, ["own.levels=3: give a value of type tuple"]),
        ({"own__is_on": False}, ["own.is_on: is_on=True is part of the method: register another"]),
        ({"own__scale": -1}, ["method_options.own.scale: config.loss.scale=-1.0 must be greater than 0"]),
        ({"own__beta": float("nan")}, ["config.method_options.own.beta=nan must be a finite number"]),
        ({"selective__gamma": 0.5}, ["all methods of a run have the same gamma: set config.p_ik.gamma"]),
        ({"selective__mask": "given"}, ["set config.p_ik.mask"]),
        ({"selective__self_label": "given"}, ["set config.self_label.source"]),
        ({"selective__selector": "threshold"}, ["set config.selection.selector"]),
        ({"selective__sharpness": 1}, ["has no such option; its options are margin (loss 'finetune', label rule"]),
        ({"owm__beta": 3}, ["config.method_options='owm' is not one of", "did you mean 'own'?"]),
        ({"ceiling__beta": 3}, ["config.method_options='ceiling' is not one of"]),
    ],
)  # fmt: skip
def test_options_that_are_not_there_or_not_right(make, given, words):
    with pytest.raises(UserError) as raised:
        checks.validate(make(**given))
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_an_option_without_a_value_is_missed_where_the_method_is_checked(make):
    config = make()
    config.method_options = {}
    with pytest.raises(UserError, match="loss 'own' needs most"):
        plugins.check_methods(config_lib.normalize(config))


def test_options_of_a_method_that_is_not_run_are_noted(make):
    config = make(reverse_kl__scale=2.0)
    checks.validate(config)
    note = "config.method_options.reverse_kl is read by nothing: it is not among the methods of the run"
    assert note in unread.check([config])
    # The key that says it for all is read by none whose option is its own.
    config.methods, config.loss.scale = ("reverse_kl",), 3.0
    assert (
        "config.loss.scale=3.0 is read by nothing: no method of the run has such an option"
        in unread.check([config])
    )


def test_row_weights_have_options_of_their_own():
    @row_weights.register("own")
    def make_weights(*, temperature, power=2):
        return lambda inputs: row_weights.of_originals(inputs, [power] * len(inputs.answers))

    config = config_lib.default_config()
    config.supervision, config.methods = "completion", ("own", "reweighted")
    config_lib.put(config, "method_options.own.power", 3)
    assert method_options.of_row_weights(config, "own") == {"temperature": 0.2, "power": 3}
    assert method_options.of_row_weights(config, "reweighted") == {
        "temperature": 0.2, "normalize": "none", "unparsed": "class"
    }  # fmt: skip
    for name, option in (("own", "temperature"), ("reweighted", "temperature"), ("reweighted", "power")):
        wrong = config_lib.normalize(config)
        config_lib.put(wrong, f"method_options.{name}.{option}", 1.0)
        with pytest.raises(ValueError, match=f"method_options.{name}.{option}"):
            method_options.of_row_weights(wrong, name)


def test_every_method_of_the_package_says_its_options():
    config = config_lib.default_config()
    found = {}
    for name in registry.METHODS:
        parts = [
            (losses.LOSSES, registry.METHODS[name].loss),
            (label_rules.LABEL_RULES, registry.METHODS[name].label_rule),
        ]
        found[name] = method_options.options(config, parts)
    assert found["reverse_kl"] == {"scale": method_options.Option("loss.scale", float, False)}
    assert found["raven"]["floor"].key == "raven.floor"
    assert found["selective"]["mask"].key == "p_ik.mask"
