"""The model families and the models that ship with a name."""

from selw2s_jax import errors
from selw2s_jax.method import registering
from selw2s_jax.models import catalogue, family, gpt2, gpt_neox, llama, mistral, olmo2, qwen, qwen2, qwen3
from selw2s_jax.runtime import installed

ModelConfig = family.ModelConfig
MODELS = catalogue.MODELS

FAMILIES: dict[str, family.Family] = {}


def register_family(entry: family.Family) -> None:
    """Makes a family known under its name, the `model_type` of config.json."""
    registering.claim("model family", entry.name, is_taken=entry.name in FAMILIES)
    FAMILIES[entry.name] = entry


def has_family(name: str) -> bool:
    """Whether there is a family of that name, here or in an installed package."""
    if name not in FAMILIES:
        installed.load()
    return name in FAMILIES


def get_family(name: str) -> family.Family:
    """The family of that name.

    Raises:
        UserError: no such family.
    """
    if not has_family(name):
        raise errors.UserError(f"unknown model_type {name!r}: supported are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def find_model(name: str) -> catalogue.ModelEntry | None:
    """The model that has that name, here or on the hub; None for others."""
    on_hub = (entry for entry in MODELS.values() if entry.hub_name == name)
    return MODELS.get(name) or next(on_hub, None)


for _module in (gpt2, qwen, llama, mistral, qwen2, qwen3, gpt_neox, olmo2):
    register_family(_module.FAMILY)
