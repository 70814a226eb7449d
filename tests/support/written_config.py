"""The config of a small run whose models write."""

from configs import reliability
from selw2s_jax import config as config_lib
from selw2s_jax.experiments import checks


def raw(**values):
    """The smoke run with two methods and two variations; `section__key` overrides."""
    config = reliability.get_config("smoke")
    config.methods = ("finetune", "reweighted")
    config.variations.count = 2
    for key, value in values.items():
        config_lib.put(config, key.replace("__", "."), value)
    return config


def make(**values):
    """The same in its normal form, checked."""
    config = config_lib.normalize(raw(**values))
    checks.validate(config)
    return config
