"""What was measured as a table for people, and as JSON values."""

from typing import Any

import jax
import numpy as np

from selw2s_jax.analysis import formats
from selw2s_jax.benchmark import loading, measure, peaks, workloads, writing
from selw2s_jax.plan import compiled
from selw2s_jax.plan import report as plan_report
from selw2s_jax.run import sweep

OUT_OF_MEMORY = "out of memory"
MFU_FORMULA = (
    "mfu = model FLOPs of the useful tokens / (seconds x peak FLOP/s of all devices); model FLOPs as "
    "plan.estimate.step_flops counts them: per token 2 x parameters of the layers' products (6 x where all are "
    "trained) and 4 x layers x width x tokens of its example for attention (12 x), of the last layer keys and "
    "values alone but for tokens that are read; of learnt answers 6 x vocabulary x width per token (of adapters 4); "
    "nothing recomputed or padded"
)

# Of the table: heading and key.
_COLUMNS = (
    ("p50 ms", "step_ms_p50"),
    ("p90 ms", "step_ms_p90"),
    ("compile s", "compile_s"),
    ("examples/s", "examples_per_s"),
    ("useful tok/s", "useful_tokens_per_s"),
    ("padded tok/s", "padded_tokens_per_s"),
    ("efficiency", "padding_efficiency"),
    ("MFU", "mfu"),
    ("peak GiB", "peak_gib"),
    ("host wait ms", "host_wait_ms"),
)


def row(work: workloads.Workload, measured: measure.Measured, peak: peaks.Peak) -> dict[str, Any]:
    """The numbers of a program; `docs/benchmarking.md` says what each means."""
    seconds, counts = float(measured.step_s.sum()), measured.counts
    flops = measure.model_flops(work, counts)
    p50, p90 = np.percentile(measured.step_s, (50, 90))
    return {
        "mesh": plan_report.mesh_json(work.program.mesh),
        "remat": work.program.costs.get("remat"),
        "num_micro": work.program.costs.get("num_micro", 1),
        "step_ms_p50": _round(1e3 * p50),
        "step_ms_p90": _round(1e3 * p90),
        "compile_s": _round(sum(measured.compile_s.values())),
        "examples_per_s": _round(counts.num_examples / seconds),
        "useful_tokens_per_s": _round(counts.num_tokens / seconds),
        "padded_tokens_per_s": _round(counts.num_slots / seconds),
        "padding_efficiency": counts.padding_efficiency,
        "mfu": _round(flops / (seconds * peak.flops)),
        "peak_gib": compiled.to_gib(measured.peak_bytes),
        "peak_gib_source": measured.peak_source,
        "host_wait_ms": _round(1e3 * measured.host_wait_s),
        "resident_step_ms_p50": _round(1e3 * float(np.median(measured.resident_step_s))),
        "prepare_s": _round(work.prepare_s),
        "num_steps": len(measured.step_s),
        "seconds": seconds,
        "num_examples": counts.num_examples,
        "useful_tokens": counts.num_tokens,
        "answer_tokens": counts.num_answered,
        "padded_tokens": counts.num_slots,
        "model_flops": flops,
        "peak_flops": peak.flops,
        "peak_flops_source": peak.source,
        "shapes": [
            {
                "rows": shape[0],
                "tokens": shape[1],
                "num_steps": measured.shapes.get(shape, 0),
                "compile_s": _round(compile_s),
            }
            for shape, compile_s in measured.compile_s.items()
        ],
    }


def load_row(loaded: loading.Loaded) -> dict[str, Any]:
    """The numbers of reading a checkpoint."""
    p50, p90 = np.percentile(loaded.seconds, (50, 90))
    return {
        "step_ms_p50": _round(1e3 * p50),
        "step_ms_p90": _round(1e3 * p90),
        "load_s": _round(p50),
        "first_load_s": _round(float(loaded.seconds[0])),
        "gb_per_s": _round(loaded.num_bytes / 1e9 / p50),
        "num_bytes": loaded.num_bytes,
        "num_steps": len(loaded.seconds),
    }


