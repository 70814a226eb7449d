"""SmolLM2-135M teaches Qwen2.5-1.5B on SciQ with low-rank adapters: open weights, one small machine.

--config=configs/small.py          a seed of 2,000 questions
--config=configs/small.py:smoke    the same at toy size, offline
"""

from selw2s_jax import config as config_lib


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(arguments, choices={"smoke": ()})
    config = config_lib.default_config()
    config.weak.model = "smollm2-135m"
    config.strong.model = "qwen2.5-1.5b"
    config.seeds = (0,)
    config.data.num_train = 2_000
    config.data.num_test = 500
    config.p_ik.num_train = 1_000
    config.training.trained = "lora"
    config.training.learning_rate = 1e-4  # the default rates are those of whole models
    if choice["smoke"]:
        config_lib.smoke_settings(config, weak="random-tiny-llama", strong="random-small-qwen2")
    return config
