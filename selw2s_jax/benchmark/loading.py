"""Reading a checkpoint onto the devices."""

import time
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader, pretrained, weight_files

_NUM_LOADS = 3


class Loaded(NamedTuple):
    """Times of reading a model's weights.

    Attributes:
        seconds: of each reading; the first may find the files outside of the page cache.
        num_bytes: of the weight files.
    """

    seconds: np.ndarray
    num_bytes: int


def why_not(model: pretrained.Model) -> str | None:
    """Why a model's weights cannot be read, None where they can."""
    if model.is_made:
        return "the run itself makes this model"
    try:
        loader.check_checkpoint(model.folder, lm_head=False)
    except (UserError, OSError) as error:
        return str(error).partition(" - ")[0]
    return None


def measure(
    model: pretrained.Model, settings: pretrained.ClassifierSettings | pretrained.LanguageModelSettings
) -> Loaded:
    """Loads a model as training does, several times.

    Args:
        settings: of the module that is trained.
    """
    seconds = []
    for _ in range(_NUM_LOADS):
        start = time.perf_counter()
        loaded = loader.load_decoder(model.folder, **settings.decoder_options)
        jax.block_until_ready(nnx.state(loaded))
        seconds.append(time.perf_counter() - start)
        del loaded
    num_bytes = sum(path.stat().st_size for path in weight_files.find_files(model.folder)[0])
    return Loaded(np.array(seconds), num_bytes)
