"""The small world of the quickstart with more seeds and methods: what `benchmarks/world_study.py` runs, on two cores.

--config=configs/world.py                          P(IK) trained jointly with the task
--config=configs/world.py:p_ik=frozen              P(IK) trained alone before, its scores kept
--config=configs/world.py:correlated               a world in which both models fail on the same questions
--config=configs/world.py:correlated,p_ik=frozen   the same, P(IK) trained alone before
"""

from selw2s_jax import config as config_lib


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(arguments, choices={"p_ik": ("joint", "frozen"), "correlated": ()})
    config = config_lib.default_config()
    if choice["correlated"]:
        config_lib.larger_correlated_world(config)
    else:
        config_lib.world_settings(config)
        config.seeds = (0, 1, 2, 3, 4)
    if choice["p_ik"] == "frozen":
        config.p_ik.stage = "frozen"
        config.p_ik.mask = "frozen_scores"
        config.methods = ("selective", "selective_without_gs", "random_selection")
    else:
        config.methods += ("selective_without_ik", "selective_without_gs", "mtl")
    return config
