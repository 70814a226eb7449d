"""The model families and the models that ship with a name."""

from selw2s_jax import errors
from selw2s_jax.models import catalogue, family, gpt2, gpt_neox, llama, mistral, olmo2, qwen, qwen2, qwen3

ModelConfig = family.ModelConfig
MODELS = catalogue.MODELS

FAMILIES: dict[str, family.Family] = {}


def register_family(entry: family.Family) -> None:
    """Makes a family known under its name, the `model_type` of config.json."""
    if entry.name in FAMILIES:
        raise ValueError(f"the model family {entry.name!r} is registered already")
    FAMILIES[entry.name] = entry


def get_family(name: str) -> family.Family:
    """The family of that name.

    Raises:
        UserError: no such family.
    """
    if name not in FAMILIES:
        raise errors.UserError(f"unknown model_type {name!r}: supported are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def find_model(name: str) -> catalogue.ModelEntry | None:
    """The model that has that name, here or on the hub; None for others."""
    on_hub = (entry for entry in MODELS.values() if entry.hub_name == name)
    return MODELS.get(name) or next(on_hub, None)


for _module in (gpt2, qwen, llama, mistral, qwen2, qwen3, gpt_neox, olmo2):
    register_family(_module.FAMILY)
