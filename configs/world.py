"""The small world at larger sizes: what `benchmarks/world_study.py` runs, on two cores or a GPU.

--config=configs/world.py               P(IK) trained jointly with the task
--config=configs/world.py:p_ik=frozen   P(IK) trained alone before, its scores kept
"""

from selw2s_jax import config as config_lib


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(arguments, choices={"p_ik": ("joint", "frozen")})
    config = config_lib.default_config()
    config_lib.world_settings(config)
    # Halves of about 1,060 rows and a test set of about 1,000.
    config.world.num_entities = 2600
    config.world.shown_share = 0.4
    config.world.test_share = 0.32
    config.pretraining.strong.num_steps = 6500
    config.pretraining.weak.num_steps = 2000
    config.seeds = (0, 1, 2, 3, 4)
    if choice["p_ik"] == "frozen":
        config.p_ik.stage = "frozen"
        config.p_ik.mask = "frozen_scores"
        config.methods = ("selective", "selective_without_gs", "random_selection")
    else:
        config.methods += ("selective_without_ik", "selective_without_gs", "mtl")
    return config