def write_row(written: writing.Written) -> dict[str, Any]:
    """The numbers of answers that are written."""
    median, work = float(np.median(written.seconds)), written.work
    return {
        "step_ms_p50": _round(1e3 * median),
        "first_call_s": _round(written.first_s),
        "tokens_per_s": _round(work.tokens / median),
        "prompts_per_s": _round(written.num_prompts / median),
        "num_prompts": written.num_prompts,
        "num_steps": len(written.seconds),
        **vars(work),
    }


def _round(value: float) -> float:
    """To five significant digits."""
    return float(f"{value:.5g}")


def to_json(rows: list[dict[str, Any]], notes: list[str], num_steps: int, warmup: int) -> dict[str, Any]:
    """The whole benchmark; mesh and peak are those of the first row that has them."""
    timed = next((one for one in rows if "mfu" in one), {})
    return {
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "jax": jax.__version__,
        "mesh": timed.get("mesh"),
        "num_steps": num_steps,
        "warmup": warmup,
        "rows": rows,
        "notes": notes,
        "mfu_formula": MFU_FORMULA,
        "peak_flops": timed.get("peak_flops"),
        "peak_flops_source": timed.get("peak_flops_source"),
    }


def text(found: dict[str, Any]) -> str:
    """`to_json`'s result for people."""
    lines = [f"\n{found['num_devices']} x {found['device']}, jax {found['jax']}"]
    timed = [one for one in found["rows"] if one["program"] not in ("load", "write")]
    if timed:
        lines.append(_table(timed))
    for one in timed:
        if "error" not in one:
            lines.append(f"{_name(one)}: {_details(one)}")
    for one in found["rows"]:
        if one["program"] == "write":
            lines.append(f"{_name(one)}: {one['model']}: {_written(one)}")
        elif one["program"] == "load":
            lines.append(
                f"load {one['model']}: {one['load_s']:.3g} s (first {one['first_load_s']:.3g} s), "
                f"{one['gb_per_s']:.3g} GB/s of {one['num_bytes'] / 1e9:.3g} GB"
            )
    lines += found["notes"]
    peaks_found = {(one["peak_flops"], one["peak_flops_source"]) for one in timed if "error" not in one}
    lines += [
        f"peak: {flops / 1e12:.4g} TFLOP/s of all devices ({source})" for flops, source in sorted(peaks_found)
    ]
    if peaks_found:
        lines.append(found["mfu_formula"])
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [("program", "model", *(heading for heading, _ in _COLUMNS))]
    for one in rows:
        if "error" in one:
            cells = [one["error"], *[""] * (len(_COLUMNS) - 1)]
        else:
            cells = [f"{one[key]:.4g}" for _, key in _COLUMNS]
        lines.append((_name(one), one["model"], *cells))
    return formats.aligned(lines, left=(0, 1))


def _name(one: dict[str, Any]) -> str:
    axes = " ".join(f"{key}={sweep.spell(value)}" for key, value in one["axes"].items())
    return " ".join(filter(None, (one["program"], one["method"], axes)))


def _written(one: dict[str, Any]) -> str:
    if "error" in one:
        return one["error"]
    return (
        f"{one['tokens_per_s']:.4g} tokens/s, {one['num_prompts']} prompts of {one['data']} in "
        f"{one['step_ms_p50'] / 1e3:.3g} s, {one['tokens']} tokens written, {one['prompt_tokens']} read "
        f"(first {one['first_call_s']:.3g} s)"
    )


def _details(one: dict[str, Any]) -> str:
    mesh = " x ".join(f"{axis} {size}" for axis, size in one["mesh"].items())
    shapes = ", ".join(f"{shape['rows']} x {shape['tokens']}" for shape in one["shapes"])
    if one["remat"] is not None:
        mesh += f"; remat {one['remat']}"
    if one["num_micro"] > 1:
        mesh += f"; {one['num_micro']} micro-batches"
    return f"{one['data']}; mesh {mesh}; rows x tokens {shapes}; peak memory by the {one['peak_gib_source']}"
