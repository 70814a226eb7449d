"""Leases: claims on a name, each held by at most one living process, on any storage that processes share.

A claim is a file `<name>.<random id>.json` that its process alone writes: who it is, whether it holds the name or
still contends for it, and a count that a thread raises every `HEARTBEAT_S`. To acquire a name, a process *writes its
claim, then lists the folder*, and has won when no other living claim is there. Of two processes the one whose write
came second sees the other's claim, so that at most one wins; neither exclusive creation nor renaming is needed, only
that a listing shows every file written before it. This holds on local disks, on gs:// (strongly consistent), and on
NFS, where writing into a folder makes the client read it anew. Of contenders that see each other, all but the one
whose id comes first withdraw.

A claim is dead, and does not count,
- at once, if its process ran on this kernel and in this process namespace, and is gone;
- else when its content was not seen to change for `EXPIRY_S` by the watcher's own clock. Clocks of different hosts
  are never compared.

A process that did not write for `_LATE_S` (stopped, swapped out, cut off) may have been taken for dead. It then
writes its claim and lists the folder as at first: it goes on if no other living claim is there, and has lost the name
if another process holds it or has removed its claim. `Lease.check` does so before an act that must not be done twice.
Only a process that is not late itself removes the claims of other hosts, so what has to be trusted is that a removal,
once decided, takes less than `EXPIRY_S - _LATE_S`.
"""

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from etils import epath

from selw2s_jax import errors
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import storage

HEARTBEAT_S = 10.0
EXPIRY_S = 60.0
POLL_S = 1.0
_LATE_S = EXPIRY_S - 2 * HEARTBEAT_S


@dataclasses.dataclass(frozen=True)
class Claim:
    """A process's claim, as another one reads it.

    Attributes:
        file: name of its file.
        content: of the file.
        holder: the process, as `Machine.identity` describes it.
        info: what the process does.
        held: whether it holds the name; else it contends for it.
    """

    file: str
    content: bytes
    holder: dict[str, Any]
    info: str
    held: bool

    def __str__(self) -> str:
        return f"process {self.holder.get('pid', '?')} on {self.holder.get('host', '?')}"

    @classmethod
    def parse(cls, file: str, content: bytes) -> "Claim":
        """A claim that makes no sense counts as held until it expires."""
        try:
            fields = errors.parse_json(content)
            return cls(file, content, dict(fields["holder"]), str(fields["info"]), bool(fields["held"]))
        except (ValueError, KeyError, TypeError):
            return cls(file, content, {}, "", True)


class HeldError(Exception):
    """Another living process has the name, or is about to.

    Attributes:
        claim: that of the other process.
    """

    def __init__(self, claim: Claim):
        super().__init__(f"held by {claim}")
        self.claim = claim


class Machine:
    """The processes and the clock of this machine; tests bring their own."""

    def identity(self) -> dict[str, Any]:
        """This process, so that no other one that ever runs is taken for it."""
        pid = os.getpid()
        _, started = _process_status(pid) or (None, None)
        return {"host": socket.gethostname(), "pid": pid, "kernel": _kernel(), "started": started}

    def is_running(self, holder: dict[str, Any]) -> bool | None:
        """Whether a process runs; None if that cannot be told from here."""
        pid, kernel, started = (holder.get(name) for name in ("pid", "kernel", "started"))
        if kernel is None or kernel != _kernel() or started is None:
            return None
        status = _process_status(pid)
        if status is not None:
            return status == ("alive", started)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return None  # it is there, but /proc hides it

    def unique_id(self) -> str:
        """Text that no other claim has."""
        return uuid.uuid4().hex

    def clock(self) -> float:
        """Seconds since some moment, those included in which the machine slept."""
        boot_time = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def repeat(self, function: Callable[[], bool], seconds: float) -> None:
        """Calls `function` every so often in the background, until it returns False."""

        def run() -> None:
            self.sleep(seconds)
            while function():
                self.sleep(seconds)

        threading.Thread(target=run, name="lease", daemon=True).start()


def _kernel() -> str | None:
    """Names the running kernel and this process's namespace of process ids: hosts may share a name."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _process_status(pid: int) -> tuple[str, int] | None:
    """("alive" or "dead", when it started in ticks since the kernel did), None where /proc does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return ("dead" if fields[0] in "ZX" else "alive"), int(fields[19])


