"""Plans of models that people train, on machines that people rent, as the tables of docs/planning.md.

    python -m benchmarks.plans [--models=qwen-14b,...] [--targets=a100-80gb:8,...] [--output=plans.json]

One row for each: the layout that is chosen, what it takes of memory and time, and what bounds it. Each is a process of
`python -m selw2s_jax.plan --layout=auto` (compilers: its extras plan-gpu and plan-tpu); what was compiled once is kept.
"""

import argparse
import json
import pathlib
import subprocess
import sys

MODELS = ("qwen-14b", "llama-3-8b", "qwen2.5-32b")
TARGETS = ("a100-80gb:8", "h100:8", "tpu-v5e:4x4", "tpu-v5p:2x2x1")
TRAINED = ("all", "lora")
_CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"


def plan(model: str, trained: str, target: str, length: int) -> dict:
    """The plan as JSON values, or {"error": its last line}."""
    command = [sys.executable, "-m", "selw2s_jax.plan", f"--config={_CONFIGS}/qwen.py", f"--target={target}"]
    command += [f"--lengths={length}", "--layout=auto", "--json", f"--config.strong.model={model}"]
    ended = subprocess.run(
        [*command, f"--config.training.trained={trained}"], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        return {"error": (ended.stderr.strip().splitlines() or [""])[-1]}
    return json.loads(ended.stdout)


def row(model: str, trained: str, target: str, found: dict) -> str:
    """A line of a Markdown table."""
    name = f"| {model} | {'full' if trained == 'all' else 'LoRA'} | `{target}` "
    if "error" in found:
        return f"{name}| {found['error']} |"
    step = found["steps"][-1]
    chosen = found["layouts"][0]["config"]
    mesh = " x ".join(map(str, chosen["mesh.shape"]))
    memory = f"{step['peak_gib']:.1f} of {step['usable_gib']:.1f}"
    layout = f"{chosen['execution.remat']}, {mesh}, {chosen['training.micro_batch_size']}"
    spent = step["estimate"]
    if spent is None:
        return f"{name}| {layout} | {memory} | {step['verdict']} | - |"
    limits = step["limits"]
    useful = limits["products"]["useful"] / sum(limits["products"].values())
    memory_ratio = limits["memory"]["compiled"] / limits["memory"]["least"]
    least = limits["network"]["least"]
    network_ratio = f"{limits['network']['compiled'] / least:.2f}" if least else "-"
    terms = " | ".join(f"{spent[term]:.3f}" for term in ("matmul_s", "memory_s", "interconnect_s", "total_s"))
    bound = {"matmul": "products", "memory": "memory", "interconnect": "network"}[spent["bound"]]
    return (
        f"{name}| {layout} | {memory} | {step['verdict']} | {useful:.0%} | {memory_ratio:.1f} | {network_ratio} "
        f"| {terms} | {bound} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--trained", default=",".join(TRAINED))
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    plans = {}
    for model in arguments.models.split(","):
        for trained in arguments.trained.split(","):
            for target in arguments.targets.split(","):
                found = plan(model, trained, target, arguments.length)
                plans[f"{model} {trained} {target}"] = found
                print(row(model, trained, target, found), flush=True)
                if arguments.output:
                    arguments.output.write_text(json.dumps(plans, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
