"""A small generated world, offline, on two cores: a strong model that knows more than its teacher.

--config=configs/quickstart.py        what `make quickstart` runs
"""

from selw2s_jax import config as config_lib


def get_config(arguments: str | None = None):
    config_lib.parse_arguments(arguments, choices={})
    config = config_lib.default_config()
    config_lib.world_settings(config)
    return config
