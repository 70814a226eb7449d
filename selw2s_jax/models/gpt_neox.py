"""GPT-NeoX and Pythia (Black et al. 2022, arXiv 2204.06745; Biderman et al. 2023, arXiv 2304.01373).

LayerNorm, rotary positions on a part of each head, q, k and v fused head by head, biases everywhere, attention and MLP
side by side or one after the other. Weights keep the checkpoint's Linear layout, [out, in].
"""

import functools

import jax
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.models import family, key_tables, layers, rope_config

_EXACT = functools.partial(jax.nn.gelu, approximate=False)
_TANH = functools.partial(jax.nn.gelu, approximate=True)
# By names of transformers, which writes the tanh approximation in several ways.
_ACTIVATIONS = {"gelu": _EXACT, "gelu_new": _TANH, "gelu_fast": _TANH, "gelu_pytorch_tanh": _TANH}


class Attention(nnx.Module):
    """Multi-head causal attention with rotary positions and biases."""

    def __init__(self, config, settings, rngs):
        self.settings = settings
        D, N, H = config.embed_dim, config.num_heads, config.head_dim
        stack = (settings.param_dtype, config.num_layers)
        axes = ("heads", "qkv", "head_dim", "embed")
        self.qkv = layers.param(rngs, layers.weight_init, (N, 3, H, D), axes, *stack, inputs=axes[3:])
        self.qkv_bias = layers.param(rngs, layers.zeros_init, (N, 3, H), axes[:3], *stack)
        axes = ("embed", "heads", "head_dim")
        self.out = layers.param(rngs, layers.weight_init, (D, N, H), axes, *stack, inputs=axes[1:])
        self.out_bias = layers.param(rngs, layers.zeros_init, (D,), ("features",), *stack)

    def __call__(self, x, context):
        _, queries = layers.read(x, context)
        q, k, v = layers.project_qkv("rtd,nchd->rtnch", x, self.qkv, self.qkv_bias, context, self.settings)
        q, k = layers.apply_rotary(q, queries.rotary), layers.apply_rotary(k, context.rotary)
        h = layers.attend(q, k, v, queries, self.settings)
        branch = queries.branches.get("attn.out")
        return layers.project("rtnh,dnh->rtd", h, self.out, self.settings, branch, self.out_bias), (k, v)


class MLP(nnx.Module):
    """Two-layer perceptron with GELU."""

    def __init__(self, config, settings, rngs):
        self.settings, self.activation = settings, config.activation
        D, F = config.embed_dim, config.mlp_dim
        stack = (settings.param_dtype, config.num_layers)
        axes = ("mlp", "embed")
        self.up = layers.param(rngs, layers.weight_init, (F, D), axes, *stack, inputs=axes[1:])
        self.up_bias = layers.param(rngs, layers.zeros_init, (F,), axes[:1], *stack)
        self.down = layers.param(rngs, layers.weight_init, (D, F), axes[::-1], *stack, inputs=axes[:1])
        self.down_bias = layers.param(rngs, layers.zeros_init, (D,), ("features",), *stack)

    def __call__(self, x, context):
        branches = context.branches
        h = layers.project("rtd,fd->rtf", x, self.up, self.settings, branches.get("mlp.up"), self.up_bias)
        h = _ACTIVATIONS[self.activation](h)
        h = sharding.constrain(h, ("rows", "time", "mlp"), self.settings.mesh)
        return layers.project(
            "rtf,df->rtd", h, self.down, self.settings, branches.get("mlp.down"), self.down_bias
        )


class ParallelBlock(layers.Block):
    """A layer whose attention and MLP both read its input, each through a norm of its own."""

    last_products = ("attn.out", "mlp.down")

    def __call__(self, x, context):
        h, keys_values = self.attn(self.attn_norm(x), context)
        x, context = layers.read(x, context)
        return x + h + self.mlp(self.mlp_norm(x), context), keys_values


def make_block(config, settings, rngs) -> layers.Block:
    """The layers of a model, of the kind that its config.json asks for."""
    block = ParallelBlock if config.parallel_residual else layers.Block
    return block(layers.LayerNorm, Attention, MLP, config, settings, rngs)


