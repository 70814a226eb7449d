"""Selective weak-to-strong generalization (arXiv 2511.14166) in JAX and Flax NNX."""

__version__ = "0.2.0"


def load_model(path, *, param_dtype="float32", compute_dtype="float32", lm_head=True):
    """A pretrained decoder with the weights of a Hugging Face folder or hub name.

    Args:
        path: a folder with `config.json` and safetensors files (tokenizer files are not needed), or the
            name of a shipped model or of a hub repository.
        param_dtype: dtype of the parameters held in memory, such as "float32" or "bfloat16".
        compute_dtype: dtype of the forward pass.
        lm_head: whether to load the language-model head.

    Returns:
        A `selw2s_jax.models.decoder.Decoder` with `.hidden_states(tokens, segment_ids=None,
        positions=None)` `[R, T, D]`, after the final norm, and `.lm_logits(hidden)` `[R, T, V]` in float32.

    Raises:
        UserError: the folder is missing, incomplete, damaged, of an unknown family, or not safetensors.
    """
    from selw2s_jax.hf import loader

    folder = loader.resolve(path)
    return loader.load_decoder(folder, param_dtype=param_dtype, compute_dtype=compute_dtype, lm_head=lm_head)


def load_tokenizer(path, *, bos="auto"):
    """The tokenizer of a Hugging Face folder or hub name; `.encode(text) -> list[int]` gives what a model reads.

    Args:
        path: as for `load_model`.
        bos: whether a beginning-of-text token is put in front: "auto" (as the tokenizer's files say; Llama's and
            Mistral's do, those of GPT-2 and Qwen do not), "on" or "off". No other token is added.

    Raises:
        UserError: no tokenizer files that this project reads, or damaged ones; or none to put for "on".
    """
    from selw2s_jax.hf import loader, tokenizers

    return tokenizers.load_tokenizer(loader.resolve(path), bos=bos)


# Modules of the rooms that users' own scripts import from here.
_SHORT_NAMES = {
    "smoke": "selw2s_jax.worlds.smoke",  # models and questions to try things on, made on the spot and offline
    "remote": "selw2s_jax.runtime.remote",  # local copies of what is on gs://
}


def __getattr__(name):
    if name not in _SHORT_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return importlib.import_module(_SHORT_NAMES[name])
