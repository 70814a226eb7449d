"""Files and folders on local disks, on file systems that hosts share, and on gs://.

Paths are anything that `etils.epath.Path` takes. Local ones go to the operating system, which alone can rename at
once and flush to the disk; all others through epath, to an object store: an object appears whole when its upload
ends, folders are only prefixes of names, and nothing can be renamed at once.
"""

import contextlib
import os
import shutil
import tempfile

from etils import epath
from etils.epath import backend


def is_local(path: epath.PathLike) -> bool:
    """Whether a path is the operating system's: a disk of this machine, or one that hosts share (NFS)."""
    return "://" not in os.fspath(path)


def names(folder: epath.PathLike) -> list[str]:
    """Sorted names in a folder as it is now; none where it is missing."""
    try:
        if is_local(folder):
            return sorted(os.listdir(folder))
        _forget_listings(folder)
        return sorted(path.name for path in epath.Path(folder).iterdir())
    except FileNotFoundError:
        return []


def files(folder: epath.PathLike) -> dict[str, int]:
    """Bytes of every file below a folder, by relative path, sorted."""
    if not is_local(folder):
        _forget_listings(folder)
    found, folders = {}, [epath.Path(folder)]
    while folders:
        for path in folders.pop().iterdir():
            if path.is_dir():
                folders.append(path)
            else:
                name = path.relative_to(folder).as_posix()
                # epath's stat of a local file fails for users that have no name, as in containers.
                found[name] = os.stat(path).st_size if is_local(path) else path.stat().length
    return dict(sorted(found.items()))


def read_bytes(path: epath.PathLike) -> bytes | None:
    """Content of a file as it is now, None where it is missing."""
    if not is_local(path):
        _forget_listings(path)
    try:
        return epath.Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_bytes(path: epath.PathLike, data: bytes, *, durable: bool = True) -> None:
    """Replaces a file at once: readers see the old content or the new, never half.

    Args:
        durable: return only when the new content outlives a loss of power.
    """
    path = epath.Path(path)
    if not is_local(path):
        path.write_bytes(data)
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        _sync(path.parent)


def make_folder(path: epath.PathLike) -> None:
    """Makes a folder and those above it where they are missing; object stores have none."""
    if is_local(path):
        os.makedirs(path, exist_ok=True)


def remove_file(path: epath.PathLike) -> None:
    """Removes a file, if it is there."""
    epath.Path(path).unlink(missing_ok=True)


def remove_tree(path: epath.PathLike) -> None:
    """Removes a file, or a folder and all below it, if it is there."""
    if is_local(path):
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
    else:
        _forget_listings(path)
        epath.Path(path).rmtree(missing_ok=True)


def copy_tree(source: epath.PathLike, target: epath.PathLike) -> None:
    """Copies every file below a folder, over those that are there."""
    source, target = epath.Path(source), epath.Path(target)
    for name in files(source):
        make_folder((target / name).parent)
        (source / name).copy(target / name, overwrite=True)


def sync_tree(folder: epath.PathLike) -> None:
    """Makes a folder and all below it outlive a loss of power; object stores do so by themselves."""
    if is_local(folder):
        for parent, _, members in os.walk(folder, topdown=False):
            for member in members:
                _sync(os.path.join(parent, member))
            _sync(parent)
        _sync(os.path.dirname(os.path.abspath(folder)))


def _sync(path: epath.PathLike) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _forget_listings(path: epath.PathLike) -> None:
    """gcsfs remembers what it listed until told otherwise, whatever other processes write meanwhile."""
    with contextlib.suppress(ImportError):  # TensorFlow's access remembers nothing
        backend.fsspec_backend.fs(path).invalidate_cache()
