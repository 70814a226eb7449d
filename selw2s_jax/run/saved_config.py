"""The config file behind `--config=DIR/config.json`: the config that a run has saved, to be run again."""

from selw2s_jax import config as config_lib

get_config = config_lib.read_saved
