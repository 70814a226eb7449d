"""What a run was made with: versions, code, devices."""

import functools
import hashlib
import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax

from selw2s_jax.runtime import distributed, shipped

_LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "tokenizers",
    "tiktoken",
    "numpy",
)
_PACKAGE = pathlib.Path(__file__).parent.parent


@functools.cache
def code() -> dict[str, Any]:
    """Version, hash of the source files, and the commit where they come from a git repository."""
    return {"version": shipped.version(), "source": source(), "commit": _commit()}


@functools.cache
def source() -> str:
    """Hash of the source files."""
    digest = hashlib.sha256()
    # The configs of a wheel are no source: a checkout has them elsewhere, and a run keeps its own.
    configs = shipped.configs().values()
    for path in sorted(path for path in _PACKAGE.rglob("*.py") if path not in configs):
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _commit() -> str | None:
    """The checked-out commit, with "+" where tracked files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_PACKAGE), *arguments]
        done = subprocess.run(command, capture_output=True, check=True, timeout=20)
        return done.stdout.decode(errors="replace").strip()

    try:
        if not git("ls-files", "."):  # installed inside some other repository
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


@functools.cache
def libraries() -> dict[str, str]:
    """Versions of Python and of what computes."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in _LIBRARIES
    }


def devices() -> dict[str, Any]:
    """Processes and devices of the run."""
    found = jax.devices()
    return {
        "processes": distributed.num_processes(),
        "devices": len(found),
        "platform": found[0].platform,
        "kind": found[0].device_kind,
    }
