"""Stand-ins for gcloud, Slurm, kubectl, sky and python: they record their calls and run here what they are given.

    python -S commands.py TOOL ARGUMENTS...           (without -S for kubectl and sky, which read YAML)

$STAND_INS is their folder: calls.jsonl has all calls, jobs.jsonl the starts of the main job, and `endings` what those
end in, one line for each start on a host: a status, and PREEMPTED where the machine goes with it. Without a line they
end in 0. $STAND_IN_HOLD leaves what is submitted in the queue. $STAND_IN_MAIN is an interpreter that runs the main job
for real; a run of srun whose output has $STAND_IN_TERM_AT is told to stop there, the first time.
"""

import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

HOME = pathlib.Path(os.environ["STAND_INS"])
REPO = pathlib.Path(__file__).resolve().parents[3]
RECORDED = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "TOKEN",
)


def record(name: str, **what) -> None:
    with (HOME / name).open("a") as file:
        file.write(json.dumps(what) + "\n")


def options(arguments: list[str]) -> dict[str, str]:
    return dict(argument.lstrip("-").partition("=")[::2] for argument in arguments if argument[0] == "-")


def places(arguments: list[str]) -> list[str]:
    return [argument for argument in arguments if argument[0] != "-"]


def python(arguments: list[str]) -> int:
    """The main job."""
    if "STAND_IN_MAIN" in os.environ:
        os.execv(os.environ["STAND_IN_MAIN"], [os.environ["STAND_IN_MAIN"], *arguments])
    host = os.environ.get("STAND_IN_HOST", "here")
    environment = {name: os.environ[name] for name in RECORDED if name in os.environ}
    record("jobs.jsonl", arguments=arguments, host=host, environment=environment)
    print(f"the main job on {host}", flush=True)
    ending = next_of(HOME / f"endings-{host.replace('/', '-')}", HOME / "endings")
    status, *gone = ending.split() or ["0"]
    if gone:
        (HOME / "vms" / host.split("/")[0]).write_text("PREEMPTED")
        (HOME / "queues" / host.split("/")[0]).write_text("SUSPENDED")
    return int(status)


def next_of(own: pathlib.Path, common: pathlib.Path) -> str:
    """The next line of the file `common` that this host has not had, "" at the end."""
    done = int(own.read_text()) if own.is_file() else 0
    own.write_text(str(done + 1))
    lines = common.read_text().splitlines() if common.is_file() else []
    return lines[done] if done < len(lines) else ""


def python3(arguments: list[str]) -> int:
    """What install.sh calls."""
    if arguments[:3] == ["-m", "uv", "venv"]:
        link = pathlib.Path(arguments[-1], "bin", "python")
        link.parent.mkdir(parents=True)
        link.symlink_to(shutil.which("python"))
    return 0


def gcloud(arguments: list[str]) -> int:
    (group, verb), names, given = arguments[2:4], places(arguments[4:]), options(arguments)
    name = names[-1].partition(":")[0]  # of a copy, the target
    assert arguments[:2] == ["compute", "tpus"] and given["zone"] and given["project"]
    vm, queue = HOME / "vms" / name, HOME / "queues" / name
    if verb == "create":
        assert not vm.exists() and not queue.exists()
        vm.write_text("CREATING READY" if group == "tpu-vm" else "READY")
        if group == "queued-resources":
            queue.write_text("WAITING_FOR_RESOURCES PROVISIONING ACTIVE")
    elif verb == "describe":
        file = vm if group == "tpu-vm" else queue
        if not file.exists():
            return 1
        state, *later = file.read_text().split()
        print(state)
        file.write_text(" ".join(later or [state]))
    elif verb == "delete":
        for file in (vm, queue):
            file.unlink(missing_ok=True)
        shutil.rmtree(HOME / "hosts" / name, ignore_errors=True)
    else:
        return on_hosts(verb, names, given, vm)
    return 0


