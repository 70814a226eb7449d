"""Models whose sizes many meshes divide, and the partition of each of their parameters."""

from selw2s_jax.models import registry

# Divisible by what the meshes below need, and no two sizes alike.
SIZES = {
    "num_layers": 3,
    "embed_dim": 24,
    "num_heads": 6,
    "head_dim": 4,
    "mlp_dim": 38,
    "vocab_size": 58,
    "max_seq_len": 17,
}


CONFIGS = {
    "gpt2": registry.ModelConfig(family="gpt2", norm_eps=1e-5, rope_base=None, tie_embeddings=True, **SIZES),
    "qwen": registry.ModelConfig(family="qwen", norm_eps=1e-6, rope_base=1e4, tie_embeddings=False, **SIZES),
    "qwen2": registry.ModelConfig(
        family="qwen2", norm_eps=1e-6, rope_base=1e4, tie_embeddings=True, num_kv_heads=2, **SIZES
    ),
    "mistral": registry.ModelConfig(
        family="mistral",
        norm_eps=1e-6,
        rope_base=1e4,
        tie_embeddings=False,
        num_kv_heads=2,
        sliding_window=3,
        **SIZES,
    ),
    "gpt_neox": registry.ModelConfig(
        family="gpt_neox",
        norm_eps=1e-5,
        rope_base=1e4,
        tie_embeddings=False,
        rotary_fraction=0.5,
        parallel_residual=True,
        activation="gelu",
        **SIZES,
    ),
    "olmo2": registry.ModelConfig(
        family="olmo2", norm_eps=1e-6, rope_base=1e4, tie_embeddings=False, num_kv_heads=2, **SIZES
    ),
}


MESHES = ((8, 1, 1), (2, 4, 1), (1, 4, 2), (2, 2, 2))


# Partition of every parameter: the golden table.
SPECS = {
    "gpt2": {
        "wte": ("tensor", "fsdp"),
        "wpe": (None, "fsdp"),
        "layers.attn_norm.scale": (None, None),
        "layers.attn_norm.bias": (None, None),
        "layers.attn.qkv": (None, "fsdp", None, "tensor", None),
        "layers.attn.qkv_bias": (None, None, "tensor", None),
        "layers.attn.out": (None, "tensor", None, "fsdp"),
        "layers.attn.out_bias": (None, None),
        "layers.mlp_norm.scale": (None, None),
        "layers.mlp_norm.bias": (None, None),
        "layers.mlp.up": (None, "fsdp", "tensor"),
        "layers.mlp.up_bias": (None, "tensor"),
        "layers.mlp.down": (None, "tensor", "fsdp"),
        "layers.mlp.down_bias": (None, None),
        "final_norm.scale": (None,),
        "final_norm.bias": (None,),
    },
    "qwen": {
        "wte": ("tensor", "fsdp"),
        "layers.attn_norm.scale": (None, None),
        "layers.attn.qkv": (None, None, "tensor", None, "fsdp"),
        "layers.attn.qkv_bias": (None, None, "tensor", None),
        "layers.attn.out": (None, "fsdp", "tensor", None),
        "layers.mlp_norm.scale": (None, None),
        "layers.mlp.up": (None, "tensor", "fsdp"),
        "layers.mlp.gate": (None, "tensor", "fsdp"),
        "layers.mlp.down": (None, "fsdp", "tensor"),
        "final_norm.scale": (None,),
        "lm_head": ("tensor", "fsdp"),
    },
    "qwen2": {
        "wte": ("tensor", "fsdp"),
        "layers.attn_norm.scale": (None, None),
        "layers.attn.q": (None, "tensor", None, "fsdp"),
        "layers.attn.q_bias": (None, "tensor", None),
        "layers.attn.k": (None, "tensor", None, "fsdp"),
        "layers.attn.k_bias": (None, "tensor", None),
        "layers.attn.v": (None, "tensor", None, "fsdp"),
        "layers.attn.v_bias": (None, "tensor", None),
        "layers.attn.out": (None, "fsdp", "tensor", None),
        "layers.mlp_norm.scale": (None, None),
        "layers.mlp.up": (None, "tensor", "fsdp"),
        "layers.mlp.gate": (None, "tensor", "fsdp"),
        "layers.mlp.down": (None, "fsdp", "tensor"),
        "final_norm.scale": (None,),
    },
    "gpt_neox": {
        "wte": ("tensor", "fsdp"),
        "layers.attn_norm.scale": (None, None),
        "layers.attn_norm.bias": (None, None),
        "layers.attn.qkv": (None, "tensor", None, None, "fsdp"),
        "layers.attn.qkv_bias": (None, "tensor", None, None),
        "layers.attn.out": (None, "fsdp", "tensor", None),
        "layers.attn.out_bias": (None, None),
        "layers.mlp_norm.scale": (None, None),
        "layers.mlp_norm.bias": (None, None),
        "layers.mlp.up": (None, "tensor", "fsdp"),
        "layers.mlp.up_bias": (None, "tensor"),
        "layers.mlp.down": (None, "fsdp", "tensor"),
        "layers.mlp.down_bias": (None, None),
        "final_norm.scale": (None,),
        "final_norm.bias": (None,),
        "lm_head": ("tensor", "fsdp"),
    },
}
_GROUPED = {name: spec for name, spec in SPECS["qwen2"].items() if not name.endswith("_bias")}
SPECS["mistral"] = _GROUPED | {"lm_head": ("tensor", "fsdp")}
SPECS["olmo2"] = SPECS["mistral"] | {
    "layers.attn.q_norm.scale": (None, "tensor", None),
    "layers.attn.k_norm.scale": (None, "tensor", None),
}
