"""Small models of the families that are compared with torch live: odd sizes, all options, one kv head to as many as of
queries."""

import dataclasses

import pytest

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
_GPT_NEOX = family.ModelConfig(
    family="gpt_neox",
    num_heads=3,
    head_dim=12,
    norm_eps=1e-5,
    rope_base=1000.0,
    rotary_fraction=0.34,  # 4.08 entries
    parallel_residual=True,
    activation="gelu",
    tie_embeddings=False,
    **_SIZES | {"embed_dim": 36},
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
    "gpt_neox": _GPT_NEOX,
    "gpt_neox_serial": dataclasses.replace(
        _GPT_NEOX,
        parallel_residual=False,
        rotary_fraction=None,
        rope_scaling=family.RopeScaling("linear", 4.0),
        activation="gelu_fast",
        tie_embeddings=True,
    ),
    "olmo2": dataclasses.replace(_LLAMA, family="olmo2", rope_scaling=None),
}
# Between them: grouped queries, a window, norms of whole projections and behind, partial rotary, a parallel residual.
QUICK = ("mistral", "gpt_neox")
_CI = ("llama", "olmo2")


def params(*quick: str) -> list:
    """The names of `CONFIGS` as parameters of a test, those besides `quick` (default `QUICK`) marked as slow."""

    def marks(name):
        if name in (quick or QUICK):
            return ()
        return (pytest.mark.slow, pytest.mark.ci) if name in (*QUICK, *_CI) else (pytest.mark.slow,)

    return [pytest.param(name, marks=marks(name)) for name in CONFIGS]
