"""Tables 2 and 3 of the paper: GPT-2 or Qwen-1.8B teaches Qwen-14B.

--config=configs/qwen.py                    GPT-2 (Table 2)
--config=configs/qwen.py:weak=qwen-1.8b     Qwen-1.8B (Table 3)
--config=configs/qwen.py:smoke              the same at toy size, offline
"""

from selw2s_jax import config as config_lib


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(arguments, choices={"weak": ("gpt2", "qwen-1.8b"), "smoke": ()})
    config = config_lib.default_config()
    config.precision.compute_dtype = "bfloat16"  # as published, on every machine
    config.weak.model = choice["weak"]
    config.strong.model = "qwen-14b"
    if choice["smoke"]:
        weak = "random-tiny-gpt2" if choice["weak"] == "gpt2" else "random-tiny-qwen"
        config_lib.smoke_settings(config, weak=weak, strong="random-small-qwen")
    return config
