"""A pretrained model that was found and checked."""

import dataclasses
import pathlib

from selw2s_jax.hf import tokenizers
from selw2s_jax.models import registry


@dataclasses.dataclass(frozen=True)
class Model:
    """A pretrained model that was found and checked.

    Attributes:
        role: "weak" or "strong".
        name: as the config has it; of a generated world with its seed and role.
        folder: local folder of its files.
        fingerprint: hash of its weights, config and tokenizer; of its recipe where it is yet to be made.
        is_made: whether the run itself makes it; else it is there.
        max_length: longest example it is given, in tokens.
    """

    role: str
    name: str
    folder: pathlib.Path
    config: registry.ModelConfig
    tokenizer: tokenizers.Tokenizer
    fingerprint: str
    learning_rate: float
    max_length: int
    is_made: bool = False


def default_learning_rate(config: registry.ModelConfig) -> float:
    """The fine-tuning rate of openai/weak-to-strong: 5e-5 up to GPT-2 medium's width, 1e-5 above and for Qwen."""
    medium = registry.MODELS["gpt2-medium"]
    is_small = config.family == "gpt2" and config.embed_dim <= medium.config.embed_dim
    return medium.learning_rate if is_small else registry.MODELS["gpt2-xl"].learning_rate
