"""Where the time goes before the first step: the start of the process, and the programs that are compiled."""

import os
import time
from collections.abc import Mapping
from typing import Any

from jax import monitoring

_CACHE_HIT = "/jax/compilation_cache/cache_hits"
_COMPILED = "/jax/core/compile/backend_compile_duration"  # or read from the cache


def until_now(began: float, *, of_process: bool) -> dict[str, float]:
    """Seconds of what a run does before its stages: "import", and "read" for reading and checking what it reads.

    Args:
        began: the clock `time.monotonic` when all was imported.
        of_process: whether the process was started for the run, which the first are then of.
    """
    read, all_of_it = time.monotonic() - began, _since_start() if of_process else None
    return ({} if all_of_it is None else {"import": all_of_it - read}) | {"read": read}


def describe(seconds: Mapping[str, float]) -> str:
    """Shares of time, for people."""
    return ", ".join(f"{value:.1f} s to {name}" for name, value in seconds.items())


def _since_start() -> float | None:
    """Seconds since this process was started; None where the system does not tell."""
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


class Programs:
    """Counts the programs that JAX makes ready to run within, a context manager.

    Attributes:
        count: of all.
        num_read: of them from the cache that processes share.
        seconds: of the whole making, but for tracing and lowering.
    """

    def __init__(self):
        self.count, self.num_read, self.seconds = 0, 0, 0.0

    def __enter__(self) -> "Programs":
        monitoring.register_event_listener(self._note)
        monitoring.register_event_duration_secs_listener(self._note_duration)
        return self

    def __exit__(self, *_) -> None:
        monitoring.unregister_event_listener(self._note)
        monitoring.unregister_event_duration_listener(self._note_duration)

    def _note(self, event: str, **_: Any) -> None:
        self.num_read += event == _CACHE_HIT

    def _note_duration(self, event: str, seconds: float, **_: Any) -> None:
        if event == _COMPILED:
            self.count += 1
            self.seconds += seconds

    def describe(self) -> str:
        """For people, behind the seconds of all; "" where there were none."""
        if not self.count:
            return ""
        return f"; {self.count} programs took {self.seconds:.1f} s, {self.num_read} of them from the cache"
