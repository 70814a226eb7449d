"""Time to load a 2 GB bfloat16 checkpoint, as a ratio to reading its files.

    python benchmarks/loading.py --output=benchmarks/results/loading.json

Each layout runs in a process of its own, where loading takes turns with two ways to read the same files, all of
them from a warm page cache: `read` puts the files into memory, `stream` passes them through one small buffer, the
fastest that bytes leave the page cache. A ratio is the median over the repeats of loading to the reading beside
it. The peak is of resident memory during the first load, above that before it.
"""

import argparse
import dataclasses
import gc
import json
import multiprocessing
import os
import pathlib
import platform
import re
import statistics
import tempfile
import time

import jax
import outputs
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.hf import loader, random_checkpoint
from selw2s_jax.models import decoder, registry

CONFIG = dataclasses.replace(registry.MODELS["qwen-1.8b"].config, num_layers=16, vocab_size=50304)
LAYOUTS = (((1, 1, 1), "bfloat16"), ((1, 1, 1), "float32"), ((1, 8, 1), "bfloat16"), ((1, 4, 2), "bfloat16"))


def read(files: list[pathlib.Path]) -> None:
    """All files in memory at once, as a model is."""
    contents = [path.read_bytes() for path in files]
    del contents


def stream(files: list[pathlib.Path]) -> None:
    """All files through a buffer of 1 MiB."""
    buffer = bytearray(1 << 20)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def load(folder: pathlib.Path, mesh: jax.sharding.Mesh, param_dtype: str) -> None:
    """All parameters on the devices of a mesh."""
    model = loader.load_decoder(
        folder, param_dtype=param_dtype, compute_dtype="bfloat16", lm_head=True, mesh=mesh
    )
    jax.block_until_ready(nnx.state(model, nnx.Param))


def seconds_of(function, *arguments) -> float:
    """Wall time of a call."""
    gc.collect()  # the model before: nnx.merge leaves reference cycles
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def memory_gb(field: str) -> float:
    """VmRSS or VmHWM of this process."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024 / 1e9


def measure(folder: pathlib.Path, mesh_shape: tuple[int, int, int], param_dtype: str, repeats: int) -> dict:
    """The report of one layout."""
    files = sorted(folder.glob("*.safetensors"))
    mesh = sharding.make_mesh(mesh_shape)
    stream(files)
    before = memory_gb("VmRSS")
    load(folder, mesh, param_dtype)
    peak = memory_gb("VmHWM") - before
    rows = [
        (seconds_of(load, folder, mesh, param_dtype), seconds_of(read, files), seconds_of(stream, files))
        for _ in range(repeats)
    ]
    columns = dict(zip(("load", "read", "stream"), zip(*rows, strict=True), strict=True))
    ratio = {
        f"load_to_{name}": statistics.median(
            a / b for a, b in zip(columns["load"], columns[name], strict=True)
        )
        for name in ("read", "stream")
    }
    return {
        "mesh": list(mesh_shape),
        "param_dtype": param_dtype,
        **{name: round(value, 2) for name, value in ratio.items()},
        "median_seconds": {name: round(statistics.median(times), 3) for name, times in columns.items()},
        "seconds": {name: [round(value, 3) for value in times] for name, times in columns.items()},
        "peak_gb": round(peak, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    layouts = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        random_checkpoint.write_random_checkpoint(folder, CONFIG, dtype="bfloat16", max_shard_bytes=10**9)
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        for mesh_shape, param_dtype in LAYOUTS:
            count = mesh_shape[0] * mesh_shape[1] * mesh_shape[2]
            os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                layouts.append(pool.apply(measure, (folder, mesh_shape, param_dtype, arguments.repeats)))
            print(json.dumps(layouts[-1]), flush=True)
    report = {
        "machine": outputs.MACHINE,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "command": "python benchmarks/loading.py"
        + (f" --repeats={arguments.repeats}" if arguments.repeats != parser.get_default("repeats") else ""),
        "checkpoint_gb": round(size / 1e9, 3),
        "parameters": decoder.num_params(CONFIG, lm_head=True),
        "repeats": arguments.repeats,
        "layouts": layouts,
    }
    outputs.write(report, arguments.output)


if __name__ == "__main__":
    main()
