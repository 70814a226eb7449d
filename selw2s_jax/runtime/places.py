"""Where things are: local paths and object stores. What is neither is refused in one line before anything is read."""

import os
import re
import stat
import urllib.parse

from etils.epath import gpath

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import storage

FOLDER = "a folder or gs://BUCKET/FOLDER"
FILE = "a file or gs://BUCKET/FILE"
MODEL = "a folder, gs://BUCKET/FOLDER, a hub name org/name or the name of a shipped model"

# The stores that are read and written: the package of each, and how it is installed.
_STORES = {"gs": ("gcsfs", "pip install -e '.[gs]'"), "s3": ("s3fs", "pip install s3fs")}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//?)(.*)", re.DOTALL)
_ONE_SLASH = ("gs", "s3", "az", "hf", "http", "https", "file")  # else the colon is part of a folder's name
_HUBS = ("huggingface.co", "www.huggingface.co", "hf.co")


def check(place: str | os.PathLike | None, name: str, wanted: str) -> None:
    """Checks that a place is one that can be there, whether it is or not.

    Args:
        place: what is given, None for nothing.
        name: of the flag or key that gives it, as `config.data.source`.
        wanted: what is taken there.

    Raises:
        UserError: it is empty, a web address, of a store that is not supported or whose package is not installed,
            below a home folder that is not known, or no text that a file system takes.
    """
    if place is None:
        return
    text = os.fspath(place)
    if not text.strip():
        raise UserError(f"{name} is empty: give {wanted}, or leave it out")
    if "\0" in text:
        raise UserError(f"{name}={text} has a NUL character, which no path has: give {wanted}")
    if hint := _hint(text):
        raise UserError(f"{name}={_without_secrets(text)} is not taken: {hint}; wanted is {wanted}")
    if text.startswith("~") and os.path.expanduser(text) == text:
        raise UserError(
            f"{name}={text}: no home folder is known (is HOME set? is there such a user?); write the path out"
        )
    if not storage.is_local(text):
        _check_store(text, name)


def check_compilation_cache() -> None:
    """`check` of the folder that JAX keeps compiled programs in, where the environment names one."""
    name = "JAX_COMPILATION_CACHE_DIR"
    check(os.environ.get(name) or None, name, FOLDER)


def check_workdir(place: str | os.PathLike) -> None:
    """`check` of a folder that a run is to write to.

    Raises:
        UserError: also where its path has a character that Orbax takes for a pattern, or TensorStore for a slash: files
            of weights would be lost, or be those of another folder.
    """
    check(place, "workdir", FOLDER)
    path = os.path.abspath(os.path.expanduser(place)) if storage.is_local(place) else os.fspath(place)
    if found := re.search(r"[*?\[\\]", path):
        raise UserError(
            f"workdir {path} has the character {found[0]}, which files of weights cannot have in their path: choose "
            "another --workdir"
        )


def _hint(text: str) -> str | None:
    """What to give instead of a place that is none; None where it is one."""
    if "/" in text and text.lower().partition("/")[0] in _HUBS and not os.path.exists(text):
        text = f"https://{text}"
    found = _URL.match(text)
    if not found:
        return (
            None if storage.is_local(text) else f"{text.partition('://')[0]}:// is no store that is read here"
        )
    given, slashes, rest = found.groups()
    scheme = given.lower()
    if slashes == "/" and (scheme not in _ONE_SLASH or os.path.exists(text)):
        return None
    if scheme == "file":
        path = f"/{urllib.parse.unquote(rest.removeprefix('localhost')).lstrip('/')}"
        return f"give the path itself, {path}"
    if scheme == "hf":
        return _hub_hint(rest.lstrip("/"))
    if scheme in ("http", "https"):
        address = urllib.parse.urlsplit(f"//{rest.lstrip('/')}")
        if (address.hostname or "") in _HUBS:
            return _hub_hint(address.path.strip("/"))
        return "nothing is read from web addresses: download it, and give the file or folder"
    store = {"gcs": "gs"}.get(scheme, scheme)
    if store not in _STORES:
        return f"{given}:// is no store that is read here"
    if given != store or slashes != "//":
        return f"write {store}://{rest.lstrip('/')}"
    if not rest.partition("/")[0]:
        return f"it names no bucket: {store}://BUCKET/..."
    if ".." in rest.split("/"):
        return "write the path without .."
    return None


def _hub_hint(path: str) -> str:
    """What to give instead of the address of a repository on the hub."""
    parts = [part for part in path.split("/") if part]
    kind = parts.pop(0) if parts and parts[0] in ("models", "datasets", "spaces") else "models"
    name = "/".join(parts[:2]).partition("@")[0]
    if kind == "models":
        return f"give the hub name of the model, {name}" if len(parts) > 1 else "give a hub name, org/name"
    return (
        f"download it (hf download {name or 'org/name'} --repo-type {kind[:-1]}), and give the file or folder"
    )


def _without_secrets(text: str) -> str:
    """An address less user, password and query, which may be tokens."""
    return re.sub(r"(?<=/)[^/@]*@", "", re.split(r"[?#]", text)[0])


def _check_store(text: str, name: str) -> None:
    import fsspec

    scheme = text.partition("://")[0]
    if scheme not in _STORES:  # nor an address, which has been told
        raise UserError(
            f"{name}={_without_secrets(text)} is not taken: {scheme}:// is no store that is read here"
        )
    package, install = _STORES[scheme]
    if gpath._is_tf_installed():  # which then reads and writes them
        return
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise UserError(
            f"{name}={text} needs the package {package}, which is not there: {install}"
        ) from error


def check_output_file(place: str | os.PathLike, flag: str) -> None:
    """Checks that a file can be written, before the work whose result it gets.

    Pipes and character devices are written to as they are, the target of a link is replaced (`storage.write_bytes`).

    Args:
        flag: that names it, as `--output`.

    Raises:
        UserError: it is a folder, a socket or a disk; or its folder is missing or may not be written to.
    """
    if not storage.is_local(place):
        return
    path = os.path.expanduser(place)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise UserError(f"{flag}={place} cannot be reached ({error.strerror}); choose another") from error
    if mode is not None and stat.S_ISDIR(mode):
        raise UserError(f"{flag}={place} is a folder; give a file in it")
    if mode is not None and not stat.S_ISREG(mode):
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            raise UserError(f"{flag}={place} is no file, pipe or terminal; choose another")
        if not os.access(path, os.W_OK):
            raise UserError(f"{flag}={place} cannot be written: no permission; choose another")
        return
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise UserError(f"{flag}={place}: there is no folder {folder}; make it, or choose another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{flag}={place} cannot be written: no permission in {folder}; choose another")


def check_output_folder(place: str | os.PathLike, flag: str) -> None:
    """Checks that a folder can be made or written to.

    Raises:
        UserError: something else is there, or its parent may not be written to.
    """
    if not storage.is_local(place):
        return
    path = os.path.realpath(os.path.expanduser(place))
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UserError(f"{flag}={place} is a file; choose another folder")
    above = path
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
        raise UserError(
            f"{flag}={place} cannot be written: {above} is not a folder to write to; choose another"
        )
