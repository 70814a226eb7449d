"""GPT-2 (Radford et al. 2019): pre-norm layers, learned positions, tied head.

Weights keep the checkpoint's Conv1D layout, [in, out].
"""

import functools

import jax
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.models import family, key_tables, layers


class Attention(nnx.Module):
    """Multi-head causal attention with biases."""

    def __init__(self, config, settings, rngs):
        self.settings = settings
        D, N, H = config.embed_dim, config.num_heads, config.head_dim
        stack = (settings.param_dtype, config.num_layers)
        axes = ("embed", "qkv", "heads", "head_dim")
        self.qkv = layers.param(rngs, layers.weight_init, (D, 3, N, H), axes, *stack, inputs=("embed",))
        self.qkv_bias = layers.param(rngs, layers.zeros_init, (3, N, H), ("qkv", "heads", "head_dim"), *stack)
        axes = ("heads", "head_dim", "embed")
        self.out = layers.param(rngs, layers.weight_init, (N, H, D), axes, *stack, inputs=axes[:2])
        self.out_bias = layers.param(rngs, layers.zeros_init, (D,), ("features",), *stack)

    def __call__(self, x, context):
        _, queries = layers.read(x, context)
        q, k, v = layers.project_qkv("rtd,dcnh->rtcnh", x, self.qkv, self.qkv_bias, context, self.settings)
        h = layers.attend(q, k, v, queries, self.settings)
        branch = queries.branches.get("attn.out")
        return layers.project("rtnh,nhd->rtd", h, self.out, self.settings, branch, self.out_bias), (k, v)


class MLP(nnx.Module):
    """Two-layer perceptron with the tanh approximation of GELU."""

    def __init__(self, config, settings, rngs):
        self.settings = settings
        D, F = config.embed_dim, config.mlp_dim
        stack = (settings.param_dtype, config.num_layers)
        axes = ("embed", "mlp")
        self.up = layers.param(rngs, layers.weight_init, (D, F), axes, *stack, inputs=axes[:1])
        self.up_bias = layers.param(rngs, layers.zeros_init, (F,), ("mlp",), *stack)
        axes = ("mlp", "embed")
        self.down = layers.param(rngs, layers.weight_init, (F, D), axes, *stack, inputs=axes[:1])
        self.down_bias = layers.param(rngs, layers.zeros_init, (D,), ("features",), *stack)

    def __call__(self, x, context):
        branches = context.branches
        h = layers.project("rtd,df->rtf", x, self.up, self.settings, branches.get("mlp.up"), self.up_bias)
        h = layers.activate(functools.partial(jax.nn.gelu, approximate=True), h, self.settings)
        h = sharding.constrain(h, ("rows", "time", "mlp"), self.settings.mesh)
        return layers.project(
            "rtf,fd->rtd", h, self.down, self.settings, branches.get("mlp.down"), self.down_bias
        )


def parse_config(config: dict) -> family.ModelConfig:
    """The sizes in a GPT-2 config.json; ValueError for a missing or unsupported field."""
    family.refuse_unsupported(
        config,
        {
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "reorder_and_upcast_attn": (False,),
            "add_cross_attention": (False,),
            "quantization_config": (None,),
        },
    )
    embed_dim, num_heads = family.require(config, "n_embd"), family.require(config, "n_head")
    if embed_dim % num_heads:
        raise ValueError(f"n_head {num_heads} does not divide n_embd {embed_dim}")
    return family.ModelConfig(
        family="gpt2",
        num_layers=family.require(config, "n_layer"),
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=4 * embed_dim if config.get("n_inner") is None else family.require(config, "n_inner"),
        vocab_size=family.require(config, "vocab_size"),
        max_seq_len=family.require(config, "n_positions"),
        norm_eps=family.require({"layer_norm_epsilon": 1e-5} | config, "layer_norm_epsilon", float, most=1.0),
        rope_base=None,
        tie_embeddings=family.flag(config, "tie_word_embeddings", True),
    )


def format_config(config: family.ModelConfig) -> dict:
    """config.json as transformers writes it for GPT2LMHeadModel."""
    return {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": config.vocab_size - 1,
        "embd_pdrop": 0.1,
        "eos_token_id": config.vocab_size - 1,
        "initializer_range": 0.02,
        "layer_norm_epsilon": config.norm_eps,
        "model_type": "gpt2",
        "n_ctx": config.max_seq_len,
        "n_embd": config.embed_dim,
        "n_head": config.num_heads,
        "n_inner": None if config.mlp_dim == 4 * config.embed_dim else config.mlp_dim,
        "n_layer": config.num_layers,
        "n_positions": config.max_seq_len,
        "resid_pdrop": 0.1,
        "scale_attn_weights": True,
        "tie_word_embeddings": config.tie_embeddings,
        "vocab_size": config.vocab_size,
    }


KEYS = key_tables.KeyTable(
    prefix="transformer.",
    rows=(
        key_tables.Row("{prefix}wte.weight", "wte"),
        key_tables.Row("{prefix}wpe.weight", "wpe"),
        key_tables.Row("{prefix}h.{layer}.ln_1.weight", "layers.attn_norm.scale"),
        key_tables.Row("{prefix}h.{layer}.ln_1.bias", "layers.attn_norm.bias"),
        key_tables.Row("{prefix}h.{layer}.attn.c_attn.weight", "layers.attn.qkv", unfold=(1, 3)),
        key_tables.Row("{prefix}h.{layer}.attn.c_attn.bias", "layers.attn.qkv_bias", unfold=(3,)),
        key_tables.Row("{prefix}h.{layer}.attn.c_proj.weight", "layers.attn.out", unfold=(2, 1)),
        key_tables.Row("{prefix}h.{layer}.attn.c_proj.bias", "layers.attn.out_bias"),
        key_tables.Row("{prefix}h.{layer}.ln_2.weight", "layers.mlp_norm.scale"),
        key_tables.Row("{prefix}h.{layer}.ln_2.bias", "layers.mlp_norm.bias"),
        key_tables.Row("{prefix}h.{layer}.mlp.c_fc.weight", "layers.mlp.up"),
        key_tables.Row("{prefix}h.{layer}.mlp.c_fc.bias", "layers.mlp.up_bias"),
        key_tables.Row("{prefix}h.{layer}.mlp.c_proj.weight", "layers.mlp.down"),
        key_tables.Row("{prefix}h.{layer}.mlp.c_proj.bias", "layers.mlp.down_bias"),
        key_tables.Row("{prefix}ln_f.weight", "final_norm.scale"),
        key_tables.Row("{prefix}ln_f.bias", "final_norm.bias"),
        key_tables.Row("lm_head.weight", "lm_head"),
        key_tables.Row("score.weight", None),  # the head of a classifier in transformers
        key_tables.Row("{prefix}h.{layer}.attn.bias", None),  # the causal mask, a buffer
        key_tables.Row("{prefix}h.{layer}.attn.masked_bias", None),
    ),
)


FAMILY = family.Family(
    name="gpt2",
    block=functools.partial(layers.Block, layers.LayerNorm, Attention, MLP),
    norm=layers.LayerNorm,
    parse_config=parse_config,
    format_config=format_config,
    key_table=KEYS,
)
