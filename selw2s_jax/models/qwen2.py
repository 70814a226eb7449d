"""Qwen1.5, Qwen2 and Qwen2.5 (Yang et al. 2024, arXiv 2407.10671): Llama's layers with biases of q, k and v.

`sliding_window` of config.json means nothing unless `use_sliding_window`, which is refused.
"""

from selw2s_jax.models import family, llama_layers


def parse_config(config: dict) -> family.ModelConfig:
    """The sizes in a config.json; ValueError for a missing or unsupported field."""
    supported = {"use_sliding_window": (False, None), "use_mrope": (False, None)}
    return llama_layers.parse_config(config, "qwen2", supported=supported)


def format_config(config: family.ModelConfig) -> dict:
    """config.json as transformers writes it."""
    return llama_layers.format_config(config, "Qwen2ForCausalLM") | {"use_sliding_window": False}


FAMILY = llama_layers.make_family("qwen2", parse_config, format_config, has_bias=True)
