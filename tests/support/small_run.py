"""A small finished run, made once for all test modules that only read it."""

import functools
import pathlib

from support import tiny_config

from selw2s_jax.run import pipeline


def make_config():
    """GPT-2 teaches GPT-2, as compiling one family is quicker; `selective` has both heads."""
    return tiny_config.make_config(
        weak__model="random-tiny-gpt2",
        strong__model="random-tiny-gpt2",
        methods=("selective",),
        p_ik__prompt="instruction",
        precision__compute_dtype="float32",
    )


@functools.cache
def workdir(root: pathlib.Path) -> pathlib.Path:
    """The workdir of the run.

    Args:
        root: pytest's folder of this session.
    """
    pipeline.run(make_config(), root / "small_run")
    return root / "small_run"
