"""The variable XLA_FLAGS before XLA reads it, which ends the process on what it does not take.

LIBTPU_INIT_ARGS is read by libtpu alone, where there is a TPU, and cannot be tried out.
"""

import contextlib
import os
import re
import shlex
import signal
import tempfile
import warnings

from selw2s_jax import errors
from selw2s_jax.errors import UserError

_NAME = "XLA_FLAGS"
_LONGEST_S = 20
# What XLA logs where it gives up: the place in its code, and the reason.
_REASON = re.compile(r"^[EF]\d{4} \S+ +\d+ \S+\] (?!Check failed)(.+)$", re.MULTILINE)


def check() -> None:
    """Lets a copy of this process read XLA_FLAGS: some 30 ms, where the variable is set.

    To be called before anything has started JAX's devices.

    Raises:
        UserError: XLA would end this process, with its reason; or there are words that it would pass over.
    """
    text = os.environ.get(_NAME, "")
    if not text.strip():
        return
    if text.lstrip().startswith("-"):  # else it names a file of flags
        _check_words(text)
    if (reason := _refusal()) is not None:
        raise UserError(f"{_NAME}={text} ends XLA ({reason}): correct or unset that variable")


def _check_words(text: str) -> None:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{_NAME}={text}: {error}; correct or unset that variable") from error
    if wrong := [word for word in words if not word.startswith("--")]:
        raise UserError(
            f"{_NAME}={text}: {wrong[0]!r} is no flag; write --NAME=VALUE without spaces in it, or unset that variable"
        )


def _refusal() -> str | None:
    """Why XLA ends a process that reads the variable; None where it takes it, or where that cannot be tried."""
    try:
        from jaxlib import xla_client

        options = xla_client.CompileOptions
    except (ImportError, AttributeError):
        return None
    if not hasattr(os, "fork"):
        return None
    with tempfile.TemporaryFile() as log:
        with warnings.catch_warnings():
            # Of threads, which a copy has not: all that it does is to read the variable.
            warnings.simplefilter("ignore")
            child = os.fork()
        if not child:
            _read_and_end(options, log.fileno())
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0 or code == -signal.SIGALRM:
            return None
        log.seek(0)
        found = _REASON.search(log.read().decode(errors="replace"))
    return errors.printable(found[1].rstrip(".")) if found else "it does not say why"


def _read_and_end(options, log: int) -> None:
    """What the copy does: as its end is wanted, it leaves no core file and waits for nothing."""
    with contextlib.suppress(BaseException):
        import resource

        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LONGEST_S)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(log, 2)
        os.dup2(log, 1)
        options()
        os._exit(0)
    os._exit(0)  # a mistake of this module refuses nothing
