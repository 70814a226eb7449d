"""Trained weights on disk, through Orbax."""

import pathlib

import jax
import orbax.checkpoint as ocp


def save_params(folder: pathlib.Path, params) -> None:
    """Writes parameters (a pytree of arrays, sharded or not) to a folder that does not exist yet."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), jax.tree.map(lambda x: x, _pure(params)))


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
    from flax import nnx

    return nnx.to_pure_dict(params)
