"""OLMo 2 (OLMo team 2024, arXiv 2501.00656): Llama's layers, normed behind attention and MLP instead of in front.

All heads of q, and all of k, are normed as one before they are rotated: with heads on several devices that takes a sum
over them.
"""

from selw2s_jax.models import family, layers, llama_layers


class Block(layers.Block):
    """A layer that norms what attention and MLP add to it."""

    last_products = ()

    def __call__(self, x, context):
        h, keys_values = self.attn(x, context)
        x, context = layers.read(x, context)
        x = x + self.attn_norm(h)
        return x + self.mlp_norm(self.mlp(x, context)), keys_values


def parse_config(config: dict) -> family.ModelConfig:
    """The sizes in a config.json; ValueError for a missing or unsupported field."""
    return llama_layers.parse_config(config, "olmo2", supported={})


def format_config(config: family.ModelConfig) -> dict:
    """config.json as transformers writes it."""
    fields = llama_layers.format_config(config, "Olmo2ForCausalLM")
    # Its own default is a token that texts may have.
    return fields | {"attention_bias": False, "pad_token_id": None}


FAMILY = llama_layers.make_family(
    "olmo2",
    parse_config,
    format_config,
    norms="tokens",
    block=Block,
    norm_keys=("post_attention_layernorm", "post_feedforward_layernorm"),
)
