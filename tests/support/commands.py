"""Runs in processes of their own: started, and how they ended."""

import os
import socket
import subprocess
import sys

from support import paths

SMALL = (
    "--config=configs/qwen.py:smoke",
    "--config.methods=selective",
    "--config.data.num_train=128",
    "--config.data.num_test=21",
    "--config.checkpoint.every_steps=3",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(
    workdir, *arguments: str, devices: int = 1, errors: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen:
    command = [sys.executable, "-m", "selw2s_jax.main", *SMALL, f"--workdir={workdir}", *arguments]
    flags = f"--xla_force_host_platform_device_count={devices}"
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags} | environment
    return subprocess.Popen(
        command, cwd=paths.REPO, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True
    )


def endings(processes) -> list[tuple[int, str, str]]:
    """Exit status, standard output and the last line of standard error of each, which must end."""
    found = []
    for process in processes:
        out, errors = process.communicate(timeout=400)
        lines = [line for line in errors.splitlines() if not line.startswith("[Gloo]")]
        found.append((process.returncode, out, lines[-1] if lines else ""))
    return found
