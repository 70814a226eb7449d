"""All of SciQ through the whole pipeline on random checkpoints: seconds per stage and peak memory.

    python benchmarks/sciq_pipeline.py --data=FOLDER --output=benchmarks/results/sciq_pipeline.json

FOLDER holds `sciq`, `ai2_arc` and `tokenizers/{gpt2,qwen1}` (vocab.json and merges.txt; qwen.tiktoken). The
checkpoints have GPT-2's and Qwen's real vocabularies, and few and narrow layers: what they learn means
nothing, what they cost in data handling, scoring and optimizer state does.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import outputs

from selw2s_jax.hf import random_checkpoint
from selw2s_jax.models import registry


def small(name: str, *, num_layers: int, embed_dim: int, num_heads: int) -> registry.ModelConfig:
    """A shipped model's family, vocabulary and context at a small depth and width."""
    shipped = registry.MODELS[name].config
    return dataclasses.replace(
        shipped,
        num_layers=num_layers,
        embed_dim=embed_dim,
        num_heads=num_heads,
        head_dim=embed_dim // num_heads,
        mlp_dim=shipped.mlp_dim * embed_dim // shipped.embed_dim,
    )


WEAK = small("gpt2", num_layers=2, embed_dim=32, num_heads=2)
STRONG = small("qwen-1.8b", num_layers=3, embed_dim=64, num_heads=4)


def write_checkpoints(folder: pathlib.Path, data: pathlib.Path) -> None:
    """Random checkpoints `weak` and `strong` with the real tokenizers' files."""
    for name, config, tokenizer in (("weak", WEAK, "gpt2"), ("strong", STRONG, "qwen1")):
        random_checkpoint.write_random_checkpoint(folder / name, config, seed=len(name))
        for path in (data / "tokenizers" / tokenizer).iterdir():
            shutil.copy(path, folder / name / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("overrides", nargs="*", help="further --config.key=value, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        write_checkpoints(folder, arguments.data)
        command = [
            sys.executable, "-m", "selw2s_jax.main", "--config=configs/qwen.py", f"--workdir={folder / 'run'}",
            f"--config.data.source={arguments.data}", f"--config.weak.model={folder / 'weak'}",
            f"--config.strong.model={folder / 'strong'}", "--config.seeds=0",
            "--config.precision.compute_dtype=float32", "--config.training.learning_rate=1e-3",
            *arguments.overrides,
        ]  # fmt: skip
        start = time.monotonic()
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.monotonic() - start
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        again = time.monotonic() - start
        records = json.loads((folder / "run" / "results.json").read_text())["records"]
    print(output.replace(str(folder), "FOLDER"))
    stages = dict(re.findall(r"^\[\d+/\d+\] (.*)\n(?:  .*\n)*?  ([\d.]+) s$", output, re.MULTILINE))
    report = {
        "machine": outputs.MACHINE,
        "command": " ".join(["python benchmarks/sciq_pipeline.py --data=FOLDER", *arguments.overrides]),
        "seconds": round(seconds, 1),
        "seconds_of_second_run": round(again, 1),
        "peak_host_memory_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9, 2),
        "seconds_per_stage": {label: float(value) for label, value in stages.items()},
        "test_items": records[0]["n"],
        "weak": dataclasses.asdict(WEAK),
        "strong": dataclasses.asdict(STRONG),
    }
    outputs.write(report, arguments.output)


if __name__ == "__main__":
    main()
