"""A plan as text for people, and as JSON values."""

from collections.abc import Sequence
from typing import Any

import jax

from selw2s_jax.analysis import formats
from selw2s_jax.inference import writing
from selw2s_jax.plan import chips, programs, search, targets, total, workload
from selw2s_jax.plan.compiled import Compiled, to_gib

_ESTIMATE = (
    "estimate: kernels one after another, each at the peak of what bounds it, and what they wait for collectives at "
    "the peak of the links, as the compiler has put them in order; real steps take longer"
)
_MEMORY_TERMS = (
    "(length: tokens of each example; rows: packed rows of a call x their tokens; state: what stays on a device "
    "between calls; peak: state and temporaries)"
)
_COST_TERMS = (
    "(one call: a train step of the whole batch, or a pass over one batch of texts; TFLOP: of all devices; bound: the "
    "longest of products, memory and network, each alone)"
)
_LIMIT_TERMS = (
    "(products: useful, of tokens that are read; recomputed by remat and micro-batches; unread, of padding and of "
    "tokens of the last layer that no head reads. memory: weights, moments and gradients once for each use, and what "
    "remat keeps. network: what the layout has to send. Seconds: at the chip's peaks)"
)
_FRONTIER_TERMS = (
    "(*: no other of these takes both less memory and less time; micro-batch: examples of the task)"
)
_BOUNDS = {"matmul": "products", "memory": "memory", "interconnect": "the network"}
_TOTAL_TERMS = (
    "(an estimate, and a lower bound as its calls are, but for what is written: loading, compiling, saving, the solved "
    "problems of few-shot prompts and solutions sampled for P(IK) of class heads are not in it; calls of programs that "
    "were not compiled are taken without communication, --steps=all compiles them)"
)


def target_json(target: targets.Target) -> dict[str, Any]:
    """The target and its chip."""
    chip = target.chip
    return {
        "name": target.name,
        "num_devices": target.num_devices,
        "usable_gib": to_gib(target.usable_bytes),
        "bf16_flops": chip.bf16_flops,
        "hbm_bytes_per_s": chip.hbm_bytes_per_s,
        "interconnect_bytes_per_s": target.interconnect_bytes_per_s,
        "source": chip.source,
    }


def step_json(outcome: Compiled) -> dict[str, Any]:
    """A compiled program; sizes, collectives and time are those of one device."""
    program = outcome.program
    return {
        "name": program.name,
        "model": program.model.name,
        "role": program.model.role,
        "mesh": mesh_json(program.mesh),
        "length": program.length,
        "num_rows": program.num_rows,
        "row_length": program.row_length,
        "num_examples": program.num_examples,
        "state_gib": to_gib(program.state_bytes),
        "temporaries_gib": to_gib(outcome.temporaries_bytes),
        "peak_gib": to_gib(outcome.peak_bytes),
        "usable_gib": to_gib(outcome.usable_bytes),
        "verdict": outcome.verdict,
        "collectives": [
            {"kind": one.kind, "count": one.count, "bytes": one.num_bytes, "wire_bytes": int(one.wire_bytes)}
            for one in outcome.collectives
        ],
        "flops": outcome.flops._asdict(),
        "limits": limits_json(outcome),
        "estimate": None if outcome.time is None else outcome.time._asdict() | {"note": _ESTIMATE},
        "compile_s": round(outcome.compile_s, 1),
    }


def mesh_json(mesh: jax.sharding.Mesh) -> dict[str, int]:
    """Sizes of a mesh by axis."""
    return {name: int(size) for name, size in mesh.shape.items()}


def trial_json(trial: search.Trial) -> dict[str, Any]:
    """A program with the settings that were changed for it."""
    changed = {
        key: list(value) if isinstance(value, tuple) else value for key, value in trial.overrides.items()
    }
    return {"config": changed, **step_json(trial.outcome)}


def flags(overrides: search.Overrides) -> str:
    """Settings as they are given on the command line."""
    return " ".join(f"--config.{key}={_spelled(value)}" for key, value in overrides.items())


def _spelled(value: Any) -> str:
    return f"'({', '.join(map(str, value))})'" if isinstance(value, tuple) else str(value)


def header(target: targets.Target) -> str:
    """The target in one line."""
    chip = target.chip
    return (
        f"{target.name}: {target.num_devices} device(s) with {to_gib(target.usable_bytes):.1f} GiB usable each "
        f"(of {chip.hbm_bytes / chips.GIB:.0f}; {chip.source})"
    )


