"""A ladder of sizes: every model of a family teaches every larger one (transfer matrix), on SciQ.

--config=configs/ladder.py:pythia                   Pythia 70M to 12B, 28 pairs
--config=configs/ladder.py:qwen2.5                  Qwen2.5 0.5B to 72B, 21 pairs
--config=configs/ladder.py:qwen2.5,largest=7b       those up to a size
--config=configs/ladder.py:qwen2.5,smoke            the same at toy size, offline
"""

import itertools

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError

_SIZES = {
    "pythia": ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"),
    "qwen2.5": ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b"),
}
_TOYS = {
    "pythia": ("random-tiny-gpt_neox", "random-small-gpt_neox"),
    "qwen2.5": ("random-tiny-qwen2", "random-small-qwen2"),
}


def get_config(arguments: str | None = None):
    flags = dict.fromkeys((*_SIZES, "smoke"), ())
    choice = config_lib.parse_arguments(arguments, choices={**flags, "largest": None})
    chosen = [name for name in _SIZES if choice[name]]
    if len(chosen) != 1:
        raise UserError(
            f"configs/ladder.py takes one family, such as configs/ladder.py:qwen2.5, not {len(chosen)}; "
            f"there are: {', '.join(_SIZES)}"
        )
    (name,) = chosen
    models = _TOYS[name] if choice["smoke"] else _models(name, choice["largest"])
    config = config_lib.default_config()
    config.precision.compute_dtype = "bfloat16"  # as published, on every machine
    config.methods = ("finetune", "confidence", "selective", "self_training", "random_selection")
    config.weak.model, config.strong.model = models[0], models[-1]
    config.sweep.tasks = ("sciq",)
    config.sweep.pairs = tuple(f"{weak}:{strong}" for weak, strong in itertools.combinations(models, 2))
    if choice["smoke"]:
        config_lib.smoke_settings(config, weak=models[0], strong=models[-1])
    return config


def _models(name: str, largest: str | None) -> tuple[str, ...]:
    sizes = _SIZES[name]
    if largest not in (None, *sizes[1:]):
        raise UserError(f"configs/ladder.py: largest={largest} is not one of: {', '.join(sizes[1:])}")
    last = len(sizes) if largest is None else sizes.index(largest) + 1
    return tuple(f"{name}-{size}" for size in sizes[:last])
