"""Qwen3 (Yang et al. 2025, arXiv 2505.09388), dense: Llama's layers, heads of q and k normed before they are rotated.

`sliding_window` of config.json means nothing unless `use_sliding_window`, which is refused.
"""

from selw2s_jax.models import family, llama_layers


def parse_config(config: dict) -> family.ModelConfig:
    """The sizes in a config.json; ValueError for a missing or unsupported field."""
    # Its own default of head_dim is not that of the others, hidden_size / num_attention_heads.
    family.require(config, "head_dim")
    return llama_layers.parse_config(config, "qwen3", supported={"use_sliding_window": (False, None)})


def format_config(config: family.ModelConfig) -> dict:
    """config.json as transformers writes it."""
    fields = llama_layers.format_config(config, "Qwen3ForCausalLM")
    return fields | {"attention_bias": False, "use_sliding_window": False}


FAMILY = llama_layers.make_family("qwen3", parse_config, format_config, norms="heads")
