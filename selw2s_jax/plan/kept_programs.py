"""Compiled programs, kept by what they are made of: a plan that was made once is made again without compiling."""

import gzip
import importlib.metadata
import json
import os

import jax
from etils import epath

from selw2s_jax.plan import programs, targets
from selw2s_jax.runtime import artifacts, device_memory, remote, storage

_COMPILERS = ("jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin")
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def get_or_compile(
    program: programs.Program, target: targets.Target, options: dict[str, float]
) -> tuple[int, str | None]:
    """The bytes that a device needs, and the text of the compiled module; None where the compiler refused it.

    Those of accelerators are kept in `remote.cache_folder`; what is compiled for a CPU is for the one of this machine.

    Args:
        options: of the compiler.
    """
    lowered = program.lower()
    if target.chip.kind == "cpu":
        return _compile(lowered, target, options)
    path = epath.Path(remote.cache_folder()) / "plans" / f"{_key(lowered, target, options)}.json.gz"
    try:
        found = json.loads(gzip.decompress(path.read_bytes()))
        return int(found["peak_bytes"]), found["text"]
    except (OSError, EOFError, ValueError, KeyError, TypeError):  # not there, or damaged
        peak, text = _compile(lowered, target, options)
    content = gzip.compress(json.dumps({"peak_bytes": peak, "text": text}).encode())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_bytes(path, content, durable=False)
    except OSError:  # a home that cannot be written to: compiled again next time
        pass
    return peak, text


def _key(lowered: jax.stages.Lowered, target: targets.Target, options: dict[str, float]) -> str:
    made_of = {
        "program": lowered.as_text(),
        "target": repr(target),
        "options": options,
        "versions": {name: _version(name) for name in _COMPILERS},
        "flags": [os.environ.get(name) for name in _FLAGS],
    }
    return artifacts.content_hash(made_of)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _compile(
    lowered: jax.stages.Lowered, target: targets.Target, options: dict[str, float]
) -> tuple[int, str | None]:
    try:
        executable = lowered.compile(compiler_options=options or None)
    except jax.errors.JaxRuntimeError as error:
        needed = device_memory.refused_bytes(error)
        if needed is None:
            raise
        return needed, None
    return device_memory.peak_bytes(executable, target.chip.kind), executable.as_text()
