"""Trained weights on disk, through Orbax."""

import os
import pathlib
import re

import jax
import orbax.checkpoint as ocp
from flax import nnx


def save_params(folder: pathlib.Path, params) -> None:
    """Writes parameters (a pytree of arrays, sharded or not) to a folder that does not exist yet.

    Raises:
        OSError: the file system refused, for example a full disk.
    """
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder.absolute(), _pure(params))
    except ValueError as error:  # TensorStore's kind for the errors of the system
        if code := re.search(r"os_error_code='(\d+)'", str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder)) from error
        raise


def load_params(folder: pathlib.Path, abstract_params):
    """Reads parameters straight into the shardings of `abstract_params`.

    Args:
        abstract_params: an `nnx.State` of `ShapeDtypeStruct`s with shardings.

    Returns:
        An `nnx.State` of arrays.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        pure = checkpointer.restore(folder.absolute(), _pure(abstract_params))
    return jax.tree.unflatten(jax.tree.structure(abstract_params), jax.tree.leaves(pure))


def _pure(params) -> dict:
    """Nested dict of arrays by parameter path: what the files hold, whatever modules use it."""
    return nnx.to_pure_dict(params)
