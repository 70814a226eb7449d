"""Files and folders on local disks, on file systems that hosts share, and on gs://.

Paths are anything that `etils.epath.Path` takes. Local ones go to the operating system, which alone can rename at
once and flush to the disk; all others through epath, to an object store: an object appears whole when its upload
ends, folders are only prefixes of names, and nothing can be renamed at once.
"""

import contextlib
import io
import os
import re
import shutil
import stat
import sys
import uuid

from etils import epath
from etils.epath import backend

from selw2s_jax import errors
from selw2s_jax.errors import UserError

_LONGEST_NAME = 255  # bytes, of a file on any system


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
    """Bytes of every file below a folder, by relative path, sorted.

    Raises:
        UserError: an object's name is none that a file has, such as one with a part `..`.
    """
    if not is_local(folder):
        _forget_listings(folder)
    found, folders = {}, [epath.Path(folder)]
    while folders:
        above = folders.pop()
        for path in above.iterdir():
            if not is_local(folder):
                if path == above:  # an object "folder/", which stands for the folder
                    continue
                _check_object_name(path, folder)
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


def _check_object_name(path: epath.Path, folder: epath.PathLike) -> None:
    """Names of objects may hold anything: what is copied must not choose where it goes, or what a terminal does."""
    name = os.fspath(path)[len(os.fspath(folder)) :].lstrip("/")
    is_name = path.name not in ("", ".", "..") and len(path.name.encode()) <= _LONGEST_NAME
    if not is_name or re.search(r"[\t\n\\]", path.name) or errors.printable(path.name) != path.name:
        raise UserError(
            f"{os.fspath(folder)} has an object {name!a}, which no file may be called: rename or remove it"
        )


def write_bytes(path: epath.PathLike, data: bytes, *, durable: bool = True) -> None:
    """Replaces a file at once: readers see the old content or the new, never half.

    A link stays, and its target is replaced. What is no file, as a pipe or a terminal, is written to. A new file has
    the permissions that the umask leaves, a replaced one those that it had.

    Args:
        durable: return only when the new content outlives a loss of power.
    """
    path = epath.Path(path)
    if not is_local(path):
        path.write_bytes(data)
        return
    if (file := _open_as_it_is(path)) is not None:
        with file:
            file.write(data)
        return
    if os.path.islink(path):
        path = epath.Path(os.path.realpath(path))
    temporary = _new_name(path)
    try:
        # Not by tempfile, whose files have permissions of their own.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(handle, "wb") as file:
            with contextlib.suppress(OSError):
                os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode) & 0o777)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        _sync(path.parent)


def _open_as_it_is(path: epath.Path) -> io.BufferedWriter | None:
    """What is at a path, open for writing, where it cannot be replaced by a file; else None."""
    own = {"/dev/stdout": "1", "/dev/stderr": "2"}.get(os.fspath(path))
    if own is None and (found := re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", os.fspath(path))):
        own = found[1]
    if own is not None:  # at its place in the file that it may be, behind what was printed
        sys.stdout.flush()
        return os.fdopen(os.dup(int(own)), "wb")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else open(path, "wb")


def _new_name(path: epath.Path) -> epath.Path:
    """A name beside a path that nothing has yet."""
    # Of a name that is as long as names may be, a part.
    return path.parent / f".{path.name[:40]}.{uuid.uuid4().hex[:8]}"


def new_folder(path: epath.PathLike) -> epath.Path:
    """Makes an empty folder beside a local path, to be renamed to it; with the permissions that the umask leaves."""
    folder = _new_name(epath.Path(path))
    os.mkdir(folder)
    return folder


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
