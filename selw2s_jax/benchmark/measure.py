"""Runs a workload and takes its times: compilation apart, warm-up left out, what was read one step late."""

import collections
import dataclasses
import functools
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from selw2s_jax.benchmark import workloads
from selw2s_jax.data import batches
from selw2s_jax.plan import programs
from selw2s_jax.runtime import device_memory


class Profile(NamedTuple):
    """A trace of steps `first` up to, but not including, `stop`, counted from the end of the warm-up."""

    first: int
    stop: int
    folder: str


class Counts(NamedTuple):
    """What batches hold.

    Attributes:
        num_examples: without padding.
        num_tokens: of examples; num_slots: of all rows, padding included.
        squared_lengths: sum over examples of their length squared, which attention is proportional to.
        num_answered: tokens of answers that are learnt; 0 of class heads.
    """

    num_examples: int
    num_tokens: int
    num_slots: int
    squared_lengths: int
    num_answered: int = 0

    @property
    def padding_efficiency(self) -> float:
        return self.num_tokens / self.num_slots if self.num_slots else 1.0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(*(mine + its for mine, its in zip(self, other, strict=True)))


def count(batch: batches.Batch) -> Counts:
    """Examples and tokens of a batch."""
    lengths = [np.unique(row[row > 0], return_counts=True)[1] for rows in batch.segment_ids for row in rows]
    lengths = np.concatenate([np.zeros(0, np.int64), *lengths])  # no rows where embeddings stand for tokens
    num_examples = int(np.count_nonzero(batch.weight))
    answered = 0 if batch.answers is None else np.count_nonzero(batch.answers.slot < batch.weight.shape[1])
    squared = int((lengths**2).sum())
    return Counts(num_examples, int(lengths.sum()), batch.segment_ids.size, squared, int(answered))


class Measured(NamedTuple):
    """Of the steps that were timed.

    Attributes:
        step_s: `[num_steps]` seconds between what two following steps gave being read.
        resident_step_s: the same where the batches were on the devices already.
        compile_s: seconds that lowering and compiling took, by shape (rows, tokens).
        counts: of all timed steps together.
        shapes: how many of the timed steps had each shape.
        peak_bytes: of memory on one device.
        peak_source: "device" where the backend counted them and this workload took the most so far, "compiler" where
            the number is its analysis of the program.
    """

    step_s: np.ndarray
    resident_step_s: np.ndarray
    compile_s: dict[tuple[int, int], float]
    counts: Counts
    shapes: dict[tuple[int, int], int]
    peak_bytes: int
    peak_source: str

    @property
    def host_wait_s(self) -> float:
        """How much longer the median step is where its batch is made and put on the devices; not below 0."""
        return max(0.0, float(np.median(self.step_s) - np.median(self.resident_step_s)))


class _Clock:
    """Notes when each step was read, and ends a trace."""

    def __init__(self, stop_trace_after: int | None = None):
        self.times: list[float] = []
        self._stop_trace_after = stop_trace_after

    def write(self, step: int, metrics: dict[str, float], *, last: bool = False) -> None:
        self.times.append(time.perf_counter())
        if step == self._stop_trace_after:
            jax.profiler.stop_trace()

    def settle(self) -> None:
        pass


def compile_shapes(work: workloads.Workload, held) -> tuple[dict[tuple, Any], dict[tuple[int, int], float]]:
    """The executables of all shapes of a workload's batches by shape of the tokens, and the seconds that each took.

    Args:
        held: what the workload's `start` made.
    """
    examples = {}
    for step in range(work.feed.num_steps):
        batch = work.feed.make(step)
        examples.setdefault(batch.tokens.shape, batch)
    executables, seconds = {}, {}
    for shape, batch in examples.items():
        start = time.perf_counter()
        executables[shape] = work.compile(held, batch)
        seconds[shape[1:]] = time.perf_counter() - start
    return executables, seconds


def run_steps(
    work: workloads.Workload, executables, held, feed: workloads.Feed, profile: Profile | None = None
) -> tuple[Any, np.ndarray]:
    """Drives a workload over a feed.

    Args:
        profile: steps of the feed to trace.

    Returns:
        What is held afterwards, and `[num_steps - 1]` seconds from one step's being read to the next one's.
    """
    calls = 0

    def run(held, batch: batches.Batch):
        nonlocal calls
        if profile is not None and calls == profile.first:
            jax.profiler.start_trace(profile.folder)
        with jax.profiler.StepTraceAnnotation(work.name, step_num=calls):
            given = executables[batch.tokens.shape](held, batch)
        calls += 1
        return given

    clock = _Clock(None if profile is None else profile.stop - 1)
    held = work.drive(run, held, feed, clock)
    return held, np.diff(clock.times)


def measure(work: workloads.Workload, *, warmup: int, profile: Profile | None = None) -> Measured:
    """Compiles a workload, runs all steps of its feed, and again with the batches on the devices, and traces some.

    Args:
        warmup: steps before those that are timed, at least 1.
        profile: steps to trace, in a run of their own: tracing slows them.
    """
    device = work.program.mesh.devices.flat[0]
    peak_before = _counted_peak(device)
    held = jax.block_until_ready(work.start())
    executables, compile_s = compile_shapes(work, held)
    held, step_s = run_steps(work, executables, held, work.feed)
    peak_bytes, peak_source = _counted_peak(device), "device"
    if peak_bytes <= peak_before:
        peak_bytes = max(device_memory.peak_bytes(one, device.platform) for one in executables.values())
        peak_source = "compiler"
    held, resident_step_s = run_steps(work, executables, held, work.feed.on(work.program.mesh))
    if profile is not None:
        shifted = profile._replace(first=profile.first + warmup, stop=profile.stop + warmup)
        feed = dataclasses.replace(work.feed, num_steps=shifted.stop)
        run_steps(work, executables, held, feed, shifted)
    timed = [work.feed.make(step) for step in range(warmup, work.feed.num_steps)]
    return Measured(
        step_s[warmup - 1 :],
        resident_step_s[warmup - 1 :],
        compile_s,
        functools.reduce(Counts.plus, map(count, timed)),
        dict(collections.Counter(batch.tokens.shape[1:] for batch in timed)),
        peak_bytes,
        peak_source,
    )


def model_flops(work: workloads.Workload, counts: Counts) -> int:
    """What the mathematics of steps with these counts needs, without padding: `estimate.Flops.model`.

    Every token attends to the tokens of its own example, and to the past that all of them share; the last layer
    computes the tokens of each example that are read, and keys and values of the others: the last, or those that
    predict its answer, which the vocabulary is multiplied with.
    """
    mean_length = counts.squared_lengths / max(counts.num_tokens, 1) + work.past_length
    return programs.flops(
        work.program,
        num_tokens=counts.num_tokens,
        num_examples=counts.num_examples,
        mean_length=mean_length,
        num_read=min(counts.num_answered or counts.num_examples, counts.num_tokens),
        num_predicted=counts.num_answered,
    ).model


def _counted_peak(device: jax.Device) -> int:
    """Most bytes that the process has held on a device, 0 where the backend does not count."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
