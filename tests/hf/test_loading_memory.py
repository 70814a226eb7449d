"""Loading a 2 GB checkpoint: peak host memory, and what each device holds. Run as a script it is the loading."""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from support import mesh_models, paths, process_memory

from selw2s_jax import sharding
from selw2s_jax.hf import loader, writer
from selw2s_jax.models import decoder, registry

pytestmark = pytest.mark.slow

# Qwen's fused projections, whose heads are not contiguous in the file, at about a thousand million parameters.
CONFIG = registry.ModelConfig(
    family="qwen",
    num_layers=16,
    embed_dim=2048,
    num_heads=16,
    head_dim=128,
    mlp_dim=5504,
    vocab_size=50304,
    max_seq_len=2048,
    norm_eps=1e-6,
    rope_base=1e4,
    tie_embeddings=False,
)
NUM_PARAMS = decoder.num_params(CONFIG, lm_head=True)
GB = 10**9


def write_checkpoint(folder: pathlib.Path) -> None:
    """Writes the bfloat16 checkpoint, a chunk in memory at a time; the values repeat."""
    chunk = np.random.default_rng(0).standard_normal(1 << 22, dtype=np.float32)
    chunk = chunk.astype(writer.WRITE_DTYPES["bfloat16"][1])

    def repeat(tensor):
        for left in range(math.prod(tensor.shape), 0, -len(chunk)):
            yield chunk[:left]

    shapes = {
        path: variable.shape for path, variable in decoder.abstract_params(CONFIG, lm_head=True).items()
    }
    writer.write_checkpoint(folder, CONFIG, shapes, repeat, dtype="bfloat16", max_shard_bytes=GB)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    if shutil.disk_usage(folder).free < 3 * GB:
        pytest.skip("needs 3 GB of free disk")
    try:
        write_checkpoint(folder)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read in /proc, of Linux")
@pytest.mark.parametrize(
    ("mesh_shape", "param_dtype"),
    [((1, 1, 1), "bfloat16"), ((1, 1, 1), "float32"), ((1, 8, 1), "bfloat16"), ((1, 4, 2), "bfloat16")],
)
def test_loading_takes_little_more_than_the_model(checkpoint, mesh_shape, param_dtype):
    num_devices = math.prod(mesh_shape)
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}",
        "PYTHONPATH": paths.PYTHONPATH,
    }
    command = [sys.executable, __file__, checkpoint, ",".join(map(str, mesh_shape)), param_dtype]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads(result.stdout)
    size = NUM_PARAMS * {"bfloat16": 2, "float32": 4}[param_dtype]
    assert NUM_PARAMS * 2 > 1.9 * GB
    # The host holds what all devices do, so this also bounds what one of eight held while loading: its eighth
    # and less than GB, which is not the whole model.
    assert report["peak"] < size + GB
    assert sum(report["by_device"]) == pytest.approx(size, rel=0.01), "no copies but of what is small"
    assert max(report["by_device"]) == pytest.approx(size / num_devices, rel=0.01)
    sizes = dict(zip(sharding.MESH_AXES, mesh_shape, strict=True))
    declared = {
        path
        for path, spec in mesh_models.SPECS["qwen"].items()
        if all(axis is None or sizes[axis] == 1 for axis in spec)
    }
    assert set(report["whole"]) == declared


def main(folder: str, mesh_shape: str, param_dtype: str) -> None:
    mesh = sharding.make_mesh(tuple(map(int, mesh_shape.split(","))))
    jax.block_until_ready(jax.device_put(np.zeros(8), sharding.replicated(mesh)))
    baseline = process_memory.read("VmRSS")
    model = loader.load_decoder(
        folder, param_dtype=param_dtype, compute_dtype="bfloat16", lm_head=True, mesh=mesh
    )
    params = decoder.flatten_params(nnx.state(model, nnx.Param))
    jax.block_until_ready([variable.get_value() for variable in params.values()])
    peak = process_memory.read("VmHWM")
    by_device = dict.fromkeys(mesh.devices.flat, 0)
    for array in jax.live_arrays():
        for shard in array.addressable_shards:
            by_device[shard.device] += shard.data.nbytes
    whole = [
        path
        for path, variable in params.items()
        if any(shard.data.shape == variable.shape for shard in variable.addressable_shards)
    ]
    print(json.dumps({"peak": peak - baseline, "by_device": list(by_device.values()), "whole": whole}))


if __name__ == "__main__":
    main(*sys.argv[1:])
