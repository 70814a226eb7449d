"""The standard streams of a command: whatever is printed arrives somehow, and whoever reads may go away."""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from selw2s_jax import errors

# A pipe without a reader, a terminal that was closed, a stream that was closed before.
_NO_READER = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF)
_DRAWING = re.compile(r"(\r|\x1b\[A)")  # with which bars go back to where they began, and to the bar above


class ReaderGone(BaseException):
    """Nobody reads the standard output of a command that only shows something."""


class Stream:
    """A text stream: what a terminal would obey is escaped, what nobody reads is dropped.

    Args:
        stream: the one below, None where it was closed when the process began.
        has_bars: whether bars are drawn on it.
    """

    def __init__(self, stream: TextIO | None, *, has_bars: bool):
        self._stream = open(os.devnull, "w", encoding="utf-8") if stream is None else stream  # noqa: SIM115
        self._has_bars, self._ends, self._is_lost = has_bars, False, False

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def end_with_reader(self) -> None:
        """From now on ReaderGone is raised where nobody reads."""
        self._ends = True

    def write(self, text: str) -> int:
        parts = _DRAWING.split(text) if self._has_bars else [text]
        parts[::2] = map(errors.printable, parts[::2])
        try:
            return self._stream.write("".join(parts))
        except OSError as error:
            self._lose(error)
            return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if error.errno not in _NO_READER:
            raise error
        # What is still held back goes there, too: the interpreter writes it at its end.
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
        if self._ends:
            raise ReaderGone from error
        if not self._is_lost and not self._has_bars:
            self._is_lost = True
            print("note: nobody reads the output any more; the work goes on without it", file=sys.stderr)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """`sys.stdout` and `sys.stderr` are Streams meanwhile."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # ASCII and Latin-1 have not all characters of a question or a name.
            stream.reconfigure(errors="backslashreplace")
    shown, beside = Stream(sys.stdout, has_bars=False), Stream(sys.stderr, has_bars=True)
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(beside):
        try:
            yield
        finally:
            with contextlib.suppress(ReaderGone):
                shown.flush()
            beside.flush()


def end_with_reader() -> None:
    """The command only shows something: it ends once nobody reads it."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.end_with_reader()