def memory_table(outcomes: Sequence[Compiled]) -> str:
    """State, temporaries and peak of each program on one device, in GiB."""
    rows = [
        ("program", "model", "mesh", "length", "rows", "state", "temporaries", "peak", "usable", "verdict")
    ]
    for outcome in outcomes:
        program = outcome.program
        sizes = (program.state_bytes, outcome.temporaries_bytes, outcome.peak_bytes, outcome.usable_bytes)
        rows.append(
            (
                program.name,
                program.model.title,
                " x ".join(map(str, program.mesh.shape.values())),
                str(program.length),
                f"{program.num_rows} x {program.row_length}",
                *(gib(size) for size in sizes),
                outcome.verdict,
            )
        )
    return f"{formats.aligned(rows, left=(0, 1, 2, 9))}\n{_MEMORY_TERMS}"


def cost_table(outcomes: Sequence[Compiled]) -> str:
    """FLOPs of all devices, collectives of one, and the terms of the estimate of time."""
    rows = [("program", "length", "TFLOP", "products", "memory", "network", "one call", "bound")]
    for outcome in outcomes:
        time = outcome.time
        seconds = ("-", "-", "-", "-", "-")
        if time is not None:
            terms = (time.matmul_s, time.memory_s, time.interconnect_s, time.total_s)
            seconds = (*(f"{term:.3f} s" for term in terms), _BOUNDS[time.bound])
        tflop = f"{outcome.flops.total / 1e12:.1f}"
        rows.append((outcome.program.name, str(outcome.program.length), tflop, *seconds))
    lines = [formats.aligned(rows, left=(0, 7)), f"({_ESTIMATE})", _COST_TERMS]
    for outcome in outcomes:
        moved = ", ".join(
            f"{one.count} {one.kind} of {gib(one.num_bytes)} GiB" for one in outcome.collectives
        )
        if not outcome.is_refused:
            lines.append(
                f"collectives of {outcome.program.name} at {outcome.program.length}: {moved or 'none'}"
            )
    return "\n".join(lines)


def limits_table(outcome: Compiled) -> str:
    """What a step needs beside what its program does."""
    found, spent, program = outcome.limits, outcome.time, outcome.program
    num_devices = program.mesh.size
    rates = (None,) * 3 if spent is None else _rates(outcome)
    products = found.products
    listed = (
        ("products", "TFLOP", 1e12, products.useful / num_devices, products.total / num_devices),
        ("memory", "GiB", chips.GIB, found.memory.least, found.memory.compiled),
        ("network", "GiB", chips.GIB, found.network.least, found.network.compiled),
    )
    rows = [("limit", "least", "compiled", "", "ratio", "least", "compiled")]
    for (name, unit, size, least, compiled), rate in zip(listed, rates, strict=True):
        ratio = f"{compiled / least:.2f}" if least else "-"
        seconds = ("-", "-") if not rate else tuple(f"{value / rate:.3f} s" for value in (least, compiled))
        rows.append((name, _number(least / size), _number(compiled / size), unit, ratio, *seconds))
    lines = [
        f"limits of {program.name} at {program.length} tokens, one device",
        formats.aligned(rows, left=(0, 3)),
        "products: "
        + ", ".join(f"{_share(part, products.total)} {name}" for name, part in products._asdict().items()),
        *(
            f"{name} at least: " + ", ".join(f"{key} {gib(part)}" for key, part in one.parts.items()) + " GiB"
            for name, one in (("memory", found.memory), ("network", found.network))
        ),
    ]
    if spent is not None:
        lines.append(
            f"bound by {_BOUNDS[spent.bound]}: {max(spent[:3]):.3f} s of it alone, {spent.total_s:.3f} s as scheduled"
        )
    return "\n".join([*lines, _LIMIT_TERMS])


def _rates(outcome: Compiled) -> tuple[float, float, float]:
    """FLOPs and bytes per second that the times of a program were made with."""
    found, spent = outcome.limits, outcome.time
    done = (
        found.products.total / outcome.program.mesh.size,
        found.memory.compiled,
        found.network.compiled,
    )
    return tuple(work / seconds if seconds else 0.0 for work, seconds in zip(done, spent[:3], strict=True))


