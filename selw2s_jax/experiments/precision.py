"""`precision.compute_dtype=auto`: what it becomes, before anything is a function of it."""

import ml_collections

from selw2s_jax.runtime import distributed, native_dtypes

AUTO = "auto"


def resolve(config: ml_collections.ConfigDict, platform: str) -> bool:
    """Puts the dtype of a platform in the place of auto, the same on every process: whether it was there.

    Args:
        config: changed.
        platform: of the devices that the config is run or planned on, as JAX names it.
    """
    if config.precision.compute_dtype != AUTO:
        return False
    # Of the first process, should others have another processor.
    (config.precision.compute_dtype,) = distributed.broadcast([native_dtypes.compute_dtype(platform)])
    return True
