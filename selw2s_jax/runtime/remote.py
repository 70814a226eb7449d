"""Local copies of files and folders on gs://, for readers that can only open local ones."""

import hashlib
import os
import pathlib
import shutil

from etils import epath

from selw2s_jax import errors
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import places, storage

# Weights in formats that nothing here reads.
_SKIPPED = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf")
_READ = (".json", ".jsonl", ".csv", ".parquet", ".safetensors", ".model", ".tiktoken", ".txt")


def cache_folder() -> pathlib.Path:
    """Where copies are kept: $SELW2S_CACHE, by default ~/.cache/selw2s_jax."""
    folder = os.environ.get("SELW2S_CACHE") or "~/.cache/selw2s_jax"
    places.check(folder, "SELW2S_CACHE", "a folder of this machine")
    if not storage.is_local(folder):
        raise UserError(f"SELW2S_CACHE={folder} must be a folder of this machine")
    return pathlib.Path(folder).expanduser()


def local_copy(path) -> pathlib.Path:
    """A local path as it is, or the copy of a file or folder elsewhere, made where it is missing or out of date.

    Every host keeps its own. A copy belongs to the names, sizes and times of the files it was made of.

    Raises:
        UserError: it is no place, there is nothing, it cannot be read, it has names that files may not have, or there
            is no place for the copy.
    """
    places.check(path, "the path", "a file or folder, or gs://")
    if storage.is_local(path):
        local = pathlib.Path(path).expanduser()
        _check_files(local)
        return local
    source = epath.Path(path)
    try:
        files = _files(source)
        stats = [(name, file.stat()) for name, file in files.items()]
    except UserError:
        raise
    except (
        Exception
    ) as error:  # of whichever library speaks to the store: no permission, no bucket, no network
        raise _unreadable(path, error) from error
    if not files:
        raise UserError(f"{path} is not there; correct its path in the config")
    version = [(name, stat.length, stat.mtime) for name, stat in stats]
    key = hashlib.sha256(f"{path}\n{version}".encode()).hexdigest()[:16]
    target = cache_folder() / key / source.name
    if not target.exists():
        try:
            _copy(path, files, target)
        except OSError as error:
            if error.filename is None or not str(error.filename).startswith(os.fspath(cache_folder())):
                raise _unreadable(path, error) from error
            raise UserError(
                f"{path} cannot be copied to {target} ({error.strerror}): {errors.os_remedy(error)}; or set "
                "SELW2S_CACHE to another folder"
            ) from error
        except Exception as error:
            raise _unreadable(path, error) from error
    return target


def _check_files(folder: pathlib.Path) -> None:
    """Checks that what would be read of a folder is files: a pipe would be waited for, a device read for ever."""
    try:
        inside = [path for path in folder.iterdir() if path.suffix in _READ] if folder.is_dir() else []
    except (
        OSError
    ):  # not to be listed, where known names may be readable all the same; or no file has such a name
        return
    for path in inside:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path} is a pipe or device, not a file; put the file there")


def _unreadable(path, error: Exception) -> UserError:
    return UserError(
        f"{path} cannot be read ({errors.one_line(error, with_type=True)}); check path and login"
    )


def _copy(path, files: dict[str, epath.Path], target: pathlib.Path) -> None:
    """Copies the files to below `target`, which appears once all are there."""
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(storage.new_folder(target.parent))
    try:
        print(f"copying {path} to {target}", flush=True)
        for name, file in files.items():
            copy = temporary / target.name / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            file.copy(copy)
        try:
            temporary.rename(target.parent)
        except OSError:
            if not target.exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _files(source: epath.Path) -> dict[str, epath.Path]:
    """The files to copy by their path below `source`; "" for a file itself."""
    if not source.is_dir():
        return {"": source} if source.exists() else {}
    return {name: source / name for name in storage.files(source) if not name.endswith(_SKIPPED)}
