"""The parity checkpoints as models, and tokens for them."""

import numpy as np
from fixtures import make_parity

from selw2s_jax.hf import loader

FAMILIES = tuple(make_parity.CONFIGS)


def load(folder, **options):
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
