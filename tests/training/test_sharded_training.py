"""One device = 8 devices = 2 processes of 4: losses, metrics and gradients of every method, written answers,
pretraining, scoring."""

import functools
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
from support import commands, mesh_models, paths, sharded_worker

from selw2s_jax.hf import random_checkpoint
from selw2s_jax.method import registry

pytestmark = pytest.mark.slow

# Number of processes, meshes, methods. Every method is run on a mesh that divides all axes, a few on the others.
# Two processes divide fsdp of 1,4,2 and data of 2,2,2.
ONE = "1,1,1"
FEW = ("selective", "confidence", "p_ik_only", "raven")
EVERY = tuple(name for name, method in registry.METHODS.items() if method.teacher == "weak")
LAUNCHES = {
    "every method": (1, (ONE, "2,2,2"), EVERY),
    "one method": (1, (ONE, "1,4,2"), ("selective",)),
    "few methods": (1, (ONE, "1,4,2"), FEW),
    "other meshes": (1, ("8,1,1", "2,4,1"), FEW),
    "two processes": (2, ("1,4,2", "2,2,2"), FEW),
}
IN_CI = "one method"  # which has both kinds of examples, both heads, labels chosen by P(IK) and the graph
REFERENCE = {
    launch: launch if ONE in meshes else "few methods" for launch, (_, meshes, _) in LAUNCHES.items()
}


def params_of(launch: str, *values: str):
    return pytest.param(launch, *values, marks=pytest.mark.ci if launch == IN_CI else ())


LAYOUTS = [
    params_of(launch, mesh) for launch, (_, meshes, _) in LAUNCHES.items() for mesh in meshes if mesh != ONE
]
CASES = [
    params_of(launch, mesh, run)
    for launch, (_, meshes, methods) in LAUNCHES.items()
    for mesh in meshes
    for run in (*methods, "lora", "completion", "probe", "pretraining", "scoring")
    if mesh != ONE
]
HEADS = {"class_head": (None, "fsdp"), "p_ik_head": (None, "fsdp")}
ADAPTERS = {
    "attn_qkv.a": (None, None, "fsdp"),
    "attn_qkv.b": (None, None, "tensor", None, None),
    "attn_out.a": (None, None, "tensor", None),
    "attn_out.b": (None, "fsdp", None),
    "mlp_up.a": (None, None, "fsdp"),
    "mlp_up.b": (None, "tensor", None),
    "mlp_gate.a": (None, None, "fsdp"),
    "mlp_gate.b": (None, "tensor", None),
    "mlp_down.a": (None, None, "tensor"),
    "mlp_down.b": (None, "fsdp", None),
}
GRIDS = ("tokens", "positions", "segment_ids", "loss_weights", "answers.column", "answers.slot")


def run_workers(checkpoint: pathlib.Path, folder: pathlib.Path, num_processes: int, meshes, methods):
    """What `sharded_worker` finds with 8 devices in all, by mesh and run."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": paths.PYTHONPATH,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Compiling takes nearly all the time of this test.
        "XLA_FLAGS": commands.xla_flags(8 // num_processes),
    }
    command = [sys.executable, sharded_worker.__file__, checkpoint, folder / "arrays.npz"]
    command += ["--meshes", *meshes, "--methods", *methods]
    if num_processes > 1:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            address = f"localhost:{probe.getsockname()[1]}"
        command += [f"--coordinator_address={address}", f"--num_processes={num_processes}"]
    logs = [folder / f"process_{i}.log" for i in range(num_processes)]
    workers = []
    try:
        for i, log in enumerate(logs):
            own = [f"--process_id={i}"] if num_processes > 1 else []
            with log.open("w") as file:
                workers.append(subprocess.Popen(command + own, env=environment, stdout=file, stderr=file))
        codes = [worker.wait(timeout=900) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert not any(codes), "\n".join(log.read_text()[-3000:] for log in logs)
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    with np.load(folder / "arrays.npz") as arrays:
        for key, array in arrays.items():
            mesh, run, name = key.split("/", 2)
            found.setdefault(mesh, {}).setdefault(run, {})[name] = array
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Arrays by mesh, run and name of a launch, which is made when it is first asked for."""
    checkpoint = tmp_path_factory.mktemp("checkpoint")
    random_checkpoint.write_random_checkpoint(checkpoint, sharded_worker.CONFIG, seed=2)

    @functools.cache
    def arrays(launch: str):
        return run_workers(checkpoint, tmp_path_factory.mktemp("processes"), *LAUNCHES[launch])

    return arrays


@pytest.mark.parametrize(("launch", "mesh", "run"), CASES)
def test_layouts_equal_one_device(found, launch, mesh, run):
    expected, actual = found(REFERENCE[launch])[ONE][run], found(launch)[mesh][run]
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        if name.startswith(("shard of ", "shape of ")):
            continue
        assert np.all(np.isfinite(array)), name
        scale = np.abs(array).max(initial=0)
        np.testing.assert_allclose(actual[name], array, rtol=1e-5, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("launch", [params_of("every method"), params_of("few methods"), params_of(IN_CI)])
def test_one_device_has_work_for_every_part_of_a_method(found, launch):
    for name, arrays in found(launch)[ONE].items():
        gradients = [value for key, value in arrays.items() if key.startswith("gradient")]
        assert name == "scoring" or max(np.abs(gradient).max() for gradient in gradients) > 1e-3
        assert 0 < arrays.get("metric 1/ik_rate", 0.5) < 1
        assert arrays.get("metric 1/effective_neighbours", 2) > 1.5


def test_methods_differ(found):
    losses = [found("every method")[ONE][name]["metric 1/loss"] for name in ("confidence", "finetune")]
    assert not np.allclose(*losses)


@pytest.mark.parametrize(("launch", "mesh"), LAYOUTS)
def test_parameters_moments_and_rows_are_split(found, launch, mesh):
    sizes = dict(zip(("data", "fsdp", "tensor"), map(int, mesh.split(",")), strict=True))
    for run in ("selective", "lora", "completion", "pretraining"):
        whole, split_up = found(REFERENCE[launch])[ONE][run], found(launch)[mesh][run]
        shards = {name: shape for name, shape in split_up.items() if "shard of" in name}
        assert shards.keys() == {name for name in whole if "shard of" in name}
        for name, shape in shards.items():
            kind, leaf = name.removeprefix("shard of ").split("/")
            if kind == "batch":
                # Rows are a multiple of the groups that they are split over.
                of_all = split_up[f"shape of batch/{leaf}"]
                groups = sizes["data"] * sizes["fsdp"] if leaf in GRIDS else 1
                assert of_all[1] % groups == 0, name
                assert list(shape) == [of_all[0], of_all[1] // groups, *of_all[2:]], name
                continue
            assert kind in ("parameter", "mu", "nu")
            specs = mesh_models.SPECS["qwen"] | HEADS | ADAPTERS
            spec = specs[leaf.removeprefix("backbone.").removeprefix("adapters.")]
            split = [
                size // sizes[axis] if axis else size for size, axis in zip(whole[name], spec, strict=True)
            ]
            assert list(shape) == split, name
