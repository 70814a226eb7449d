"""Exports of models that write: a causal language model to transformers, with how it writes its answers."""

import pathlib
from collections.abc import Mapping

import jax
from flax import nnx

from selw2s_jax.export import form, written_card
from selw2s_jax.hf import peft, pretrained, tokenizers, writer

GENERATION_NAME = "generation_config.json"


def _tokens(tokenizer: tokenizers.Tokenizer) -> dict[str, int | list[int] | None]:
    """Special tokens by the names of transformers; of several that end a text all."""
    ends = list(tokenizer.eos_ids)
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": tokenizer.pad_id,
    }


def _write_generation(target: form.Target) -> None:
    """Greedy answers, as long as the run gave them."""
    greedy = {"do_sample": False, "max_new_tokens": target.facts.written.max_new_tokens}
    writer.write_json(target.folder / GENERATION_NAME, _tokens(target.tokenizer) | greedy)


def _save(target: form.Target) -> None:
    decoder = target.model.backbone
    tokens = _tokens(target.tokenizer)
    writer.save_checkpoint(
        target.folder, decoder.config, decoder, dtype=target.dtype, index=True, config_fields=tokens
    )
    _write_generation(target)


def _save_adapters(target: form.Target) -> None:
    peft.save_language_model(
        target.folder,
        target.model,
        base=target.origin.hub_name or target.origin.folder,
        revision=target.origin.revision,
        dtype=target.dtype,
    )
    _write_generation(target)


def _load(
    weights: pathlib.Path, folder: pathlib.Path, settings: pretrained.LanguageModelSettings
) -> tuple[nnx.Module, Mapping[str, jax.Array]]:
    del folder  # beside the decoder there are adapters alone
    return pretrained.load_trainable(weights, settings), {}


FORM = form.Form(written_card.parts, _save, _save_adapters, _load)
