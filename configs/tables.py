"""Tables 2 to 5 of the paper, each a sweep, with the controls that the paper lacks; and a ladder of model sizes.

--config=configs/tables.py:table2                   GPT-2 teaches Qwen-14B: SciQ, BoolQ, CosmosQA, every baseline
--config=configs/tables.py:table3                   the same with Qwen-1.8B as the teacher
--config=configs/tables.py:table4                   ablations of `selective`, Qwen-1.8B teaches Qwen-14B
--config=configs/tables.py:table5                   the task that P(IK) is trained on: CosmosQA, Winogrande, ARC
--config=configs/tables.py:ladder                   every GPT-2 teaches every larger one (transfer matrix)
--config=configs/tables.py:table2,smoke             any of them at toy size, offline
--config=configs/tables.py:table2,world             tables 2, 4 and 5 in the small world, five seeds
--config=configs/tables.py:table2,world,p_ik=frozen the same with P(IK) trained alone before, its scores kept
"""

import itertools

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError

_BASELINES = ("finetune", "confidence", "product", "adaptive", "reverse_kl", "jensen_shannon")
_ABLATIONS = ("selective_without_ik", "selective_without_gs", "mtl")
_CONTROLS = ("self_training", "random_selection")
_METHODS = {
    "table2": (*_BASELINES, "selective", *_CONTROLS),
    "table3": (*_BASELINES, "selective", *_CONTROLS),
    "table4": ("finetune", *_ABLATIONS, "selective", *_CONTROLS),
    "table5": ("finetune", "selective", *_CONTROLS),
    "ladder": ("finetune", "confidence", "selective", *_CONTROLS),
}
_LADDER = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
_SMOKE_LADDER = ("random-tiny-gpt2", "random-tiny-qwen", "random-small-qwen")
_TASKS = ("sciq", "boolq", "cosmos_qa")


def get_config(arguments: str | None = None):
    flags = dict.fromkeys((*_METHODS, "world", "smoke"), ())
    choice = config_lib.parse_arguments(arguments, choices={**flags, "p_ik": ("joint", "frozen")})
    chosen = [table for table in _METHODS if choice[table]]
    if len(chosen) != 1:
        raise UserError(
            f"configs/tables.py takes one table, such as configs/tables.py:table2, not {len(chosen)}"
        )
    (table,) = chosen
    if choice["world"] and choice["smoke"]:
        raise UserError("configs/tables.py: world and smoke exclude each other; choose one")
    if choice["p_ik"] == "frozen" and not choice["world"]:
        raise UserError("configs/tables.py: p_ik=frozen is a setting of the small world; add world")
    config = config_lib.default_config()
    config.precision.compute_dtype = "bfloat16"  # as published, on every machine
    config.methods = _METHODS[table]
    if choice["world"]:
        _set_world(config, table, choice["p_ik"])
    else:
        _set_papers(config, table, choice["smoke"])
    return config


def _set_papers(config, table: str, is_smoke: bool) -> None:
    """The paper's models and tasks."""
    config.weak.model = "gpt2" if table == "table2" else "qwen-1.8b"
    config.strong.model = "qwen-14b"
    config.sweep.tasks = _TASKS[:2] if table == "table5" else _TASKS
    if table == "table5":
        config.sweep.settings = ("p_ik.task=cosmos_qa,winogrande,arc",)
    if table == "ladder":
        models = _SMOKE_LADDER if is_smoke else _LADDER
        config.sweep.tasks = ("sciq",)
        config.sweep.pairs = tuple(f"{weak}:{strong}" for weak, strong in itertools.combinations(models, 2))
    if is_smoke:
        weak = "random-tiny-gpt2" if table == "table2" else "random-tiny-qwen"
        config_lib.smoke_settings(config, weak=weak, strong="random-small-qwen")


def _set_world(config, table: str, p_ik: str) -> None:
    """One small world in the place of the paper's models and tasks, of the sizes of configs/world.py.

    world_sums is no task here, only one that P(IK) is trained on: a sum is no fact that one model can have read and
    another not. world_traits is none either, as no student may see the ground truth of its own task, and P(IK)
    is trained on that of world_traits.
    """
    if table in ("table3", "ladder"):
        raise UserError(
            f"configs/tables.py: {table} is of other model sizes, and the world has one weak and one strong model; "
            "use configs/tables.py:table2,world"
        )
    methods = config.methods
    config_lib.larger_correlated_world(config)
    config.methods = methods
    config.sweep.tasks = ("world_facts", "world_passage", "world_compare")
    if table == "table5":
        config.sweep.tasks = ("world_facts", "world_passage")
        config.sweep.settings = ("p_ik.task=world_traits,world_compare,world_sums",)
    if p_ik == "frozen":
        config.p_ik.stage = "frozen"
        config.p_ik.mask = "frozen_scores"
        # There is no P(IK) left to train beside the task.
        config.methods = tuple(method for method in config.methods if method != "mtl")
