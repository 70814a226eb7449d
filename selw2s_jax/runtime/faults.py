"""What libraries raise when the environment is not fit, told in one line with its remedy.

A fault of the environment is known by the class of the error, or by the place in JAX where it came up; never by its
text alone, so that a mistake of this package still shows its traceback.
"""

import importlib.util
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator

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
    jax_errors = sys.modules.get("jax.errors")
    if jax_errors is not None and isinstance(error, jax_errors.JaxRuntimeError):
        if "RESOURCE_EXHAUSTED" in str(error):
            return f"out of device memory ({errors.one_line(error)}): {_SMALLER}"
        return None
    for one in _chain(error):
        match _raised_in(one):
            case "xla_bridge.py":
                return _explain_devices(one)
            case "config.py" if isinstance(one, ValueError):
                return f"JAX does not take a setting ({errors.one_line(one)}): correct or unset the variable"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it; JAX hides its own part of a traceback there."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _raised_in(error: BaseException) -> str | None:
    """The module of JAX that raised an error, None for all others."""
    frames = traceback.extract_tb(error.__traceback__)
    path = pathlib.PurePath(frames[-1].filename) if frames else pathlib.PurePath()
    return path.name if path.parts[-3:-1] == ("jax", "_src") else None


def _explain_devices(error: BaseException) -> str:
    there = [
        "cpu",
        *(name for name, plugins in _PLUGINS.items() if any(map(importlib.util.find_spec, plugins))),
    ]
    asked = os.environ.get("JAX_PLATFORMS")
    wish = f"JAX_PLATFORMS={asked}: JAX has no such device here" if asked else "JAX cannot start its devices"
    reason = f" ({errors.one_line(error)})" if str(error) else ""
    unset = "unset JAX_PLATFORMS" if asked else "set JAX_PLATFORMS=cpu"
    return (
        f"{wish}{reason}; installed are {', '.join(there)}: install the package with its extra gpu or tpu "
        f"(pip install -e '.[gpu]'), see that the driver loads (nvidia-smi), or {unset}"
    )