class Lease:
    """A claim of this process; made by `acquire`.

    Attributes:
        recovered: claims of dead holders that were removed on the way.
    """

    def __init__(
        self, folder: epath.Path, name: str, info: str, conflicts: Callable[[str], bool], machine: Machine
    ):
        self.recovered: list[Claim] = []
        self._folder, self._name, self._info = folder, name, info
        self._file = f"{name}.{machine.unique_id()}.json"
        self._conflicts, self._machine = conflicts, machine
        self._held, self._count = False, 0
        self._certain_at = machine.clock()
        self._lost_to: str | None = None
        self._released = False
        self._last_seen: dict[str, tuple[Claim, float]] = {}
        self._seen_alive: set[str] = set()
        self._lock = threading.RLock()

    def check(self) -> None:
        """Makes sure that no other process has taken the name over.

        Raises:
            UserError: one has.
        """
        while not self._is_certain() and not self._beat():
            self._machine.sleep(POLL_S)

    def release(self) -> None:
        """Gives the name back; nothing happens if it was lost or given back."""
        with self._lock:
            if not self._released:
                self._released = True
                with contextlib.suppress(OSError):  # the claim expires
                    storage.remove_file(self._folder / self._file)

    def _contend(self, on_wait: Callable[[Claim], None] | None) -> None:
        self._beat()
        self._machine.repeat(self._keep_alive, HEARTBEAT_S)
        while True:
            rivals = self._rivals()
            for claim in rivals:
                if claim.file in self._seen_alive and (claim.held or claim.file < self._file):
                    raise HeldError(claim)
            if not rivals:
                self._held = True
                if self._beat():
                    return
            elif on_wait is not None:
                on_wait(rivals[0])
                on_wait = None
            self._machine.sleep(POLL_S)

    def _keep_alive(self) -> bool:
        """One heartbeat; whether there shall be more."""
        try:
            with self._lock:
                if not self._released:
                    self._beat()
        except Exception:  # a file system that fails may recover before the claim is late
            pass
        return not self._released

    def _is_certain(self) -> bool:
        """Whether nobody can have taken this process for dead."""
        return self._lost_to is None and self._machine.clock() - self._certain_at <= _LATE_S

    def _beat(self) -> bool:
        """Writes the claim anew; whether it stands for certain.

        Raises:
            UserError: the name is lost.
        """
        with self._lock:
            start = self._machine.clock()
            if (
                self._lost_to is None
                and self._count
                and storage.read_bytes(self._folder / self._file) is None
            ):
                self._lost_to = "another process"
            if self._lost_to is None:
                self._write()
                if not self._is_certain():
                    rivals = self._rivals()
                    holders = [claim for claim in rivals if claim.held]
                    if rivals and not holders:
                        return False  # contenders: they withdraw, or remove this claim
                    self._lost_to = str(holders[0]) if holders else None
            if self._lost_to is not None:
                self.release()
                raise UserError(
                    f"{self._folder / self._name} was lost to {self._lost_to}, as this process stood still for too "
                    "long; run the same command again once the other one has ended"
                )
            self._certain_at = start
            return True

    def _write(self) -> None:
        self._count += 1
        fields = {
            "holder": self._machine.identity(),
            "info": self._info,
            "held": self._held,
            "count": self._count,
        }
        # Not flushed to the disk, which may take long while checkpoints are written.
        storage.write_bytes(self._folder / self._file, json.dumps(fields).encode(), durable=False)

    def _rivals(self) -> list[Claim]:
        """Claims in the way of this one, which must be written by now, but for those of the dead."""
        with self._lock:
            others = [claim for claim in _claims(self._folder, self._name) if claim.file != self._file]
            return [claim for claim in others if self._conflicts(claim.info) and not self._is_dead(claim)]

    def _is_dead(self, claim: Claim) -> bool:
        now = self._machine.clock()
        last, since = self._last_seen.setdefault(claim.file, (claim, now))
        is_running = self._machine.is_running(claim.holder)
        if is_running or claim.content != last.content:
            self._seen_alive.add(claim.file)
            self._last_seen[claim.file] = (claim, now)
            return False
        if is_running is None and now - since < EXPIRY_S:
            return False
        if is_running is False or self._is_certain():
            storage.remove_file(self._folder / claim.file)
            if claim.held:
                self.recovered.append(claim)
        return True


def acquire(
    folder: epath.PathLike,
    name: str,
    info: str = "",
    *,
    conflicts: Callable[[str], bool] = lambda info: True,
    on_wait: Callable[[Claim], None] | None = None,
    machine: Machine | None = None,
) -> Lease:
    """Claims a name for this process, and keeps it until it is released or the process ends.

    Returns at once where the name is free or its holder died on this host; takes a few seconds to see that a holder
    on another host lives, and `EXPIRY_S` to see that it does not.

    Args:
        folder: of the claims of all names; made where missing.
        name: without dots and slashes.
        info: what this process does with the name.
        conflicts: whether a claim with this info is in the way; must be symmetric.
        on_wait: called once with a claim that has to be watched.

    Raises:
        HeldError: another process has it.
        OSError: the folder cannot be written.
    """
    storage.make_folder(folder)
    lease = Lease(epath.Path(folder), name, info, conflicts, machine or Machine())
    try:
        lease._contend(on_wait)
    except BaseException:
        lease.release()
        raise
    return lease


def _claims(folder: epath.Path, name: str) -> list[Claim]:
    claims = []
    for file in storage.names(folder):
        if file.startswith(f"{name}.") and file.endswith(".json"):
            content = storage.read_bytes(folder / file)
            if content is not None:
                claims.append(Claim.parse(file, content))
    return claims
