"""A plan as text for people, and as JSON values."""

from collections.abc import Sequence
from typing import Any

import jax

from selw2s_jax.analysis import formats
from selw2s_jax.plan import chips, search, targets, total, workload
from selw2s_jax.plan.compiled import Compiled, to_gib

_ESTIMATE = (
    "estimate: a roofline of published peaks, the longest of the terms as if the others were hidden behind it; real "
    "steps take longer"
)
_MEMORY_TERMS = (
    "(length: tokens of each example; rows: packed rows of a call x their tokens; state: what stays on a device "
    "between calls; peak: state and temporaries)"
)
_COST_TERMS = (
    "(one call: a train step of the whole batch, or a pass over one batch of texts; TFLOP: of all devices; bound: the "
    "term that is longest)"
)
_TOTAL_TERMS = (
    "(an estimate, and a lower bound as its calls are: loading, compiling, saving, the solved problems of few-shot "
    "prompts and what models write at length are not in it; calls of programs that were not compiled are taken without "
    "communication, --steps=all compiles them)"
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
    rows = [("program", "length", "TFLOP", "matmul", "memory", "interconnect", "one call", "bound")]
    for outcome in outcomes:
        time = outcome.time
        seconds = ("-", "-", "-", "-", "-")
        if time is not None:
            terms = (time.matmul_s, time.memory_s, time.interconnect_s, time.total_s)
            seconds = (*(f"{term:.3f} s" for term in terms), time.bound)
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


def trials_table(trials: Sequence[search.Trial]) -> str:
    """Meshes in their order."""
    rows = [("data x fsdp x tensor", "peak GiB", "verdict", "matmul", "memory", "interconnect", "one call")]
    for trial in trials:
        time = trial.outcome.time
        seconds = ("-",) * 4 if time is None else tuple(f"{term:.3f} s" for term in time[:4])
        shape = " x ".join(map(str, trial.overrides["mesh.shape"]))
        rows.append((shape, gib(trial.outcome.peak_bytes), trial.outcome.verdict, *seconds))
    return formats.aligned(rows, left=(0, 2))


def total_table(found: total.Total) -> str:
    """The calls of a whole run and its hours."""
    rows = [("program", "model", "stages", "calls", "one call", "together")]
    rows += [
        (row.name, row.model, str(row.stages), str(row.calls), f"{row.call_s:.3f} s", _duration(row.seconds))
        for row in found.rows
    ]
    lengths = "as the data at hand is packed" if found.length is None else f"at {found.length} tokens"
    return (
        f"the whole run, all seeds, {lengths}: at least {_duration(3600 * found.hours)}, "
        f"{found.device_hours:.3g} device hours\n{formats.aligned(rows, left=(0, 1))}\n{_TOTAL_TERMS}"
    )


def total_json(found: total.Total) -> dict[str, Any]:
    """The same as JSON values."""
    return found._asdict() | {"rows": [row._asdict() for row in found.rows], "note": _TOTAL_TERMS.strip("()")}


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
    return f"{described}, {training.num_tokens} tokens in {training.num_slots} slots ({share:.0%}), rows {shapes}"


def workload_json(work: workload.Workload) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "models": {role: model.name for role, model in work.models.items()},
        "missing": list(work.missing),
        "stages": [stage._asdict() for stage in work.stages],
        "trainings": [training._asdict() for training in work.trainings],
    }
