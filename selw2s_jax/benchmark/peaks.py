"""The peak rate that utilisation is measured against: the vendor's where it is known, else that of a large product."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from selw2s_jax.plan import chips

# Names that JAX gives devices. The PCIe cards of H100 are slower than what `chips` has, so they are measured.
_CHIPS = {
    "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
    "NVIDIA A10G": "a10g",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx-4090",
    "NVIDIA GeForce RTX 5090": "rtx-5090",
    "TPU v4": "tpu-v4",
    "TPU v5 lite": "tpu-v5e",
    "TPU v5": "tpu-v5p",
    "TPU v5p": "tpu-v5p",
    "TPU v6 lite": "tpu-v6e",
    "TPU7x": "tpu-v7x",
}
_WIDTHS = {"cpu": 1536}
_OTHER_WIDTH = 8192
_PRODUCTS = {"cpu": 2}
_OTHER_PRODUCTS = 16
_REPEATS = 5


class Peak(NamedTuple):
    """A peak rate.

    Attributes:
        flops: per second, of all devices together.
        source: where it is from, for people.
    """

    flops: float
    source: str


def find(devices: np.ndarray, dtype: str) -> Peak:
    """The peak of products in a dtype on these devices.

    Args:
        devices: of a mesh; of one kind.
        dtype: "bfloat16" or "float32".
    """
    kind = devices.flat[0].device_kind
    chip = chips.CHIPS.get(_CHIPS.get(kind, ""))
    if dtype == "bfloat16" and chip is not None and chip.bf16_flops is not None:
        return Peak(chip.bf16_flops * devices.size, f"{chip.name}, bfloat16: {chip.source}")
    width = _WIDTHS.get(devices.flat[0].platform, _OTHER_WIDTH)
    source = f"measured on {kind}: products of {width} x {width} matrices in {dtype}, the best of {_REPEATS}"
    return Peak(measure(devices, dtype, width), source)


def measure(devices: np.ndarray, dtype: str, width: int) -> float:
    """FLOPs per second of square products on all devices at once."""
    mesh = jax.sharding.Mesh(devices.reshape(-1), ("devices",))
    sharded = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices"))
    count = _PRODUCTS.get(devices.flat[0].platform, _OTHER_PRODUCTS)
    # float32 means float32, as in the models.
    precision = jax.lax.Precision.HIGHEST if dtype == "float32" else jax.lax.Precision.DEFAULT

    def multiply(x):
        body = lambda _, y: (jnp.matmul(x, y, precision=precision) * width**-0.5).astype(x.dtype)  # noqa: E731
        return jax.lax.fori_loop(0, count, body, x)

    def make():
        return jax.random.normal(jax.random.key(0), (devices.size, width, width), jnp.dtype(dtype))

    x = jax.jit(make, out_shardings=sharded)()
    run = jax.jit(multiply, out_shardings=sharded)
    jax.block_until_ready(run(x))
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(run(x))
        seconds.append(time.perf_counter() - start)
    return 2 * width**3 * count * devices.size / min(seconds)
