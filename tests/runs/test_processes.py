"""Runs by two processes: as one process would, stopped together, and refused where they do not go together."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from support import commands, item_runs, paths, processes_worker

from selw2s_jax import main as main_command
from selw2s_jax.runtime import artifacts


def start_two(
    workdirs, *arguments: str, own: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()), **environment
):
    """Two processes with two devices each."""
    joined = (f"--coordinator_address=localhost:{commands.free_port()}", "--num_processes=2")
    return [
        commands.start(
            workdir, *joined, f"--process_id={number}", *arguments, *more, devices=2, **environment
        )
        for number, (workdir, more) in enumerate(zip(workdirs, own, strict=True))
    ]


def results(workdir) -> dict:
    return json.loads((workdir / "results.json").read_text())


def assert_close(workdir, other) -> None:
    """Equal labels, decisions and numbers to what another order of additions leaves."""
    ours, theirs = results(workdir), results(other)
    keys = [
        {stage["label"]: stage["key"] for stage in found["manifest"]["stages"]} for found in (ours, theirs)
    ]
    assert keys[0] == keys[1]
    assert ours["records"] == theirs["records"]
    for folder in (other / "artifacts" / "predictions").iterdir():
        inputs = json.loads((folder / "manifest.json").read_text())["inputs"]
        tables = [
            artifacts.Store(place).find("predictions", inputs).read_table("predictions.parquet")
            for place in (workdir, other)
        ]
        assert tables[0]["example_id"].tolist() == tables[1]["example_id"].tolist()
        for name in set(tables[1]) - {"example_id"}:
            np.testing.assert_allclose(tables[0][name], tables[1][name], atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone") / "run"
    (ended,) = commands.endings([commands.start(workdir)])
    assert ended[0] == 0, ended
    return workdir


@pytest.mark.slow
def test_two_processes_stop_together_and_one_goes_on(tmp_path, alone):
    """One of them is told to stop; both save at one step. A single process with one device finishes the run."""
    workdir = tmp_path / "run"
    processes = start_two((workdir, workdir))
    for line in processes[0].stdout:
        if "selective, seed 0" in line and line.startswith("["):
            break
    processes[1].send_signal(signal.SIGTERM)
    for status, out, last in commands.endings(processes):
        assert status == 75, (out, last)
        assert last.startswith("stopped: ") and last.endswith("the same command goes on from there")
    (ended,) = commands.endings([commands.start(workdir)])
    assert ended[0] == 0, ended
    assert not list((workdir / "checkpoints").iterdir())
    assert_close(workdir, alone)
    manifest = results(workdir)["manifest"]
    assert (manifest["processes"], manifest["devices"]) == (1, 1)


@pytest.mark.slow
def test_two_processes_train_probes_as_one_does(tmp_path):
    probes = "--config.training.trained=heads"
    ((status, *_),) = commands.endings([commands.start(tmp_path / "alone", probes)])
    assert status == 0
    workdir = tmp_path / "run"
    for status, out, last in commands.endings(start_two((workdir, workdir), probes)):
        assert status == 0, (out, last)
    assert_close(workdir, tmp_path / "alone")
    item_runs.assert_results_are_theirs(workdir)


@pytest.mark.slow
def test_processes_that_do_not_go_together_are_refused(tmp_path):
    own = ((), ("--config.p_ik.gamma=0.6",))
    for status, _, last in commands.endings(start_two((tmp_path / "run", tmp_path / "run"), own=own)):
        assert status == 2
        assert last.startswith("error: process 1 has another config (") and "same command" in last
    for status, _, last in commands.endings(start_two((tmp_path / "one", tmp_path / "other"))):
        assert status == 2
        assert "of process 1 is not that of process 0: choose a --workdir that all hosts share" in last
    missing = ("--config.data.train_file=none.jsonl",)
    for status, _, last in commands.endings(start_two((tmp_path / "run", tmp_path / "run"), *missing)):
        assert status == 2
        assert last.startswith("error: process 0: none.jsonl is missing")


@pytest.mark.slow
@pytest.mark.ci
def test_two_processes_stay_together_where_one_fails(tmp_path):
    port = commands.free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, processes_worker.__file__, str(tmp_path), str(port), str(number)],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": commands.xla_flags(2)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for status, out, last in commands.endings(processes):
        assert (status, last) == (0, "all as it should be"), out


@pytest.mark.slow
@pytest.mark.ci
def test_a_process_left_alone_says_so(tmp_path):
    port = commands.free_port()
    joined = (f"--coordinator_address=localhost:{port}", "--num_processes=2", "--distributed_timeout=2")
    processes = [commands.start(tmp_path, *joined, "--process_id=0")]
    ((status, out, last),) = commands.endings(processes)
    assert status == 2 and f"waiting up to 2 s for the other processes at localhost:{port}" in out
    assert (
        last.startswith("error: the processes did not all meet") and "did not start, or failed early" in last
    )
    ((status, _, last),) = commands.endings([commands.start(tmp_path, *joined, "--process_id=1")])
    assert status == 2 and "process 0 is not to be reached there" in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num_processes=2",), "go together: give all three"),
        (("--distributed=off", "--process_id=0"), "--distributed=off goes with none of"),
        (
            ("--coordinator_address=a:1", "--num_processes=2", "--process_id=2"),
            "--process_id=2 must lie in [0, 2)",
        ),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(tmp_path, arguments, message):
    given = (*commands.SMALL, f"--workdir={tmp_path}", *arguments)
    commands.assert_refused(commands.call(main_command.main, *given, cwd=paths.REPO), message)


def test_without_others_there_is_none_to_join(tmp_path):
    ((status, _, last),) = commands.endings([commands.start(tmp_path, "--distributed=on")])
    assert status == 2 and last.startswith("error: the processes could not be joined")
