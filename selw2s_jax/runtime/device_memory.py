"""Memory of devices: how much a program can have, and how much the compiler says that it needs.

JAX is imported where it is asked: what a process prepares for a compiler must come before.
"""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# What libtpu says of a program that is too large, the second of those of TPU machines.
_REFUSED = (r"\(([\d.]+)([KMGT]?)\) exceeds available HBM", r"Used ([\d.]+)([KMGT]?) of \S+ hbm")


def of_machine() -> int:
    """Bytes of memory of this machine, or of the control group (v2) that this process is kept in."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = pathlib.Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def usable_bytes(devices: "Sequence[jax.Device]") -> int | None:
    """Bytes that a program can have on each of these devices, as far as this process sees them.

    GPUs and TPUs say it themselves; the devices of a CPU share the machine's memory. None where nothing is said, as of
    devices that are only described.
    """
    import jax

    here = [device for device in devices if device.process_index == jax.process_index()]
    if here and here[0].platform == "cpu":
        return of_machine() // jax.local_device_count()
    limits = []
    for device in here:
        try:
            limits.append((device.memory_stats() or {}).get("bytes_limit"))
        except jax.errors.JaxRuntimeError:
            return None
    return min(limits) if limits and None not in limits else None


def peak_bytes(executable: "jax.stages.Compiled", kind: str) -> int:
    """What a device has to have for arguments, results, temporaries and code.

    Args:
        kind: of the devices: "tpu", or another.
    """
    memory = executable.memory_analysis()
    if kind == "tpu":
        # libtpu accepts programs by this number; the sum of the parts, where some share their place, is up to a tenth
        # above it.
        return memory.peak_memory_in_bytes + memory.generated_code_size_in_bytes
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def refused_bytes(error: Exception) -> int | None:
    """What a program would have needed that the compiler refused for its size, 0 where it does not say how much.

    None of any other error.
    """
    if "RESOURCE_EXHAUSTED" not in str(error):
        return None
    found = [match for pattern in _REFUSED if (match := re.search(pattern, str(error)))]
    return int(float(found[0][1]) * _UNITS[found[0][2]]) if found else 0