def parse_config(config: dict) -> family.ModelConfig:
    """The sizes in a config.json as transformers 4 or 5 writes it; ValueError for a missing or unsupported field."""
    config = {"hidden_act": "gelu"} | config
    family.refuse_unsupported(
        config,
        {
            "hidden_act": tuple(_ACTIVATIONS),
            "attention_bias": (True,),
            "quantization_config": (None,),
        },
    )
    embed_dim = family.require(config, "hidden_size")
    num_heads = family.require(config, "num_attention_heads")
    if embed_dim % num_heads:
        raise ValueError(f"num_attention_heads {num_heads} does not divide hidden_size {embed_dim}")
    rope = rope_config.parse(
        config,
        base_fields=("rotary_emb_base", "rope_theta"),
        fraction_fields=("rotary_pct", "partial_rotary_factor"),
        fraction=0.25,
    )
    sizes = family.ModelConfig(
        family="gpt_neox",
        num_layers=family.require(config, "num_hidden_layers"),
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=family.require(config, "intermediate_size"),
        vocab_size=family.require(config, "vocab_size"),
        max_seq_len=family.require(config, "max_position_embeddings"),
        norm_eps=family.require({"layer_norm_eps": 1e-5} | config, "layer_norm_eps", float, most=1.0),
        rope_base=rope.base,
        tie_embeddings=family.flag(config, "tie_word_embeddings", False),
        rope_scaling=rope.scaling,
        rotary_fraction=None if rope.fraction == 1.0 else rope.fraction,
        parallel_residual=family.flag(config, "use_parallel_residual", True),
        activation=config["hidden_act"],
    )
    if sizes.rotary_dim % 2 or not sizes.rotary_dim:
        raise ValueError(
            f"rotary_pct (or partial_rotary_factor) {rope.fraction} of the {sizes.head_dim} entries of a head must be "
            f"an even number of them, not {sizes.rotary_dim}"
        )
    return sizes


def format_config(config: family.ModelConfig) -> dict:
    """config.json as transformers 4 writes it, which 5 reads too."""
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "hidden_act": config.activation,
        "hidden_dropout": 0.0,
        "hidden_size": config.embed_dim,
        "initializer_range": 0.02,
        "intermediate_size": config.mlp_dim,
        "layer_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_seq_len,
        "model_type": "gpt_neox",
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "rope_scaling": rope_config.format_scaling(config.rope_scaling),
        "rotary_emb_base": config.rope_base,
        "rotary_pct": 1.0 if config.rotary_fraction is None else config.rotary_fraction,
        "tie_word_embeddings": config.tie_embeddings,
        "use_cache": True,
        "use_parallel_residual": config.parallel_residual,
        "vocab_size": config.vocab_size,
    }


_LAYER = "{prefix}layers.{layer}."

KEYS = key_tables.KeyTable(
    prefix="gpt_neox.",
    rows=(
        key_tables.Row("{prefix}embed_in.weight", "wte"),
        key_tables.Row(f"{_LAYER}input_layernorm.weight", "layers.attn_norm.scale"),
        key_tables.Row(f"{_LAYER}input_layernorm.bias", "layers.attn_norm.bias"),
        key_tables.Row(f"{_LAYER}attention.query_key_value.weight", "layers.attn.qkv", unfold=(3, 1)),
        key_tables.Row(f"{_LAYER}attention.query_key_value.bias", "layers.attn.qkv_bias", unfold=(3,)),
        key_tables.Row(f"{_LAYER}attention.dense.weight", "layers.attn.out", unfold=(1, 2)),
        key_tables.Row(f"{_LAYER}attention.dense.bias", "layers.attn.out_bias"),
        key_tables.Row(f"{_LAYER}post_attention_layernorm.weight", "layers.mlp_norm.scale"),
        key_tables.Row(f"{_LAYER}post_attention_layernorm.bias", "layers.mlp_norm.bias"),
        key_tables.Row(f"{_LAYER}mlp.dense_h_to_4h.weight", "layers.mlp.up"),
        key_tables.Row(f"{_LAYER}mlp.dense_h_to_4h.bias", "layers.mlp.up_bias"),
        key_tables.Row(f"{_LAYER}mlp.dense_4h_to_h.weight", "layers.mlp.down"),
        key_tables.Row(f"{_LAYER}mlp.dense_4h_to_h.bias", "layers.mlp.down_bias"),
        key_tables.Row("{prefix}final_layer_norm.weight", "final_norm.scale"),
        key_tables.Row("{prefix}final_layer_norm.bias", "final_norm.bias"),
        key_tables.Row("embed_out.weight", "lm_head"),
        key_tables.Row("score.weight", None),  # the head of a classifier in transformers
        key_tables.Row(f"{_LAYER}attention.bias", None),  # the causal mask, a buffer
        key_tables.Row(f"{_LAYER}attention.masked_bias", None),
        key_tables.Row(f"{_LAYER}attention.rotary_emb.inv_freq", None),  # recomputed from the config
        key_tables.Row("{prefix}rotary_emb.inv_freq", None),
    ),
)


FAMILY = family.Family(
    name="gpt_neox",
    block=make_block,
    norm=layers.LayerNorm,
    parse_config=parse_config,
    format_config=format_config,
    key_table=KEYS,
)