def _number(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _share(part: float, whole: float) -> str:
    return f"{round(part / whole, 3) + 0.0:.1%}"  # no "-0.0%"


def limits_json(outcome: Compiled) -> dict[str, Any] | None:
    """The same as JSON values; products of all devices, bytes of one."""
    if outcome.limits is None:
        return None
    found = outcome.limits
    sizes = {
        name: {"least": one.least, "compiled": one.compiled, "parts": one.parts}
        for name, one in (("memory", found.memory), ("network", found.network))
    }
    return {"products": found.products._asdict(), **sizes}


def trials_table(trials: Sequence[search.Trial], on_frontier: Sequence[search.Trial]) -> str:
    """Layouts in their order; those that no other beats in both memory and time are marked."""
    head = "remat, data x fsdp x tensor, micro-batch, peak GiB, verdict, products, memory, network, one call, frontier"
    rows = [tuple(head.split(", "))]
    for trial in trials:
        spent = trial.outcome.time
        seconds = ("-",) * 4 if spent is None else tuple(f"{term:.3f} s" for term in spent[:4])
        remat, shape, micro = trial.overrides.values()
        layout = (remat, " x ".join(map(str, shape)), str(micro))
        memory = (gib(trial.outcome.peak_bytes), trial.outcome.verdict)
        rows.append((*layout, *memory, *seconds, "*" if trial in on_frontier else ""))
    return f"{formats.aligned(rows, left=(0, 1, 4, 9))}\n{_FRONTIER_TERMS}"


_WRITTEN_TERMS = (
    f"(write, reword: {writing.BLOCK} texts, by formula: prompts read, and then for each token of a text the weights "
    "and the cache read once for all rows; candidates: a pass over a batch of prompts with them. Prompts count whole, "
    "of which a run reads once what several begin with; the examples before a question to reword are left out. Answers "
    "are as long as right ones, though models that were not trained to end seldom do; rewordings as long as prompts. "
    "What filters leave out of a training is not known: its rows are those of answers that all agree)"
)
_WRITTEN = {"write", "reword", "candidates"}  # rows that are no lower bound


def total_table(found: total.Total) -> str:
    """The calls of a whole run and its hours."""
    rows = [("program", "model", "stages", "calls", "one call", "together")]
    rows += [
        (row.name, row.model, str(row.stages), str(row.calls), f"{row.call_s:.3f} s", _duration(row.seconds))
        for row in found.rows
    ]
    lengths = "as the data at hand is packed" if found.length is None else f"at {found.length} tokens"
    bound = "about" if _WRITTEN & {row.name for row in found.rows} else "at least"
    lines = [
        f"the whole run, all seeds, {lengths}: {bound} {_duration(3600 * found.hours)}, "
        f"{found.device_hours:.3g} device hours",
        formats.aligned(rows, left=(0, 1)),
    ]
    if caches := [f"{row.name} {row.model} {gib(row.cache_bytes)}" for row in found.rows if row.cache_bytes]:
        lines.append(f"cache on each device beside the weights, in GiB: {', '.join(dict.fromkeys(caches))}")
    return "\n".join([*lines, _terms(found)])


def _terms(found: total.Total) -> str:
    names = {row.name for row in found.rows}
    return "\n".join([_TOTAL_TERMS, *([_WRITTEN_TERMS] if names & {programs.COMPLETION, *_WRITTEN} else [])])


def total_json(found: total.Total) -> dict[str, Any]:
    """The same as JSON values."""
    return found._asdict() | {"rows": [row._asdict() for row in found.rows], "note": _terms(found)}


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def gib(num_bytes: float) -> str:
    """Bytes in GiB, to three digits or so."""
    value = num_bytes / chips.GIB
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def workload_text(work: workload.Workload, name: str) -> str:
    """Models, stages and token counts, as far as they are known."""
    lines = [f"\n{name}"] if name else []
    lines += [f"{slot} model: {model.title}" for slot, model in work.models.items()]
    lines += [f"not at hand: {reason}" for reason in work.missing]
    if work.stages:
        lines.append(f"{len(work.stages)} stages")
        width = max(len(stage.label) for stage in work.stages)
        states = {True: "done    ", False: "to run  ", None: ""}
        lines += [
            f"  {states[stage.is_done]}{stage.label.ljust(width)}  {stage.detail}" for stage in work.stages
        ]
    if work.trainings:
        lines.append("training, of the first seed:")
        lines += [f"  {_describe(training)}" for training in work.trainings]
    return "\n".join(lines)


def _describe(training: workload.Training) -> str:
    examples = " and ".join(f"{count} {kind}" for kind, count in training.num_examples.items())
    described = f"{training.label}: {examples} examples, {training.num_steps} steps"
    if training.num_tokens is None:
        return described
    shapes = ", ".join(f"{rows} x {length}" for rows, length in training.shapes)
    share = training.num_tokens / training.num_slots
    answers = f", answers of {training.mean_answer:.1f} tokens" if training.mean_answer else ""
    tokens = f"{training.num_tokens} tokens in {training.num_slots} slots ({share:.0%})"
    return f"{described}, {tokens}, rows {shapes}{answers}"


def workload_json(work: workload.Workload) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "models": {role: model.name for role, model in work.models.items()},
        "missing": list(work.missing),
        "stages": [stage._asdict() for stage in work.stages],
        "trainings": [training._asdict() for training in work.trainings],
    }
