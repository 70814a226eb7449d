"""Small models of the families with Llama's layers: odd sizes, all options, one kv head to as many as of queries."""

import dataclasses

from selw2s_jax.models import family

_SIZES = {"num_layers": 2, "embed_dim": 30, "mlp_dim": 31, "vocab_size": 67, "max_seq_len": 19}
_LLAMA = family.ModelConfig(
    family="llama",
    num_heads=6,
    head_dim=10,  # not the width by heads
    num_kv_heads=2,
    norm_eps=1e-5,
    rope_base=1000.0,
    rope_scaling=family.RopeScaling("llama3", 8.0, 1.0, 4.0, 7),
    tie_embeddings=False,
    **_SIZES,
)
CONFIGS = {
    "llama": _LLAMA,
    "llama_tied": dataclasses.replace(
        _LLAMA,
        num_kv_heads=None,
        num_heads=3,
        tie_embeddings=True,
        rope_scaling=family.RopeScaling("linear", 4.0),
    ),
    "mistral": dataclasses.replace(
        _LLAMA, family="mistral", num_kv_heads=1, num_heads=5, rope_scaling=None, sliding_window=4
    ),
    "qwen2": dataclasses.replace(
        _LLAMA,
        family="qwen2",
        num_heads=3,
        num_kv_heads=1,
        head_dim=14,
        embed_dim=42,
        rope_scaling=None,
        tie_embeddings=True,
    ),
    "qwen3": dataclasses.replace(_LLAMA, family="qwen3", rope_scaling=None, head_dim=12),
}
