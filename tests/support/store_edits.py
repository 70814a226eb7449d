"""Artifacts made by a function, without a stage."""

from selw2s_jax.runtime import artifacts


def make(store: artifacts.Store, name: str, inputs, write) -> artifacts.Artifact:
    """The artifact of that name and inputs, filled by `write(folder)` where it is not there."""
    with store.filling(name, inputs) as folder:
        if folder is not None:
            write(folder)
    return store.find(name, inputs)
