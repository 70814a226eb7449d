"""Exports of models with class heads."""

import dataclasses
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from selw2s_jax.errors import UserError
from selw2s_jax.export import classifier_card, form
from selw2s_jax.hf import loader, peft, pretrained, weight_files, writer
from selw2s_jax.models import heads


def _main_head(target: form.Target) -> str:
    return "class_head" if target.facts.has_class_head else "p_ik_head"


def _save(target: form.Target) -> None:
    writer.save_classifier(
        target.folder,
        target.model,
        pad_token_id=target.tokenizer.pad_id,
        dtype=target.dtype,
        main_head=_main_head(target),
    )


def _save_adapters(target: form.Target) -> None:
    peft.save(
        target.folder,
        target.model,
        base=target.origin.hub_name or target.origin.folder,
        revision=target.origin.revision,
        dtype=target.dtype,
        main_head=_main_head(target),
    )


def _load(
    weights: pathlib.Path, folder: pathlib.Path, settings: pretrained.ClassifierSettings
) -> tuple[nnx.Module, Mapping[str, jax.Array]]:
    backbone = loader.load_decoder(weights, **settings.decoder_options)
    arrays = _read_heads(folder / writer.HEADS_NAME, backbone.config.embed_dim)
    settings = dataclasses.replace(settings, p_ik_head="p_ik_head" in arrays)
    return pretrained.add_heads(backbone, settings), arrays


def _read_heads(path: pathlib.Path, embed_dim: int) -> dict[str, jax.Array]:
    """The heads of an exported student by name, each [2, D]."""
    import safetensors

    remedy = "export the student again"
    if not path.is_file():
        raise UserError(f"{path} is missing; {remedy}")
    shapes = {name: info.shape for name, info in weight_files.read_header(path).items()}
    expected = dict.fromkeys(writer.HEADS[: len(shapes)], (heads.NUM_CLASSES, embed_dim))
    if not shapes or shapes != expected:
        raise UserError(f"{path} holds {shapes}, not {expected}; {remedy}")
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: jnp.asarray(file.get_tensor(name)) for name in shapes}


FORM = form.Form(classifier_card.parts, _save, _save_adapters, _load)
