"""Loads exported students: the name by which their model cards call `export.exports`."""

from selw2s_jax.export.exports import load, read_facts

__all__ = ["load", "read_facts"]
