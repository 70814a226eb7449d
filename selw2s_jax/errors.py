"""The one exception for mistakes that a user can make and mend, and how the errors of others are told in it."""

import errno
import json
import re
from typing import Any

_LONGEST = 200  # characters of another error's message
# What a terminal would obey instead of showing it, or would show in another order: C0 and C1 (less line feed and tab),
# separators of lines, and the marks that turn the direction of writing.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class UserError(Exception):
    """A mistake in a config, a data file, a checkpoint or the environment.

    The message is one line that names the thing at fault and the remedy. The commands print it to
    standard error and exit with status 2; it is raised before any training starts.
    """


class UnknownName(UserError):
    """A name of a config that nothing has been registered under."""


def printable(text: str) -> str:
    """A text with what a terminal would obey in escaped form, as `\\x1b`; line feeds and tabs stay."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(error: BaseException, *, with_type: bool = False) -> str:
    """An error's message in one line; of a long one the beginning, as libraries write pages.

    Args:
        with_type: whether the name of its type stands before it.
    """
    message = printable(" ".join(str(error).split()))[:_LONGEST]
    return f"{type(error).__name__}: {message or 'no message'}" if with_type else message


_AGAIN = "then run the same command again: finished stages are kept"
_SPACE = f"free space or correct permissions, {_AGAIN}"
_REMEDIES = {
    errno.ENOENT: "put the file there or correct its path in the config",
    errno.EACCES: _SPACE,
    errno.EPERM: _SPACE,
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: f"free space or raise the limit on the size of files (ulimit -f), {_AGAIN}",
    errno.EROFS: "its file system is read-only: choose another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its links lead back to themselves: mend them, or give the path behind them",
    errno.ENOTDIR: "a part of the path is a file, not a folder: correct it",
    errno.EISDIR: "a folder is where a file is wanted: correct the path",
    errno.EEXIST: "remove what is there, or choose another name",
    errno.ENOTEMPTY: "remove what is there, or choose another name",
    errno.ENXIO: "it is a socket, or a pipe or device that nothing is behind: give a file",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the system has too many files open: close some",
    errno.ENOMEM: f"free memory, {_AGAIN}",
    errno.EIO: "the disk or its file system fails: look into the system's log",
    errno.ESTALE: "the network file system has lost it: see that it is mounted",
}


_OF_DISKS = frozenset(_REMEDIES) - {errno.ENOENT, errno.EEXIST, errno.EMFILE, errno.ENFILE, errno.ENXIO}


def disk_fault(error: BaseException | None) -> str | None:
    """What is wrong with the disk that a library keeps something on, where that is why it failed; else None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_DISKS:
            return f"{one_line(error)}: {os_remedy(error)}"
        error = error.__cause__
    return None


def os_remedy(error: OSError) -> str:
    """What to do about an error of the system."""
    if error.errno == errno.ENOENT and "temporary directory" in str(error):
        return "set TMPDIR to a folder that can be written"
    if error.errno == errno.ENOENT and error.filename is None and not error.args[2:]:
        return "the folder that this was started in may be gone: start it in one that is there"
    return _REMEDIES.get(error.errno or 0, f"mend that, {_AGAIN}")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none; also where it is nested deeper than Python follows, as no text is that was written here.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
