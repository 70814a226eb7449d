"""What libraries raise when the environment is not fit, told in one line with its remedy.

A fault of the environment is known by the class of the error, or by asking JAX once more; never by its text alone, so
that a mistake of this package still shows its traceback.
"""

import importlib.util
import os
import sys
import traceback

from selw2s_jax import errors

# Packages that speak to stores and networks, and raise errors of their own classes.
_STORES = (
    "aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google.api_core", "google.auth", "google.cloud",
    "httpcore", "httpx", "huggingface_hub", "requests", "s3fs", "urllib3",
)  # fmt: skip
_PLUGINS = {"cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin"), "tpu": ("libtpu",)}


def explain(error: Exception) -> str | None:
    """What is wrong with the environment and what to do about it; None for any other error."""
    if isinstance(error, MemoryError):
        return f"out of memory ({errors.one_line(error)}): free some, or {_SMALLER}"
    if f"{type(error).__module__}.".startswith(tuple(f"{package}." for package in _STORES)):
        reason = errors.one_line(error, with_type=True)
        return f"the store or network does not answer as it should ({reason}); check path, login and network"
    if isinstance(error, OSError):
        return f"{error}; {errors.os_remedy(error)}"
    if isinstance(error, ImportError) and (package := _missing_store(error)):
        return f"the package {package} is not there, which paths of that kind need: {_install(package)}"
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "no home folder is known: set HOME to a folder, or write out the paths that begin with ~"
    return _explain_jax(error)


_SMALLER = (
    "make the run smaller: config.training.micro_batch_size, config.execution.remat=full, a larger mesh "
    "(python -m selw2s_jax.plan says what fits)"
)


def _missing_store(error: ImportError) -> str | None:
    """The package for a kind of path that an import lacks, as fsspec asks for it."""
    return next((name for name in ("gcsfs", "s3fs") if name in str(error)), None)


def _install(package: str) -> str:
    return "pip install -e '.[gs]'" if package == "gcsfs" else f"pip install {package}"


def _explain_jax(error: Exception) -> str | None:
    if _is_setting(error):
        return f"JAX does not take a setting ({errors.one_line(error)}): correct or unset that variable"
    jax = sys.modules.get("jax")
    if not hasattr(jax, "devices") or not isinstance(error, RuntimeError | AssertionError):
        return None
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
        return f"out of device memory ({errors.one_line(error)}): {_SMALLER}"
    try:  # JAX hides where its errors come from, so it is asked again; where there are devices, it has them at hand
        jax.devices()
    except (RuntimeError, AssertionError) as fault:
        return _explain_devices(fault)
    return None


def _is_setting(error: Exception) -> bool:
    """Whether JAX refused an environment variable while it was imported."""
    frames = traceback.extract_tb(error.__traceback__)
    return (
        isinstance(error, ValueError) and bool(frames) and frames[-1].filename.endswith("jax/_src/config.py")
    )


def _explain_devices(fault: Exception) -> str:
    there = [name for name, plugins in _PLUGINS.items() if any(map(importlib.util.find_spec, plugins))]
    asked = os.environ.get("JAX_PLATFORMS")
    wish = f"JAX_PLATFORMS={asked}: JAX has no such device here" if asked else "JAX cannot start its devices"
    reason = f" ({errors.one_line(fault)})" if str(fault) else ""
    given = [name for name in ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES") if os.environ.get(name)]
    unset = f"unset {' and '.join(given)}" if given else "set JAX_PLATFORMS=cpu"
    return (
        f"{wish}{reason}; installed are {', '.join(['cpu', *there])}: install the package with its extra gpu or tpu "
        f"(pip install -e '.[gpu]'), see that the driver loads (nvidia-smi), or {unset}"
    )
