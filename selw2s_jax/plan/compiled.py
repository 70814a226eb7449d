"""What the compiler says of a program: whether it fits, what it communicates, and an estimate of its time."""

import dataclasses
import time

import jax

from selw2s_jax.plan import chips, estimate, hlo, programs, targets
from selw2s_jax.runtime import device_memory

TIGHT_SHARE = 0.9  # of the usable memory, above which a program is tight
_QUICK = {"exec_time_optimization_effort": -1.0}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program as it was compiled for a target; bytes are those of one device.

    Attributes:
        peak_bytes: of state and temporaries; where the compiler refused the program, what it said, or at least the
            state.
        collectives: none where the compiler refused the program.
        flops: of all devices together, by formula.
        time: None without peak rates, or where the compiler refused the program.
    """

    program: programs.Program
    peak_bytes: int
    usable_bytes: int
    is_refused: bool
    collectives: tuple[hlo.Collective, ...]
    flops: estimate.Flops
    time: estimate.Time | None
    compile_s: float

    @property
    def temporaries_bytes(self) -> int:
        """Everything beside the state, the batch included."""
        return self.peak_bytes - self.program.state_bytes

    @property
    def verdict(self) -> str:
        """ "fits", "tight" or "does not fit"."""
        if self.is_refused or self.peak_bytes > self.usable_bytes:
            return "does not fit"
        return "tight" if self.peak_bytes > TIGHT_SHARE * self.usable_bytes else "fits"

    @property
    def fits(self) -> bool:
        """Whether it does, tightly or not."""
        return self.verdict != "does not fit"


def compile_program(program: programs.Program, target: targets.Target, *, quick: bool = False) -> Compiled:
    """Compiles a program for the target that its mesh is made of.

    Args:
        quick: with the least effort of the TPU compiler, a tenth of the time; its programs are slower than a run's, and
            take up to a tenth less memory.
    """
    start = time.monotonic()
    flops, traffic = programs.costs(program)
    found, roofline, refused = (), None, False
    try:
        executable = program.compile(**(_QUICK if quick and target.chip.kind == "tpu" else {}))
        peak = device_memory.peak_bytes(executable, target.chip.kind)
        found = tuple(hlo.collectives(executable.as_text(), program.mesh.size))
        roofline = estimate.roofline(
            target.chip,
            flops=flops.total / program.mesh.size,
            memory_bytes=traffic.total,
            collective_bytes=sum(one.wire_bytes for one in found),
            interconnect_bytes_per_s=target.interconnect_bytes_per_s,
        )
    except jax.errors.JaxRuntimeError as error:
        needed = device_memory.refused_bytes(error)
        if needed is None:
            raise
        peak, refused = max(needed, program.state_bytes), True
    return Compiled(
        program,
        peak,
        target.usable_bytes,
        refused,
        found,
        flops,
        roofline,
        time.monotonic() - start,
    )


def to_gib(num_bytes: float) -> float:
    """Bytes in GiB, to the third decimal."""
    return round(num_bytes / chips.GIB, 3)
