"""The pretrained models that have a name here: their sizes and where their weights are.

Sizes are those of the published config.json's, so that a plan needs no file. A revision is a commit on the hub.
"""

import dataclasses

from selw2s_jax.models import family


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """A model with a name: its sizes, and where its weights are.

    `revision` is the commit on the hub, or None where it is not known and the newest is taken.
    """

    config: family.ModelConfig
    hub_name: str
    revision: str | None


def _gpt2(hub_name, num_layers, embed_dim, num_heads, revision=None) -> ModelEntry:
    config = family.ModelConfig(
        family="gpt2",
        num_layers=num_layers,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=4 * embed_dim,
        vocab_size=50257,
        max_seq_len=1024,
        norm_eps=1e-5,
        rope_base=None,
        tie_embeddings=True,
    )
    return ModelEntry(config, hub_name, revision)


def _rotary(name, hub_name, revision, num_layers, embed_dim, mlp_dim, num_heads, **sizes) -> ModelEntry:
    """A model with rotary positions.

    Args:
        name: of the family.
        sizes: of the `ModelConfig`; head_dim and tie_embeddings have defaults.
    """
    config = family.ModelConfig(
        family=name,
        num_layers=num_layers,
        embed_dim=embed_dim,
        num_heads=num_heads,
        mlp_dim=mlp_dim,
        **{"head_dim": embed_dim // num_heads, "tie_embeddings": False} | sizes,
    )
    return ModelEntry(config, hub_name, revision)


def _qwen(hub_name, revision, *shape, vocab_size=151936, max_seq_len=8192, rope_base=10000.0) -> ModelEntry:
    sizes = {"vocab_size": vocab_size, "max_seq_len": max_seq_len, "rope_base": rope_base}
    return _rotary("qwen", f"Qwen/{hub_name}", revision, *shape, norm_eps=1e-6, **sizes)


def _llama(hub_name, revision, *shape, vocab_size, max_seq_len, rope_base=10000.0, **sizes) -> ModelEntry:
    sizes |= {"vocab_size": vocab_size, "max_seq_len": max_seq_len, "rope_base": rope_base}
    return _rotary("llama", hub_name, revision, *shape, norm_eps=1e-5, **sizes)


def _llama_3_2(hub_name, revision, *shape) -> ModelEntry:
    return _llama(
        f"meta-llama/{hub_name}",
        revision,
        *shape,
        num_kv_heads=8,
        vocab_size=128256,
        max_seq_len=131072,
        rope_base=500000.0,
        rope_scaling=family.RopeScaling(
            "llama3", 32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_seq_len=8192
        ),
        tie_embeddings=True,
    )


def _smollm2(hub_name, revision, *shape, **sizes) -> ModelEntry:
    sizes |= {"vocab_size": 49152, "max_seq_len": 8192, "tie_embeddings": True}
    return _llama(f"HuggingFaceTB/{hub_name}", revision, *shape, **sizes)


def _mistral(hub_name, revision, **sizes) -> ModelEntry:
    """7B, of which only vocabulary, rotary base and window changed."""
    sizes |= {"num_kv_heads": 8, "max_seq_len": 32768, "norm_eps": 1e-5}
    return _rotary("mistral", f"mistralai/{hub_name}", revision, 32, 4096, 14336, 32, **sizes)


def _qwen2(hub_name, revision, *shape, max_seq_len=131072, vocab_size=152064, norm_eps=1e-6, **sizes):
    sizes |= {"vocab_size": vocab_size, "max_seq_len": max_seq_len, "norm_eps": norm_eps}
    return _rotary("qwen2", f"Qwen/{hub_name}", revision, *shape, rope_base=1000000.0, **sizes)


def _small_qwen2(hub_name, revision, *shape, **sizes) -> ModelEntry:
    """Up to 3B: tied, with the vocabulary padded less."""
    return _qwen2(hub_name, revision, *shape, vocab_size=151936, tie_embeddings=True, **sizes)


def _qwen3(hub_name, revision, *shape, **sizes) -> ModelEntry:
    sizes |= {"num_kv_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_seq_len": 32768}
    sizes |= {"norm_eps": 1e-6, "rope_base": 1000000.0}
    return _rotary("qwen3", f"Qwen/{hub_name}", revision, *shape, **sizes)


def _pythia(size, revision, *shape, vocab_size=50304) -> ModelEntry:
    """Those of the Pile as it is; the deduplicated ones have the same sizes."""
    sizes = {"vocab_size": vocab_size, "max_seq_len": 2048, "norm_eps": 1e-5, "rope_base": 10000.0}
    sizes |= {"rotary_fraction": 0.25, "parallel_residual": True, "activation": "gelu"}
    return _rotary("gpt_neox", f"EleutherAI/pythia-{size}", revision, *shape, **sizes)


def _olmo_2(hub_name, revision, *shape) -> ModelEntry:
    sizes = {"vocab_size": 100352, "max_seq_len": 4096, "norm_eps": 1e-6, "rope_base": 500000.0}
    return _rotary("olmo2", f"allenai/{hub_name}", revision, *shape, **sizes)


# Of the rows, after hub name and revision: layers, width, hidden width of the MLP, heads.
MODELS: dict[str, ModelEntry] = {
    "gpt2": _gpt2("openai-community/gpt2", 12, 768, 12, "607a30d783dfa663caf39e06633721c8d4cfcd7e"),
    "gpt2-medium": _gpt2("openai-community/gpt2-medium", 24, 1024, 16),
    "gpt2-large": _gpt2("openai-community/gpt2-large", 36, 1280, 20),
    "gpt2-xl": _gpt2("openai-community/gpt2-xl", 48, 1600, 25),
    "qwen-1.8b": _qwen("Qwen-1_8B", "5fde88dff770a7d036847211f5d9d9705f0caa69", 24, 2048, 5504, 16),
    "qwen-7b": _qwen("Qwen-7B", "d4efd21e866b9cb3466cb65b963933f5e98016d1", 32, 4096, 11008, 32),
    "qwen-14b": _qwen(
        "Qwen-14B", "8be2854218fea9054331e217fd26a06f3fd02004", 40, 5120, 13696, 40,
        vocab_size=152064, max_seq_len=2048,
    ),
    "qwen-72b": _qwen(
        "Qwen-72B", "fec78c0e3b3b10dd9f0ce775c34a686a3255a7d1", 80, 8192, 24576, 64,
        vocab_size=152064, max_seq_len=32768, rope_base=1000000.0,
    ),
    "llama-2-7b": _llama(
        "meta-llama/Llama-2-7b-hf", "01c7f73d771dfac7d292323805ebc428287df4f9", 32, 4096, 11008, 32,
        vocab_size=32000, max_seq_len=4096,
    ),
    "llama-2-13b": _llama(
        "meta-llama/Llama-2-13b-hf", "5c31dfb671ce7cfe2d7bb7c04375e44c55e815b1", 40, 5120, 13824, 40,
        vocab_size=32000, max_seq_len=4096,
    ),
    "llama-3-8b": _llama(
        "meta-llama/Meta-Llama-3-8B", "8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920", 32, 4096, 14336, 32,
        num_kv_heads=8, vocab_size=128256, max_seq_len=8192, rope_base=500000.0,
    ),
    "llama-3.2-1b": _llama_3_2("Llama-3.2-1B", "4e20de362430cd3b72f300e6b0f18e50e7166e08", 16, 2048, 8192, 32),
    "llama-3.2-3b": _llama_3_2("Llama-3.2-3B", "13afe5124825b4f3751f836b40dafda64c1ed062", 28, 3072, 8192, 24),
    "smollm2-135m": _smollm2(
        "SmolLM2-135M", "93efa2f097d58c2a74874c7e644dbc9b0cee75a2", 30, 576, 1536, 9,
        num_kv_heads=3, rope_base=100000.0,
    ),
    "smollm2-360m": _smollm2(
        "SmolLM2-360M", "f8027fd0eaeea54caa13c31d31b9fdc459c38b49", 32, 960, 2560, 15,
        num_kv_heads=5, rope_base=100000.0,
    ),
    "smollm2-1.7b": _smollm2(
        "SmolLM2-1.7B", "effd688a12921b4cc83e3312b6feb579f70f9c71", 24, 2048, 8192, 32, rope_base=130000.0
    ),
    "mistral-7b-v0.1": _mistral(
        "Mistral-7B-v0.1", "27d67f1b5f57dc0953326b2601d68371d40ea8da",
        vocab_size=32000, rope_base=10000.0, sliding_window=4096,
    ),
    "mistral-7b-v0.3": _mistral(
        "Mistral-7B-v0.3", "caa1feb0e54d415e2df31207e5f4e273e33509b1", vocab_size=32768, rope_base=1000000.0
    ),
    "qwen2.5-0.5b": _small_qwen2(
        "Qwen2.5-0.5B", "060db6499f32faf8b98477b0a26969ef7d8b9987", 24, 896, 4864, 14,
        num_kv_heads=2, max_seq_len=32768,
    ),
    "qwen2.5-1.5b": _small_qwen2(
        "Qwen2.5-1.5B", "8faed761d45a263340a0528343f099c05c9a4323", 28, 1536, 8960, 12, num_kv_heads=2
    ),
    "qwen2.5-3b": _small_qwen2(
        "Qwen2.5-3B", "3aab1f1954e9cc14eb9509a215f9e5ca08227a9b", 36, 2048, 11008, 16,
        num_kv_heads=2, max_seq_len=32768,
    ),
    "qwen2.5-7b": _qwen2(
        "Qwen2.5-7B", "d149729398750b98c0af14eb82c78cfe92750796", 28, 3584, 18944, 28, num_kv_heads=4
    ),
    "qwen2.5-14b": _qwen2(
        "Qwen2.5-14B", "97e1e76335b7017d8f67c08a19d103c0504298c9", 48, 5120, 13824, 40,
        num_kv_heads=8, norm_eps=1e-5,
    ),
    "qwen2.5-32b": _qwen2(
        "Qwen2.5-32B", "1818d35814b8319459f4bd55ed1ac8709630f003", 64, 5120, 27648, 40,
        num_kv_heads=8, norm_eps=1e-5,
    ),
    "qwen2.5-72b": _qwen2(
        "Qwen2.5-72B", "587cc4061cf6a7cc0d429d05c109447e5cf063af", 80, 8192, 29568, 64,
        num_kv_heads=8, norm_eps=1e-5,
    ),
    # The larger ones of Qwen3 were published after post-training alone.
    "qwen3-0.6b-base": _qwen3(
        "Qwen3-0.6B-Base", "da87bfb608c14b7cf20ba1ce41287e8de496c0cd", 28, 1024, 3072, 16, tie_embeddings=True
    ),
    "qwen3-1.7b-base": _qwen3(
        "Qwen3-1.7B-Base", "ea980cb0a6c2ae4b936e82123acc929f1cec04c1", 28, 2048, 6144, 16, tie_embeddings=True
    ),
    "qwen3-4b-base": _qwen3(
        "Qwen3-4B-Base", "906bfd4b4dc7f14ee4320094d8b41684abff8539", 36, 2560, 9728, 32, tie_embeddings=True
    ),
    "qwen3-8b-base": _qwen3("Qwen3-8B-Base", "49e3418fbbbca6ecbdf9608b4d22e5a407081db4", 36, 4096, 12288, 32),
    "qwen3-14b-base": _qwen3("Qwen3-14B-Base", "0b0bd3732e2c374d483664439ea334928b65f304", 40, 5120, 17408, 40),
    "pythia-70m": _pythia("70m", "a39f36b100fe8a5377810d56c3f4789b9c53ac42", 6, 512, 2048, 8),
    "pythia-160m": _pythia("160m", "50f5173d932e8e61f858120bcb800b97af589f46", 12, 768, 3072, 12),
    "pythia-410m": _pythia("410m", "9879c9b5f8bea9051dcb0e68dff21493d67e9d4f", 24, 1024, 4096, 16),
    "pythia-1b": _pythia("1b", "f73d7dcc545c8bd326d8559c8ef84ffe92fea6b2", 16, 2048, 8192, 8),
    "pythia-1.4b": _pythia("1.4b", "fedc38a16eea3bd36a96b906d78d11d2ce18ed79", 24, 2048, 8192, 16),
    "pythia-2.8b": _pythia("2.8b", "2a259cdd96a4beb1cdf467512e3904197345f6a9", 32, 2560, 10240, 32),
    "pythia-6.9b": _pythia(
        "6.9b", "c0e3eee36dc47af0c49f361c74cfe459c09f7f23", 32, 4096, 16384, 32, vocab_size=50432
    ),
    "pythia-12b": _pythia(
        "12b", "bb1e3e710cdf6b524461d543cfb5ba773f0a81b6", 36, 5120, 20480, 40, vocab_size=50688
    ),
    "olmo-2-1b": _olmo_2("OLMo-2-0425-1B", "a1847dff35000b4271fa70afc5db10fd29fedbdf", 16, 2048, 8192, 16),
    "olmo-2-7b": _olmo_2("OLMo-2-1124-7B", "7df9a82518afdecae4e8c026b27adccc8c1f0032", 32, 4096, 11008, 32),
}  # fmt: skip
