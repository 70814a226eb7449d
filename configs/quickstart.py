"""A small generated world, offline, on two cores: a strong model that knows more than its teacher.

--config=configs/quickstart.py              what `make quickstart` runs
--config=configs/quickstart.py:correlated   a world in which both models fail on the same questions; longer
"""

from selw2s_jax import config as config_lib

_WORLD = 50  # on which no choice was made


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(arguments, choices={"correlated": ()})
    config = config_lib.default_config()
    if choice["correlated"]:
        config_lib.correlated_world(config)
        return config
    config_lib.world_settings(config)
    config.world.seed = config.pretraining.seed = _WORLD
    config.seeds = (0,)
    return config
