"""That a config has the keys of the default, with values of their types that can run, wherever it comes from."""

import math

import ml_collections
import pytest
from support import golden_config

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError

NULL = [key for key, value in golden_config.GOLDEN.items() if isinstance(value, type)]


def test_the_default_config_is_locked():
    config = config_lib.default_config()
    for section, key in ((config.training, "lr"), (config.p_ik, "gama"), (config, "trainig")):
        with pytest.raises(AttributeError, match=key):
            setattr(section, key, 1e-3)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "training.lr",
            r"config key 'training\.lr' is not known; did you mean config\.training\.learning_rate\?",
        ),
        ("p_ik.gama", r"config key 'p_ik\.gama' is not known; did you mean config\.p_ik\.gamma\?"),
        ("extra", r"config key 'extra' is not known; did you mean config\."),
    ],
)
def test_a_key_that_is_not_known_is_refused(key, message):
    config = golden_config.valid_config()
    with config.unlocked():
        golden_config.set_key(config, key, 1e-3)
    with pytest.raises(UserError, match=message):
        config_lib.validate(config)


@pytest.mark.parametrize("key", [key for key in golden_config.GOLDEN if key not in NULL])
def test_a_key_that_has_to_have_a_value_is_not_null(key):
    config = golden_config.valid_config()
    golden_config.set_key(config, key, None)
    with pytest.raises(
        UserError, match=rf"config\.{key} is None and has to have a value, by default "
    ) as raised:
        config_lib.normalize(config)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", NULL)
def test_a_key_that_is_null_by_default_may_be(key):
    config = golden_config.valid_config()
    golden_config.set_key(config, key, None)
    assert config_lib.get(config_lib.normalize(config), key) is None


def test_a_section_is_no_value():
    for value in (None, 3):
        config = golden_config.valid_config()
        with config.ignore_type():
            config.graph = value
        with pytest.raises(
            UserError, match=r"config\.graph is a section, not a value; set one of: graph\.alpha"
        ):
            config_lib.validate(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.batch_size", 32.0, "is of type float: give a value of type int"),
        ("training.batch_size", True, "is of type bool: give a value of type int"),
        ("training.epochs", "2", "is of type str: give a value of type float"),
        ("data.reshuffle", 1, "is of type int: give a value of type bool"),
        ("data.train_file", 3, "is of type int: give a value of type str"),
        ("data.num_train", 10**1000, "is a number of 3322 bits: give a smaller one"),
        ("seeds", (0, -(10**1000)), "is a number of 3322 bits: give a smaller one"),
        ("methods", "finetune", "is of type str: give a value of type tuple"),
        ("methods", (None,), "holds None: give values of type str"),
        ("sweep.settings", (3,), "holds 3: give values of type str"),
        ("plugins", (b"mine",), "holds b'mine': give values of type str"),
        ("world.task_shares", (1, "2", 3, 4, 5), "holds '2': give values of type float"),
        ("data.train_file", "a\0b", "holds a NUL character"),
        ("lora.targets", ("attention\0",), "holds a NUL character"),
        ("data.train_file", "\ud800", "is not UTF-8 text"),
    ],
)
def test_a_value_of_another_type_is_refused(key, value, message):
    config = golden_config.valid_config()
    with config.ignore_type():
        golden_config.set_key(config, key, value)
    with pytest.raises(UserError, match=rf"config\.{key}.*{message}") as raised:
        config_lib.normalize(config)
    assert "\n" not in str(raised.value)


def test_a_config_of_json_values_is_the_same_config():
    config = config_lib.normalize(golden_config.valid_config())
    again = config_lib.normalize(ml_collections.ConfigDict(config_lib.to_json(config)))
    assert again.to_dict() == config.to_dict()
    assert again.methods == ("finetune", "selective") and again.is_locked
    again = ml_collections.ConfigDict(config_lib.to_json(config))
    with again.ignore_type():
        again.training.epochs = 3
    assert type(config_lib.normalize(again).training.epochs) is float
    with pytest.raises(
        UserError, match=r"the config is a dict: start from selw2s_jax\.config\.default_config"
    ):
        config_lib.normalize(config.to_dict())


# Numbers that cannot run.

FLOATS = [key for key, value in golden_config.GOLDEN.items() if value is float or isinstance(value, float)]
INTS = [
    key
    for key, value in golden_config.GOLDEN.items()
    if value is int or (isinstance(value, int) and type(value) is int)
]


@pytest.mark.parametrize("key", FLOATS)
def test_no_float_is_nan_or_infinite_or_beyond_float32(key):
    for value in (math.nan, math.inf, -math.inf, 1e-320, 1e39):
        config = golden_config.valid_config()
        golden_config.set_key(config, key, value)
        with pytest.raises(UserError, match=rf"config\.{key.replace('.', '[.]')}="):
            golden_config.validate(config)


@pytest.mark.parametrize("key", INTS)
def test_no_integer_is_beyond_its_bits(key):
    config = golden_config.valid_config()
    golden_config.set_key(config, key, 2**32 if "seed" in key else 2**31)
    with pytest.raises(UserError, match=rf"config\.{key}="):
        golden_config.validate(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"graph.tau": 1e-320}, "config.graph.tau=1e-320 is 0 in float32"),
        ({"training.eps": 1e-45}, "config.training.eps=1e-45 is 0 in float32"),
        ({"p_ik.weight": 1e39}, r"config.p_ik.weight=1e\+39 is infinite in float32"),
        (
            {"world.task_shares": (1.0, math.nan, 1.0, 1.0, 1.0)},
            "config.world.task_shares=nan must be a finite",
        ),
        (
            {"p_ik.num_samples": 2**31},
            "config.p_ik.num_samples=2147483648 is more than a 32-bit number holds",
        ),
        ({"p_ik.num_samples": 10_001}, "config.p_ik.num_samples=10001 is more than a run can work on"),
        ({"p_ik.batch_size": 10**6}, "config.p_ik.batch_size=1000000 is more than a run can work on"),
        ({"training.batch_size": 10**6}, "config.training.batch_size=1000000 is more than a run"),
        (
            {"pretraining.strong.num_layers": 10**7},
            "config.pretraining.strong.num_layers=10000000 is more than",
        ),
        (
            {"pretraining.weak.mlp_dim": 2**30},
            "config.pretraining.weak.mlp_dim=1073741824 is more than a run",
        ),
        (
            {"pretraining.strong.num_steps": 10**9},
            "config.pretraining.strong.num_steps=1000000000 of batch_rows=10",
        ),
    ],
)
def test_what_cannot_run_is_refused(values, message):
    config = golden_config.valid_config()
    for key, value in values.items():
        golden_config.set_key(config, key, value)
    with pytest.raises(UserError, match=message):
        golden_config.validate(config)
