"""Files of variables, such as tokens: in every form that people have them, and never shown."""

import json
import subprocess

import pytest
from support import launch_place


@pytest.mark.parametrize("script", launch_place.SCRIPTS)
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
    done = place.run(
        "host.sh", environment_file(place, *lines), "--accelerator=none", "--", *launch_place.MAIN
    )
    assert done.returncode == 0 and not done.stderr
    (job,) = place.jobs()
    assert job["environment"] == {
        "TOKEN": "hf_SECRET 'a' $b",
        "CUDA_DEVICE_MAX_CONNECTIONS": "7 # 8",
        "XLA_FLAGS": "--a=1 --b",
    }


def test_a_file_of_variables_does_not_make_a_dry_run_a_real_one(place):
    flags = (environment_file(place, "DRY_RUN=false"), "--accelerator=none", "--dry-run")
    done = place.run("host.sh", *flags, "--", *launch_place.MAIN)
    assert done.returncode == 0 and "-m selw2s_jax.main" in done.stdout
    assert not place.jobs()


def test_a_traced_script_does_not_show_the_values(place):
    flag = environment_file(place, "export TOKEN='hf_SECRET'")
    for script, more in (
        ("host.sh", ["--accelerator=none"]),
        ("jobset.sh", [*launch_place.SCRIPTS["jobset.sh"]]),
    ):
        command = ["bash", "-x", str(launch_place.LAUNCH / script), *more, flag, "--", *launch_place.MAIN]
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
        done = place.run(script, *more, flag, "--", *launch_place.MAIN)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert "line 2" in done.stderr and fault in done.stderr and "SECRET" not in done.stdout + done.stderr
        assert not place.calls()


def test_a_file_of_tokens_that_all_may_read_is_noted(place):
    done = place.launch("slurm.sh", environment_file(place, "TOKEN=hf_SECRET", mode=0o644))
    assert done.returncode == 0 and "note: everyone on this machine may read" in done.stderr


def check_that_nobody_else_reads_it(place):
    """On a TPU's hosts the copy is made over an empty file of this user's alone."""
    calls = [" ".join(call) for call in place.calls(*launch_place.gcloud("tpu-vm"))]
    (copied,) = [
        i for i, call in enumerate(calls) if "selw2s_jax.env --worker=all" in call and " scp " in call
    ]
    assert "umask 077 && : >selw2s_jax.env" in calls[copied - 1]
    kept = list(place.folder.rglob("run.env"))
    assert kept and all(path.stat().st_mode & 0o077 == 0 for path in kept)
