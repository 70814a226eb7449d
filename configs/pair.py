"""Any model teaches any other, with the paper's settings.

--config=configs/pair.py:weak=smollm2-135m,strong=qwen2.5-7b                    names of models/catalogue.py
--config=configs/pair.py:weak=Qwen/Qwen2-0.5B,strong=/data/Meta-Llama-3.1-8B    names on the hub, folders
--config=configs/pair.py:weak=qwen3-0.6b-base,strong=qwen3-8b-base,smoke        toys of their families, offline
--config=configs/pair.py:smoke                                                  a toy of a Llama teaches one of a Qwen2
"""

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError

# What a name has in it, in the order that it is looked for -> its family, as its random toys are called. What has none
# is a Llama: what most have become.
_FAMILIES = {
    "qwen3": "qwen3",
    "qwen2": "qwen2",
    "qwen1.5": "qwen2",
    "qwen": "qwen",
    "gpt2": "gpt2",
    "mistral": "mistral",
    "pythia": "gpt_neox",
    "neox": "gpt_neox",
    "olmo-2": "olmo2",
}


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(arguments, choices={"weak": None, "strong": None, "smoke": ()})
    config = config_lib.default_config()
    config.weak.model, config.strong.model = choice["weak"], choice["strong"]
    if choice["smoke"]:
        weak = f"random-tiny-{_family(choice['weak'] or 'llama')}"
        strong = f"random-small-{_family(choice['strong'] or 'qwen2')}"
        config_lib.smoke_settings(config, weak=weak, strong=strong)
    elif missing := [role for role in ("weak", "strong") if choice[role] is None]:
        raise UserError(
            f"configs/pair.py takes two models and has no {' and no '.join(missing)}: give "
            "configs/pair.py:weak=smollm2-135m,strong=qwen2.5-1.5b, names on the hub or folders"
        )
    return config


def _family(name: str) -> str:
    found = [family for part, family in _FAMILIES.items() if part in name.lower()]
    return found[0] if found else "llama"
