"""Several processes, one program: how they start, what they tell each other, and which of them writes.

Everything here also works in a single process, where it does nothing. Every function but `is_main` and `start`
must be called by all processes, in the same order. JAX is imported where there is more than one process: commands
that end early do not wait for it.
"""

import contextlib
import contextvars
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import numpy as np

from selw2s_jax.errors import UserError

MODES = ("auto", "on", "off")
_Result = TypeVar("_Result")
_process_id, _num_processes = 0, 1
_is_alone = contextvars.ContextVar("is_alone", default=False)  # within `main_only`


def start(
    mode: str = "auto",
    *,
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout_s: int = 300,
) -> None:
    """Joins the other processes of the run, before the first device is touched.

    Args:
        mode: "auto" joins where an address is given or the environment speaks of several processes (Slurm, Open
            MPI, TPU workers, JAX_COORDINATOR_ADDRESS), "on" always, "off" never.
        coordinator_address: `host:port` of process 0; with `num_processes` and `process_id` where the environment
            does not know them.
        timeout_s: how long to wait for the others.

    Raises:
        UserError: the arguments do not go together, or the others did not come.
    """
    global _process_id, _num_processes
    by_hand = (coordinator_address, num_processes, process_id)
    given = [value is not None for value in by_hand]
    if any(given) and mode == "off":
        raise UserError(
            "--distributed=off goes with none of --coordinator_address, --num_processes, --process_id"
        )
    if any(given) and not all(given):
        raise UserError("--coordinator_address, --num_processes and --process_id go together: give all three")
    if all(given) and not 0 <= process_id < num_processes:
        raise UserError(f"--process_id={process_id} must lie in [0, {num_processes}), --num_processes")
    if mode == "off" or (mode == "auto" and not any(given) and not _several_in_environment()):
        return
    import jax

    where = coordinator_address or "the coordinator that the environment names"
    print(
        f"{socket.gethostname()}: waiting up to {timeout_s} s for the other processes at {where}", flush=True
    )
    # JAX's own limit aborts the process with a stack trace.
    watchdog = threading.Timer(timeout_s, _give_up, (coordinator_address, process_id, timeout_s, where))
    watchdog.daemon = True
    watchdog.start()
    try:
        jax.distributed.initialize(*by_hand, initialization_timeout=timeout_s + 60)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes could not be joined ({str(error)[:300]}): give --coordinator_address=HOST:PORT, "
            "--num_processes and --process_id, or --distributed=off for one process"
        ) from error
    finally:
        watchdog.cancel()
    _process_id, _num_processes = jax.process_index(), jax.process_count()
    devices = f"{jax.local_device_count()} of {jax.device_count()} devices"
    print(f"process {_process_id} of {_num_processes} on {socket.gethostname()} with {devices}", flush=True)
    if not is_main():
        # One process tells what all do.
        sys.stdout = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115


def _several_in_environment() -> bool:
    """Whether this process was started as one of several, as far as its environment tells."""
    environment = os.environ
    sizes = [environment.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")]
    return (
        any(size.isdigit() and int(size) > 1 for size in sizes)
        or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
        or "JAX_COORDINATOR_ADDRESS" in environment
    )


def _give_up(coordinator_address: str | None, process_id: int | None, timeout_s: int, where: str) -> NoReturn:
    """Ends a process that waited in vain, as a UserError would: the waiting itself cannot be interrupted."""
    cause = "some processes did not start, or failed early: look at the log of each host"
    if coordinator_address is not None and process_id:
        host, _, port = coordinator_address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, ValueError) as error:
            cause = f"process 0 is not to be reached there ({error}): look whether it runs, and at firewalls"
    print(
        f"error: the processes did not all meet at {where} within {timeout_s} s; {cause}, and see that "
        "--num_processes is the number started",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def leave(patience_s: float = 10.0) -> None:
    """Parts from the other processes; returns whether they follow or not, as the process is about to end."""
    if _num_processes > 1:
        import jax

        # In a thread, as it waits for the others, and a process that waits in vain is aborted with a stack trace.
        parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        parting.start()
        parting.join(patience_s)


def is_main() -> bool:
    """Whether this is process 0: the one that writes what is not sharded, and speaks."""
    return _process_id == 0


def num_processes() -> int:
    """Number of processes of the run; within `main_only` 1."""
    return 1 if _is_alone.get() else _num_processes


def barrier(name: str) -> None:
    """Waits until every process is here."""
    if num_processes() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def gather(value: Any) -> list[Any]:
    """The JSON value of each process, in order of process."""
    if num_processes() == 1:
        return [value]
    from jax.experimental import multihost_utils

    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(data)))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(data)] = data
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def broadcast(value: Any) -> Any:
    """The JSON value of process 0."""
    return gather(value if is_main() else None)[0]


class _AgreedError(UserError):
    """One that every process has raised."""


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What every process does within; where it raises a UserError on one, all raise that, so that none waits.

    Errors of the file system count as such.
    """
    message = None
    try:
        yield
    except _AgreedError:
        raise
    except (UserError, OSError) as error:
        if num_processes() == 1:
            raise
        message = str(error)
    for process, text in enumerate(gather(message)):
        if text is not None:
            raise _AgreedError(f"process {process}: {text}")


def agree(function: Callable[[], _Result]) -> _Result:
    """`function()` on every process, `together`."""
    with together():
        return function()


def main_only(function: Callable[[], None]) -> None:
    """`function()` on process 0 while the others wait; its errors are everyone's.

    In there process 0 is a run of its own: what would ask the others does not.
    """

    def run() -> None:
        if is_main():
            alone = contextvars.copy_context()
            alone.run(_is_alone.set, True)
            alone.run(function)

    agree(run)


class Deferred:
    """Work of process 0 alone, whose errors wait for a moment when all processes are together."""

    def __init__(self):
        self._error: OSError | None = None

    def run(self, function: Callable[[], None]) -> None:
        """`function()` on process 0, unless an earlier one failed; with a single process, its errors are raised."""
        if not is_main() or self._error is not None:
            return
        try:
            function()
        except OSError as error:
            if num_processes() == 1:
                raise
            self._error = error

    def settle(self) -> None:
        """Raises, on all processes, the error that waited."""

        def raise_it() -> None:
            if self._error is not None:
                raise self._error

        agree(raise_it)


def check_equal(facts: dict[str, Any], remedy: str) -> None:
    """Checks that JSON values are the same on every process.

    Raises:
        UserError: naming the first that is not, and the processes that disagree.
    """
    by_process = gather(facts)
    for name, value in by_process[0].items():
        for process, other in enumerate(by_process):
            if other[name] != value:
                raise _AgreedError(
                    f"process {process} has another {name} ({other[name]}) than process 0 ({value}): {remedy}"
                )
