"""Local copies of files and folders on gs://, for readers that can only open local ones."""

import hashlib
import os
import pathlib
import shutil
import tempfile

from etils import epath

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import storage

_SKIPPED = (
    ".bin",
    ".pt",
    ".pth",
    ".h5",
    ".msgpack",
    ".onnx",
    ".gguf",
)  # weights in formats that nothing here reads


def cache_folder() -> pathlib.Path:
    """Where copies are kept: $SELW2S_CACHE, by default ~/.cache/selw2s_jax."""
    return pathlib.Path(os.environ.get("SELW2S_CACHE", "~/.cache/selw2s_jax")).expanduser()


def local_copy(path) -> pathlib.Path:
    """A local path as it is, or the copy of a file or folder elsewhere, made where it is missing or out of date.

    Every host keeps its own. A copy belongs to the names, sizes and times of the files it was made of.

    Raises:
        UserError: there is nothing at the path, or it cannot be read.
    """
    if storage.is_local(path):
        return pathlib.Path(path).expanduser()
    source = epath.Path(path)
    try:
        files = _files(source)
    except (
        Exception
    ) as error:  # of whichever library speaks to the store: no permission, no bucket, no network
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}); check path and login"
        ) from error
    if not files:
        raise UserError(f"{path} is not there; correct its path in the config")
    stats = [(name, file.stat()) for name, file in files.items()]
    version = [(name, stat.length, stat.mtime) for name, stat in stats]
    key = hashlib.sha256(f"{path}\n{version}".encode()).hexdigest()[:16]
    target = cache_folder() / key / source.name
    if not target.exists():
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(dir=target.parent.parent, prefix=f".{key}."))
        try:
            print(f"copying {path} to {target}", flush=True)
            for name, file in files.items():
                copy = temporary / source.name / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                file.copy(copy)
            try:
                temporary.rename(target.parent)
            except OSError:
                if not target.exists():  # else another process was faster
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _files(source: epath.Path) -> dict[str, epath.Path]:
    """The files to copy by their path below `source`; "" for a file itself."""
    if not source.is_dir():
        return {"": source} if source.exists() else {}
    return {name: source / name for name in storage.files(source) if not name.endswith(_SKIPPED)}
