"""First-generation Qwen (Bai et al. 2023): RMSNorm, rotary positions, gated MLP, untied head.

Weights keep the checkpoint's Linear layout, [out, in]. The logn scaling and dynamic NTK of the original
code act only past `seq_length`; inputs are never that long here.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.models import family, key_tables, layers


class Attention(nnx.Module):
    """Multi-head causal attention with rotary positions; only the fused q, k, v product has a bias."""

    def __init__(self, config, settings, rngs):
        self.settings = settings
        D, N, H = config.embed_dim, config.num_heads, config.head_dim
        stack = (settings.param_dtype, config.num_layers)
        axes = ("qkv", "heads", "head_dim", "embed")
        self.qkv = layers.param(rngs, layers.weight_init, (3, N, H, D), axes, *stack, inputs=("embed",))
        self.qkv_bias = layers.param(rngs, layers.zeros_init, (3, N, H), ("qkv", "heads", "head_dim"), *stack)
        axes = ("embed", "heads", "head_dim")
        self.out = layers.param(rngs, layers.weight_init, (D, N, H), axes, *stack, inputs=axes[1:])

    def __call__(self, x, context):
        branches = context.branches
        branch = branches.get("attn.qkv")
        qkv = layers.project("rtd,cnhd->rtcnh", x, self.qkv, self.settings, branch, self.qkv_bias)
        q, k, v = jnp.moveaxis(qkv, 2, 0)
        q, k = layers.apply_rotary(q, context.rotary), layers.apply_rotary(k, context.rotary)
        h = layers.attend(q, k, v, context, self.settings)
        h = layers.project("rtnh,dnh->rtd", h, self.out, self.settings, branches.get("attn.out"))
        return h, (k, v)


class MLP(nnx.Module):
    """c_proj(w1(x) * silu(w2(x))): `up` is w1, `gate` is w2, `down` is c_proj."""

    def __init__(self, config, settings, rngs):
        self.settings = settings
        D, F = config.embed_dim, config.mlp_dim
        stack = (settings.param_dtype, config.num_layers)
        axes = ("mlp", "embed")
        self.up = layers.param(rngs, layers.weight_init, (F, D), axes, *stack, inputs=axes[1:])
        self.gate = layers.param(rngs, layers.weight_init, (F, D), axes, *stack, inputs=axes[1:])
        self.down = layers.param(rngs, layers.weight_init, (D, F), axes[::-1], *stack, inputs=axes[:1])

    def __call__(self, x, context):
        branches = context.branches
        up = layers.project("rtd,fd->rtf", x, self.up, self.settings, branches.get("mlp.up"))
        gate = layers.project("rtd,fd->rtf", x, self.gate, self.settings, branches.get("mlp.gate"))
        h = sharding.constrain(up * jax.nn.silu(gate), ("rows", "time", "mlp"), self.settings.mesh)
        return layers.project("rtf,df->rtd", h, self.down, self.settings, branches.get("mlp.down"))


def parse_config(config: dict) -> family.ModelConfig:
    """The sizes in a first-generation Qwen config.json; ValueError for a missing or unsupported field."""
    family.refuse_unsupported(
        config,
        {
            "no_bias": (True,),
            "rotary_pct": (1.0,),
            "scale_attn_weights": (True,),
            "quantization_config": (None,),
        },
    )
    embed_dim = family.require(config, "hidden_size")
    num_heads = family.require(config, "num_attention_heads")
    head_dim = family.require({"kv_channels": 128} | config, "kv_channels")
    mlp_width = family.require(config, "intermediate_size")
    if num_heads * head_dim != embed_dim:
        raise ValueError(
            f"num_attention_heads {num_heads} times kv_channels {head_dim} is not hidden_size {embed_dim}"
        )
    if head_dim % 2 or mlp_width % 2:
        raise ValueError(f"kv_channels {head_dim} and intermediate_size {mlp_width} must both be even")
    return family.ModelConfig(
        family="qwen",
        num_layers=family.require(config, "num_hidden_layers"),
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=head_dim,
        mlp_dim=mlp_width // 2,
        vocab_size=family.require(config, "vocab_size"),
        max_seq_len=family.require(config, "seq_length"),
        norm_eps=family.require(config, "layer_norm_epsilon", float, most=1.0),
        rope_base=family.require({"rotary_emb_base": 10000} | config, "rotary_emb_base", float),
        tie_embeddings=family.flag(config, "tie_word_embeddings", False),
    )


def format_config(config: family.ModelConfig) -> dict:
    """config.json as Qwen's own code writes it."""
    return {
        "architectures": ["QWenLMHeadModel"],
        "attn_dropout_prob": 0.0,
        "auto_map": {
            "AutoConfig": "configuration_qwen.QWenConfig",
            "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
        },
        "bf16": False,
        "emb_dropout_prob": 0.0,
        "fp16": False,
        "fp32": False,
        "hidden_size": config.embed_dim,
        "initializer_range": 0.02,
        "intermediate_size": 2 * config.mlp_dim,
        "kv_channels": config.head_dim,
        "layer_norm_epsilon": config.norm_eps,
        "max_position_embeddings": config.max_seq_len,
        "model_type": "qwen",
        "no_bias": True,
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "onnx_safe": None,
        "rotary_emb_base": config.rope_base,
        "rotary_pct": 1.0,
        "scale_attn_weights": True,
        "seq_length": config.max_seq_len,
        "tie_word_embeddings": config.tie_embeddings,
        "tokenizer_class": "QWenTokenizer",
        "use_cache": True,
        "use_dynamic_ntk": True,
        "use_flash_attn": "auto",
        "use_logn_attn": True,
        "vocab_size": config.vocab_size,
    }


KEYS = key_tables.KeyTable(
    prefix="transformer.",
    rows=(
        key_tables.Row("{prefix}wte.weight", "wte"),
        key_tables.Row("{prefix}h.{layer}.ln_1.weight", "layers.attn_norm.scale"),
        key_tables.Row("{prefix}h.{layer}.attn.c_attn.weight", "layers.attn.qkv", unfold=(3, 1)),
        key_tables.Row("{prefix}h.{layer}.attn.c_attn.bias", "layers.attn.qkv_bias", unfold=(3,)),
        key_tables.Row("{prefix}h.{layer}.attn.c_proj.weight", "layers.attn.out", unfold=(1, 2)),
        key_tables.Row("{prefix}h.{layer}.ln_2.weight", "layers.mlp_norm.scale"),
        key_tables.Row("{prefix}h.{layer}.mlp.w1.weight", "layers.mlp.up"),
        key_tables.Row("{prefix}h.{layer}.mlp.w2.weight", "layers.mlp.gate"),
        key_tables.Row("{prefix}h.{layer}.mlp.c_proj.weight", "layers.mlp.down"),
        key_tables.Row("{prefix}ln_f.weight", "final_norm.scale"),
        key_tables.Row("lm_head.weight", "lm_head"),
        key_tables.Row("{prefix}rotary_emb.inv_freq", None),  # recomputed from the config
        key_tables.Row("{prefix}h.{layer}.attn.rotary_emb.inv_freq", None),
        key_tables.Row("{prefix}h.{layer}.attn.masked_bias", None),
    ),
)


FAMILY = family.Family(
    name="qwen",
    block=functools.partial(layers.Block, layers.RMSNorm, Attention, MLP),
    norm=layers.RMSNorm,
    parse_config=parse_config,
    format_config=format_config,
    key_table=KEYS,
)
