"""The flags of compilers that the launch scripts set: those of each accelerator, known to the compilers here."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from support import launch_place


def flags_of(place, accelerator: str, **environment: str) -> dict[str, str]:
    """The environment that the flags file makes."""
    printed = subprocess.run(
        ["bash", "-c", f". {launch_place.LAUNCH}/xla_flags.sh && set_xla_flags {accelerator} && env -0"],
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
    text = (launch_place.LAUNCH / "xla_flags.sh").read_text()
    sources = re.findall(r"^#   \[(\w+)\] ", text, re.MULTILINE)
    assert len(sources) >= 6
    for block in re.findall(r"_FLAGS=\(\n(.*?)\n\)", text, re.DOTALL):
        assert block.lstrip().startswith("#")  # reason and source stand before what they are for
        for reason in re.findall(r"((?: *#.*\n)+)", block):
            assert any(re.search(rf"\[[^]]*\b{source}\b", reason) for source in sources), reason
