"""The config of a run of a few steps on generated inputs."""

from selw2s_jax import config as config_lib


def make_config(**overrides):
    """A run of a few steps; dotted keys override."""
    config = config_lib.default_config()
    config_lib.smoke_settings(config, weak="random-tiny-gpt2", strong="random-tiny-qwen")
    config.data.num_train = 64
    config.data.num_test = 33
    config.p_ik.num_train = 31
    config.training.batch_size = 8
    config.training.epochs = 1.0
    for key, value in overrides.items():
        *sections, leaf = key.split("__")
        section = config
        for name in sections:
            section = section[name]
        section[leaf] = value
    return config
