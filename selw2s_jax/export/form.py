"""What of an export depends on the form of supervision."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from selw2s_jax.export import model_card
from selw2s_jax.hf import tokenizers
from selw2s_jax.run import students


class Target(NamedTuple):
    """What is being written.

    Attributes:
        folder: that is filled.
        model: a `heads.Classifier`, or a `language_model.LanguageModel`.
        dtype: of the weights.
        origin: of the pretrained model.
    """

    folder: pathlib.Path
    model: nnx.Module
    facts: students.Facts
    tokenizer: tokenizers.Tokenizer
    dtype: str
    origin: model_card.Origin


class Form(NamedTuple):
    """A form of supervision.

    Attributes:
        card: (facts, `model_card.CardOf`) -> the parts of the card.
        save: writes a whole model, whose adapters were merged.
        save_adapters: writes its adapters, and what is beside them, alone.
        load: (folder of the decoder's weights, exported folder, settings) -> the model, and arrays by name of its
            parameters that are its own.
    """

    card: Callable[[students.Facts, model_card.CardOf], model_card.Parts]
    save: Callable[[Target], None]
    save_adapters: Callable[[Target], None]
    load: Callable[[pathlib.Path, pathlib.Path, Any], tuple[nnx.Module, Mapping[str, jax.Array]]]
