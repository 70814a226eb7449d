"""The parity checkpoints as models, and tokens for them."""

import functools
import pathlib

import numpy as np
from fixtures import make_parity

from selw2s_jax.hf import loader
from selw2s_jax.models import decoder

FAMILIES = tuple(make_parity.CONFIGS)


@functools.cache
def load(folder: pathlib.Path, **options) -> decoder.Decoder:
    """A parity checkpoint, loaded once: only to be read."""
    options = {"param_dtype": "float32", "compute_dtype": "float32", "lm_head": True} | options
    return loader.load_decoder(folder, **options)


def random_tokens(config, shape, seed=0):
    return np.random.default_rng(seed).integers(0, config.vocab_size, shape, dtype=np.int32)


def pack(examples, num_tokens):
    """One row [1, T] of tokens and segment ids, with padding in front of, between and behind examples."""
    tokens, segment_ids = np.zeros((2, 1, num_tokens), np.int32)
    starts, at = [], 1
    for number, example in enumerate(examples, start=1):
        starts.append(at)
        tokens[0, at : at + len(example)] = example
        segment_ids[0, at : at + len(example)] = number
        at += len(example) + (number == 1)
    return tokens, segment_ids, starts


def alone(model: decoder.Decoder, examples: list[np.ndarray]) -> list[np.ndarray]:
    """Hidden states `[T, D]` of each example in a row of its own, up to 12 of them.

    Always of one shape, so compiled once: what follows an example in its row is seen by no token of it, by the
    comparison with torch.
    """
    tokens = np.zeros((12, model.config.max_seq_len), np.int32)
    for row, example in enumerate(examples):
        tokens[row, : len(example)] = example
    hidden = np.asarray(model.hidden_states(tokens))
    return [hidden[row, : len(example)] for row, example in enumerate(examples)]
