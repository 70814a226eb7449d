"""The small world of the quickstart with more seeds and methods: what `benchmarks/world_study.py` runs, on two cores.

--config=configs/world.py                          P(IK) trained jointly with the task, and alone before
--config=configs/world.py:correlated               a world in which both models fail on the same questions; longer
--config=configs/world.py:correlated,p_ik=frozen   the same, P(IK) trained alone before and its scores kept
--config=configs/world.py:teachers                 several weak models, and earlier students as teachers
"""

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError

# The first paper's Table 2, what teaches otherwise, and what these have to beat.
_TAUGHT = (
    *("finetune", "confidence", "product", "adaptive", "reverse_kl", "jensen_shannon"),
    *("selective", "random_selection", "self_training"),
    *("raven", "selective_by_disagreement", "random_selection_by_disagreement"),
    *("two_stage", "two_stage_random", "chain", "iterate"),
)


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(
        arguments, choices={"correlated": (), "teachers": (), "p_ik": ("joint", "frozen")}
    )
    is_frozen = choice["p_ik"] == "frozen"
    config = config_lib.default_config()
    if choice["correlated"]:
        config_lib.larger_correlated_world(config)
        config.methods += ("selective_without_ik", "selective_without_gs", "mtl")
    elif is_frozen:
        raise UserError(
            "configs/world.py: p_ik=frozen goes with correlated; here the methods *_frozen are of it"
        )
    else:
        config_lib.world_settings(config)
        config.seeds = (0, 1, 2, 3, 4)
    if choice["teachers"]:
        if choice["correlated"]:
            raise UserError("configs/world.py: teachers goes without correlated")
        config.methods = _TAUGHT
        config.weak.model, config.weak.rows = None, "bootstrap"
        config.weak.members = ("world", "world", "world@world_traits")
        config.chain.models = ("world",)
        config.evaluation.every_steps = 20
    if is_frozen:
        config.p_ik.stage = "frozen"
        config.p_ik.mask = "frozen_scores"
        config.methods = ("selective", "selective_without_gs", "random_selection")
    return config
