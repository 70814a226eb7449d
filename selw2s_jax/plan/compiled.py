"""What the compiler says of a program: whether it fits, what it communicates, and an estimate of its time."""

import dataclasses
import math
import time

from selw2s_jax.plan import chips, estimate, hlo, kept_programs, kernels, limits, programs, targets

VERDICTS = ("fits", "tight", "does not fit")
TIGHT_SHARE = 0.9  # of the usable memory, above which a program is tight
_QUICK = {"exec_time_optimization_effort": -1.0}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program as it was compiled for a target; bytes are those of one device.

    Attributes:
        peak_bytes: of state and temporaries; where the compiler refused the program, what it said, in any case
            more than there is.
        collectives: none where the compiler refused the program.
        flops: of all devices together, by formula.
        limits: what the program needs beside what it does; None where the compiler refused it.
        time: None without peak rates, or where the compiler refused the program.
    """

    program: programs.Program
    peak_bytes: int
    usable_bytes: int
    is_refused: bool
    collectives: tuple[hlo.Collective, ...]
    flops: estimate.Flops
    limits: limits.Limits | None
    time: estimate.Time | None
    compile_s: float

    @property
    def temporaries_bytes(self) -> int:
        """Everything beside the state, the batch included."""
        return self.peak_bytes - self.program.state_bytes

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
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
    flops, _ = programs.costs(program)
    options = _QUICK if quick and target.chip.kind == "tpu" else {}
    peak, text = kept_programs.get_or_compile(program, target, options)
    found, limit, spent = (), None, None
    if text is not None:
        found = tuple(hlo.collectives(text, program.mesh.size))
        limit, spent = _against_limits(program, target, text, sum(one.wire_bytes for one in found))
    return Compiled(
        program,
        peak if text is not None else max(peak, program.state_bytes, target.usable_bytes + 1),
        target.usable_bytes,
        text is None,
        found,
        flops,
        limit,
        spent,
        time.monotonic() - start,
    )


def _against_limits(
    program: programs.Program, target: targets.Target, text: str, wire_bytes: float
) -> tuple[limits.Limits, estimate.Time | None]:
    """What a compiled program does beside what it needs, and how long it takes by the chip's peaks."""
    rates = rates_of(target)
    done = kernels.executed(text, program.mesh.size, rates)
    found = limits.of_step(
        programs.step_of(program), flops=done.flops, memory_bytes=done.memory_bytes, wire_bytes=wire_bytes
    )
    if rates is None:
        return found, None
    spent = estimate.roofline(
        target.chip,
        flops=done.flops,
        memory_bytes=done.memory_bytes,
        collective_bytes=wire_bytes,
        interconnect_bytes_per_s=target.interconnect_bytes_per_s,
    )
    return found, spent._replace(total_s=done.seconds)


def rates_of(target: targets.Target) -> kernels.Rates | None:
    """Peaks of one device; None where none are published. Of one device alone its links do not matter."""
    if target.chip.bf16_flops is None:
        return None
    return kernels.Rates(
        target.chip.bf16_flops, target.chip.hbm_bytes_per_s, target.interconnect_bytes_per_s or math.inf
    )


def to_gib(num_bytes: float) -> float:
    """Bytes in GiB, to the third decimal."""
    return round(num_bytes / chips.GIB, 3)
