"""A folder where launch scripts find stand-ins for the tools they call, and what they are started with."""

import json
import os
import pathlib
import re
import subprocess
import sys

from support import paths

LAUNCH = paths.REPO / "launch"
STAND_INS = paths.TESTS / "launch" / "stand_ins" / "commands.py"
TOOLS = ("gcloud", "sbatch", "srun", "squeue", "scancel", "scontrol", "kubectl", "sky", "python", "python3")
MAIN = ("--config=configs/qwen.py:smoke", "--workdir=gs://bucket/run", "--config.methods=it's one")
TPU = ("--zone=us-east5-a", "--project=mine", "--accelerator_type=v5p-8", "--poll_seconds=0")
# Each script with what it needs at least.
SCRIPTS = {
    "tpu_vm.sh": TPU,
    "slurm.sh": (),
    "jobset.sh": ("--image=selw2s:1", "--poll_seconds=0"),
    "sky.sh": (),
}


class Place:
    """A folder of stand-ins that come first on PATH."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        bin_folder = folder / "bin"
        for name in ("bin", "vms", "queues", "hosts"):
            (folder / name).mkdir()
        for tool in TOOLS:
            quick = "" if tool in ("kubectl", "sky") else "-S"
            command = f'exec "{sys.executable}" {quick} "{STAND_INS}" {tool} "$@"'
            (bin_folder / tool).write_text(f"#!/bin/sh\n{command}\n")
            (bin_folder / tool).chmod(0o755)
        kept = {
            name: value for name, value in os.environ.items() if not re.match("SELW2S_|XLA_|LIBTPU", name)
        }
        self.environment = kept | {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "STAND_INS": str(folder),
        }

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(LAUNCH / script), *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
        )

    def launch(self, script: str, *flags: str, **environment: str) -> subprocess.CompletedProcess:
        return self.run(script, *SCRIPTS[script], *flags, "--", *MAIN, **environment)

    def end_in(self, *endings: str) -> None:
        (self.folder / "endings").write_text("\n".join(endings))

    def _lines(self, name: str) -> list[dict]:
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []

    def calls(self, *start: str) -> list[list[str]]:
        """The calls whose tool and first arguments are these."""
        calls = [[call["tool"], *call["arguments"]] for call in self._lines("calls.jsonl")]
        return [call for call in calls if tuple(call[: len(start)]) == start]

    def jobs(self) -> list[dict]:
        return self._lines("jobs.jsonl")


def job_arguments(*more: str) -> list[str]:
    return ["-m", "selw2s_jax.main", *MAIN, *more]


def gcloud(*start: str) -> tuple[str, ...]:
    return ("gcloud", "compute", "tpus", *start)
