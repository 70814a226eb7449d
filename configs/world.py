"""The small world at larger sizes: what `benchmarks/world_study.py` runs, on two cores or a GPU.

--config=configs/world.py               P(IK) trained jointly with the task
--config=configs/world.py:p_ik=frozen   P(IK) trained alone before, its scores kept
"""

from selw2s_jax import config as config_lib


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(arguments, choices={"p_ik": ("joint", "frozen")})
    config = config_lib.default_config()
    config_lib.world_settings(config)
    config_lib.larger_world(config)
    if choice["p_ik"] == "frozen":
        config.p_ik.stage = "frozen"
        config.p_ik.mask = "frozen_scores"
        config.methods = ("selective", "selective_without_gs", "random_selection")
    else:
        config.methods += ("selective_without_ik", "selective_without_gs", "mtl")
    return config
