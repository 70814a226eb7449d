"""Llama 1 to 3.2 and models of its form, as TinyLlama and SmolLM2 (Touvron et al. 2023, arXiv 2302.13971)."""

from selw2s_jax.models import family, llama_layers


def parse_config(config: dict) -> family.ModelConfig:
    """The sizes in a config.json; ValueError for a missing or unsupported field."""
    return llama_layers.parse_config(config, "llama", supported={})


def format_config(config: family.ModelConfig) -> dict:
    """config.json as transformers writes it."""
    return llama_layers.format_config(config, "LlamaForCausalLM") | {
        "attention_bias": False,
        "mlp_bias": False,
    }


FAMILY = llama_layers.make_family("llama", parse_config, format_config)
