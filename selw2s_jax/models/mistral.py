"""Mistral (Jiang et al. 2023, arXiv 2310.06825): Llama's layers, in v0.1 with a sliding window."""

from selw2s_jax.models import family, llama_layers


def parse_config(config: dict) -> family.ModelConfig:
    """The sizes in a config.json; ValueError for a missing or unsupported field."""
    window = config.get("sliding_window")
    if window is not None:
        window = family.require(config, "sliding_window")
    return llama_layers.parse_config(config, "mistral", supported={}, sliding_window=window)


def format_config(config: family.ModelConfig) -> dict:
    """config.json as transformers writes it."""
    fields = llama_layers.format_config(config, "MistralForCausalLM")
    return fields | {"sliding_window": config.sliding_window}


FAMILY = llama_layers.make_family("mistral", parse_config, format_config)
