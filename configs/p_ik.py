"""Does the strong model know what it knows? Table 6 and Figures 3 and 4 of the paper, P(IK) trained alone.

P(IK) is trained on each task and tested on each: the paper's table is the diagonal of that and the row of ARC.

--config=configs/p_ik.py         Qwen-14B: ARC, SciQ, BoolQ, CosmosQA, Winogrande, GSM8K
--config=configs/p_ik.py:world   the five tasks of the small world, five seeds
--config=configs/p_ik.py:smoke   toy size, offline, a random model
"""

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError

_TASKS = ("arc", "sciq", "boolq", "cosmos_qa", "winogrande", "gsm8k")
_WORLD_TASKS = ("world_traits", "world_facts", "world_passage", "world_compare", "world_sums")


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(arguments, choices={"world": (), "smoke": ()})
    if choice["world"] and choice["smoke"]:
        raise UserError("configs/p_ik.py: world and smoke exclude each other; choose one")
    config = config_lib.default_config()
    config.precision.compute_dtype = "bfloat16"  # as published, on every machine
    config.strong.model = "qwen-14b"
    if choice["smoke"]:
        config_lib.smoke_settings(config, weak=None, strong="random-small-qwen")
        config.generation.max_new_tokens = 12
    if choice["world"]:
        config_lib.larger_correlated_world(config)
        config.weak.model = None
        config.p_ik.num_test = 0
    config.methods = ("p_ik_only",)
    names = _WORLD_TASKS if choice["world"] else _TASKS
    config.sweep.tasks = names
    config.sweep.settings = (f"p_ik.task={','.join(names)}",)
    return config
