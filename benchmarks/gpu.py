"""Our train step beside the torch loops on one GPU in bfloat16, in one call of under eight minutes.

    python -m benchmarks.gpu --output=benchmarks/results/gpu.json

For each model and data set: random weights, random tokens of the data set's lengths, steps of 32 examples with metrics
read one step late, one worker on the GPU at a time. What the budget leaves no time for is named.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import outputs

REPO = pathlib.Path(__file__).resolve().parent.parent
# The least costly first, and what has a goal before the rest.
CASES = (
    ("gpt2", "sciq"),
    ("gpt2", "boolq"),
    ("qwen-1.8b", "sciq"),
    ("qwen-1.8b", "boolq"),
    ("qwen-7b", "sciq"),
    ("gpt2", "cosmos_qa"),
    ("qwen-1.8b", "cosmos_qa"),
    ("qwen-7b", "boolq"),
    ("qwen-7b", "cosmos_qa"),
)
_REMAT = {"gpt2": "none", "qwen-1.8b": "none", "qwen-7b": "full"}  # what fits into 139 GiB


def measure(args, model: str, task: str, seconds: float) -> dict:
    """One case in a process tree of its own, ended after so many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.side_by_side", f"--lengths={task}", f"--model={model}"]
        command += [f"--device={args.device}", f"--dtype={args.dtype}", f"--remat={_REMAT[model]}"]
        command += [
            "--random_weights",
            "--alone",
            f"--steps_at_once={args.steps_at_once}",
            "--score_rounds=0",
        ]
        command += [f"--rounds={args.rounds}", "--steps=8", f"--attention={args.attention}"]
        command += [f"--output={output}", "--peers", *args.peers]
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its workers too, which hold the GPU's memory
            process.wait()
            return {"left_out": f"not done after {seconds:.0f} s"}
        if status:
            return {"left_out": f"ended with status {status}"}
        return json.loads(output.read_text()) | {"wall_s": round(time.monotonic() - start, 1)}


def step_ms(found: dict, steps_at_once: int) -> dict[str, float]:
    """The median over the rounds of each worker."""
    return {
        name: round(1000 * statistics.median(times) / steps_at_once, 2)
        for name, times in found.get("train", {}).get("seconds", {}).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget_s", type=float, default=460)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--attention", default="xla")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps_at_once", type=int, default=10)
    parser.add_argument("--peers", nargs="*", default=["tuned", "openai"])
    parser.add_argument("--cases", type=int, default=len(CASES), help="only so many of them")
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    deadline, cases = time.monotonic() + args.budget_s, []
    for model, task in CASES[: args.cases]:
        left = deadline - time.monotonic()
        found = measure(args, model, task, left) if left > 20 else {"left_out": "no time"}
        cases.append({"model": model, "task": task, "step_ms": step_ms(found, args.steps_at_once)} | found)
        said = cases[-1].get("left_out") or cases[-1]["step_ms"]
        print(f"{model} {task}: {said}", file=sys.stderr, flush=True)
    outputs.write({"dtype": args.dtype, "attention": args.attention, "cases": cases}, args.output)


if __name__ == "__main__":
    main()
