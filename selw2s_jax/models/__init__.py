"""Decoder-only transformers in Flax NNX, and their heads."""