def on_hosts(verb: str, names: list[str], given: dict[str, str], vm: pathlib.Path) -> int:
    if vm.read_text() != "READY":
        return 255
    homes = [HOME / "hosts" / vm.name / f"worker{number}" for number in range(2)]
    for home in homes:
        home.mkdir(parents=True, exist_ok=True)
    if verb == "scp":
        *sources, target = names
        for home in homes:
            for source in sources:
                shutil.copy(source, home / target.partition(":")[2])
        return 0
    command = ["bash", "-c", given["command"]]
    processes = [
        subprocess.Popen(
            command,
            cwd=home,
            env=os.environ | {"HOME": str(home), "STAND_IN_HOST": f"{home.parent.name}/{home.name}"},
        )
        for home in homes
    ]
    statuses = [process.wait() for process in processes]
    return next((status for status in statuses if status), 0)


def sbatch(arguments: list[str]) -> int:
    start = next(number for number, argument in enumerate(arguments) if argument[0] != "-")
    given, script = options(arguments[:start]), arguments[start:]
    print(17)
    (HOME / "queue").write_text("17\n")
    if "STAND_IN_HOLD" in os.environ:
        return 0
    first, _, last = given.get("array", "0").partition("-")
    for task in range(int(first), int(last or first) + 1):
        environment = {"SLURM_JOB_ID": str(17 + task), "SLURM_CPUS_PER_TASK": given["cpus-per-task"]}
        job = "17"
        if "array" in given:
            environment |= {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": str(task)}
            job = f"17_{task}"
        again = True
        while again:
            (HOME / "requeued").unlink(missing_ok=True)
            with (HOME / f"{job}.log").open("a") as log:
                subprocess.call(
                    ["bash", *script],
                    cwd=given["chdir"],
                    env=os.environ | environment | {"STAND_IN_HOST": job},
                    stdout=log,
                    stderr=log,
                )
            again = (HOME / "requeued").is_file() and (HOME / "requeued").read_text() == job
    (HOME / "queue").unlink()
    return 0


def srun(arguments: list[str]) -> int:
    start = next(number for number, argument in enumerate(arguments) if argument[0] != "-")
    process = subprocess.Popen(arguments[start:], stdout=subprocess.PIPE, text=True)
    told = HOME / "told"
    for line in process.stdout:
        print(line, end="", flush=True)
        if os.environ.get("STAND_IN_TERM_AT", "\0") in line and not told.exists():
            told.touch()
            process.send_signal(signal.SIGTERM)
    return process.wait()


def squeue(arguments: list[str]) -> int:
    if (HOME / "queue").is_file():
        print((HOME / "queue").read_text(), end="")
    return 0


def scontrol(arguments: list[str]) -> int:
    (HOME / "requeued").write_text(arguments[1])
    return 0


def kubectl(arguments: list[str]) -> int:
    state = HOME / "jobset"
    verb, *rest = arguments[1:]
    given = options(rest)
    if verb == "apply":
        import yaml

        manifest = yaml.safe_load(sys.stdin.read())
        if manifest["kind"] == "JobSet":
            state.write_text("")
            if "STAND_IN_HOLD" not in os.environ:
                state.write_text(run_jobset(manifest))
    elif verb == "create":
        assert given["dry-run"] == "client"
        (HOME / "secret").write_bytes(pathlib.Path(given["from-env-file"]).read_bytes())
        print("kind: Secret")
    elif verb == "get" and state.is_file():
        print(state.read_text() if "jsonpath" in given["output"] else "jobset.jobset.x-k8s.io/selw2s")
    elif verb == "logs":
        print((HOME / "pods.log").read_text())
    return 0


def run_jobset(manifest: dict) -> str:
    """Completed or Failed, as the rules of the Job and of the JobSet have it."""
    assert "@" not in json.dumps(manifest)
    policy = manifest["spec"]["failurePolicy"]
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    restarts = 0
    while True:
        status = run_pods(job["template"]["spec"]["containers"][0]["args"], job["completions"])
        if status == 0:
            return "Completed"
        reason, message = "BackoffLimitExceeded", ""
        for index, rule in enumerate(job["podFailurePolicy"]["rules"]):
            if status in rule.get("onExitCodes", {}).get("values", []):
                reason = "PodFailurePolicy"
                message = (
                    f"Container main failed with exit code {status} matching FailJob rule at index {index}"
                )
                break
        action = "RestartJobSet"
        for rule in policy["rules"]:
            patterns = rule["onJobFailureMessagePatterns"]
            if reason in rule["onJobFailureReasons"] and any(re.search(p, message) for p in patterns):
                action = rule["action"]
                break
        restarts += action == "RestartJobSet"
        if action == "FailJobSet" or restarts > policy["maxRestarts"]:
            return "Failed"


def run_pods(arguments: list[str], number: int) -> int:
    statuses = []
    for index in range(number):
        own = [argument.replace("$(JOB_COMPLETION_INDEX)", str(index)) for argument in arguments]
        with (HOME / "pods.log").open("a") as log:
            statuses.append(
                subprocess.call(
                    ["launch/host.sh", *own],
                    cwd=REPO,
                    env=os.environ | {"STAND_IN_HOST": f"pod{index}"},
                    stdout=log,
                )
            )
    return next((status for status in statuses if status), 0)


def sky(arguments: list[str]) -> int:
    verb, *rest = arguments[1:]
    queue = HOME / "sky-queue"
    if verb == "queue":
        print(queue.read_text() if queue.is_file() else "No in-progress managed jobs.")
    elif verb == "launch":
        queue.write_text("ID  TASK  NAME    STATUS\n1   -     selw2s  RUNNING\n")
        if "STAND_IN_HOLD" not in os.environ:
            run_sky(rest)
            queue.unlink()
    elif verb == "logs":
        print((HOME / "sky.log").read_text())
        return int((HOME / "sky-status").read_text())
    return 0


def run_sky(arguments: list[str]) -> None:
    given = options([argument for argument in arguments if argument != "--env"])
    import yaml

    task = yaml.safe_load(pathlib.Path(arguments[-1]).read_text())
    environment = dict(task["envs"])
    for flag, value in itertools.pairwise(arguments):
        if flag == "--env":
            environment |= [value.split("=", 1)]
    if "env-file" in given:
        lines = pathlib.Path(given["env-file"]).read_text().splitlines()
        environment |= [line.split("=", 1) for line in lines if line[0] != "#"]
    number = int(given["num-nodes"])
    environment |= {"SKYPILOT_NUM_NODES": str(number), "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"}
    statuses = [75]
    while statuses[0] in task["resources"]["job_recovery"]["recover_on_exit_codes"]:
        statuses = []
        for rank in range(number):
            # Machines of their own, new ones after a preemption.
            home = HOME / "hosts" / f"machine{rank}"
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(pathlib.Path(given["workdir"], "launch"), home / "launch")
            for name in ("pyproject.toml", "constraints.txt"):
                shutil.copy(pathlib.Path(given["workdir"], name), home)
            own = {"SKYPILOT_NODE_RANK": str(rank), "STAND_IN_HOST": home.name}
            for step in ("setup", "run"):
                with (HOME / "sky.log").open("a") as log:
                    status = subprocess.call(
                        ["bash", "-c", task[step]], cwd=home, env=os.environ | environment | own, stdout=log
                    )
            statuses.append(status)
    (HOME / "sky-status").write_text(str(max(statuses)))


def main() -> None:
    tool, *arguments = sys.argv[1:]
    record("calls.jsonl", tool=tool, arguments=arguments)
    tools = {
        function.__name__: function
        for function in (python, python3, gcloud, sbatch, srun, squeue, scontrol, kubectl, sky)
    }
    sys.exit(tools[tool](arguments) if tool in tools else 0)


if __name__ == "__main__":
    main()
