"""The persistent compilation cache: what one process compiled, the next one reads."""

import os
import pathlib

import jax

from selw2s_jax.runtime import places

MAX_BYTES = 8 * 2**30  # the least recently used are deleted above
_MIN_COMPILE_S = 0.3


def enable() -> None:
    """Uses `$XDG_CACHE_HOME/selw2s_jax/xla` (by default under ~/.cache), unless JAX is told otherwise.

    JAX_COMPILATION_CACHE_DIR names another folder, also `gs://...`; JAX_ENABLE_COMPILATION_CACHE=false turns it off.
    Called once the devices are known.

    Raises:
        UserError: JAX_COMPILATION_CACHE_DIR names no place.
    """
    places.check_compilation_cache()
    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        return
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        # XLA's programs with collectives may wait for each other forever on CPU devices when they come from the cache.
        return
    try:
        base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(base) / "selw2s_jax" / "xla"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return  # no home, or none that can be written to, only costs time
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_S)
    if jax.process_count() == 1:  # eviction takes a lock, which shared file systems may lack
        jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
