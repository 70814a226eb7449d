"""The model families and the models that ship with a name."""

import dataclasses

from selw2s_jax import errors
from selw2s_jax.models import family, gpt2, gpt_neox, llama, mistral, olmo2, qwen, qwen2, qwen3

ModelConfig = family.ModelConfig

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


for _module in (gpt2, qwen, llama, mistral, qwen2, qwen3, gpt_neox, olmo2):
    register_family(_module.FAMILY)


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """A shipped model: sizes, where its weights are, and the learning rate it is fine-tuned with.

    `revision` is the commit on the hub, or None where it is not known and the newest is taken.
    """

    config: ModelConfig
    hub_name: str
    revision: str | None
    learning_rate: float


def _gpt2(hub_name, num_layers, embed_dim, num_heads, learning_rate, revision=None) -> ModelEntry:
    config = ModelConfig(
        family="gpt2",
        num_layers=num_layers,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=4 * embed_dim,
        vocab_size=50257,
        max_seq_len=1024,
        norm_eps=1e-5,
        rope_base=None,
        tie_embeddings=True,
    )
    return ModelEntry(config, hub_name, revision, learning_rate)


def _qwen(
    hub_name, revision, num_layers, embed_dim, mlp_dim, num_heads, vocab_size, max_seq_len, rope_base=10000.0
) -> ModelEntry:
    config = ModelConfig(
        family="qwen",
        num_layers=num_layers,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=mlp_dim,
        vocab_size=vocab_size,
        max_seq_len=max_seq_len,
        norm_eps=1e-6,
        rope_base=rope_base,
        tie_embeddings=False,
    )
    return ModelEntry(config, hub_name, revision, learning_rate=1e-5)


_GPT2_REVISION = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
_QWEN_1_8B_REVISION = "5fde88dff770a7d036847211f5d9d9705f0caa69"
_QWEN_7B_REVISION = "d4efd21e866b9cb3466cb65b963933f5e98016d1"
_QWEN_14B_REVISION = "8be2854218fea9054331e217fd26a06f3fd02004"
_QWEN_72B_REVISION = "fec78c0e3b3b10dd9f0ce775c34a686a3255a7d1"

# Learning rates are those of openai/weak-to-strong.
MODELS: dict[str, ModelEntry] = {
    "gpt2": _gpt2("openai-community/gpt2", 12, 768, 12, 5e-5, _GPT2_REVISION),
    "gpt2-medium": _gpt2("openai-community/gpt2-medium", 24, 1024, 16, 5e-5),
    "gpt2-large": _gpt2("openai-community/gpt2-large", 36, 1280, 20, 1e-5),
    "gpt2-xl": _gpt2("openai-community/gpt2-xl", 48, 1600, 25, 1e-5),
    "qwen-1.8b": _qwen("Qwen/Qwen-1_8B", _QWEN_1_8B_REVISION, 24, 2048, 5504, 16, 151936, 8192),
    "qwen-7b": _qwen("Qwen/Qwen-7B", _QWEN_7B_REVISION, 32, 4096, 11008, 32, 151936, 8192),
    "qwen-14b": _qwen("Qwen/Qwen-14B", _QWEN_14B_REVISION, 40, 5120, 13696, 40, 152064, 2048),
    "qwen-72b": _qwen("Qwen/Qwen-72B", _QWEN_72B_REVISION, 80, 8192, 24576, 64, 152064, 32768, 1000000.0),
}
