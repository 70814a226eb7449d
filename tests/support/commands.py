"""Commands in this process, and runs in processes of their own: started, and how they ended."""

import contextlib
import io
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

from support import paths

SMALL = (
    "--config=configs/qwen.py:smoke",
    "--config.methods=selective",
    "--config.data.num_train=128",
    "--config.data.num_test=21",
    "--config.checkpoint.every_steps=3",
)


class Ended(NamedTuple):
    """How a command ended, under the names of `subprocess`."""

    returncode: int
    stdout: str
    stderr: str


def call(main: Callable[[list[str]], None], *arguments: str, cwd: pathlib.Path, **environment: str) -> Ended:
    """Calls the `main` of a command in that folder; the environment and the handlers of signals are kept."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, environment),
    ):
        try:
            main(list(arguments))
        except SystemExit as end:
            status = end.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Ended(status, out.getvalue(), err.getvalue())


def process(command: str, *arguments: str, cwd: pathlib.Path, **environment: str) -> Ended:
    """Runs `python -m selw2s_jax.<command>` in that folder, without network."""
    ended = subprocess.run(
        [sys.executable, "-m", f"selw2s_jax.{command}", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"} | environment,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def assert_refused(ended: Ended, part: str) -> None:
    """Exit status 2, nothing on standard output, and on standard error one line that has this part."""
    assert ended.returncode == 2 and not ended.stdout, ended
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert part in ended.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def xla_flags(devices: int = 1) -> str:
    """XLA_FLAGS of a process with so many CPU devices, which compiles as quickly as this one (conftest.py)."""
    return f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"


def start(
    workdir, *arguments: str, devices: int = 1, errors: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen:
    command = [sys.executable, "-m", "selw2s_jax.main", *SMALL, f"--workdir={workdir}", *arguments]
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices)} | environment
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
