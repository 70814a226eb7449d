"""GPT-2 teaches GPT-2 xl, for one GPU.

--config=configs/gpt2.py                      small to xl
--config=configs/gpt2.py:strong=gpt2-large    small to large
--config=configs/gpt2.py:smoke                the same at toy size, offline
"""

from selw2s_jax import config as config_lib


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(
        arguments,
        choices={
            "weak": ("gpt2", "gpt2-medium", "gpt2-large"),
            "strong": ("gpt2-xl", "gpt2-large", "gpt2-medium"),
            "smoke": (),
        },
    )
    config = config_lib.default_config()
    config.precision.compute_dtype = "bfloat16"  # as published, on every machine
    config.weak.model = choice["weak"]
    config.strong.model = choice["strong"]
    if choice["smoke"]:
        config_lib.smoke_settings(config, weak="random-tiny-gpt2", strong="random-small-gpt2")
    return config
