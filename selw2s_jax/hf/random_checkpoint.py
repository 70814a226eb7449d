"""Random checkpoints in the real file format, for tests, offline trial runs and benchmarks."""

import math
import zlib

import numpy as np

from selw2s_jax.hf import writer
from selw2s_jax.models import decoder, key_tables, registry

_CHUNK_SIZE = 1 << 22


def write_random_checkpoint(
    folder,
    config: registry.ModelConfig,
    *,
    seed: int = 0,
    scale: float | None = None,
    dtype: str = "float32",
    prefix: bool = True,
    max_shard_bytes: int | None = None,
) -> None:
    """Writes a checkpoint of random weights, a chunk in memory at a time.

    The values depend on `seed` and the parameter alone, not on sharding or prefix.

    Args:
        scale: standard deviation of weights and biases, and of the norms' scales around 1; default
            1/sqrt(embed_dim), at which every layer moves the residual stream at any width.
        dtype, prefix, max_shard_bytes: as for `writer.save_checkpoint`.
    """
    scale = config.embed_dim**-0.5 if scale is None else scale

    def draw_chunks(tensor: key_tables.Tensor):
        name = f"{tensor.param} {tensor.layer}".encode()
        rng = np.random.default_rng([seed, zlib.crc32(name)])
        center = 1.0 if tensor.param.endswith("norm.scale") else 0.0
        left = math.prod(tensor.shape)
        while left:
            size = min(left, _CHUNK_SIZE)
            yield center + np.float32(scale) * rng.standard_normal(size, dtype=np.float32)
            left -= size

    params = decoder.abstract_params(config, lm_head=True)
    shapes = {path: variable.shape for path, variable in params.items()}
    writer.write_checkpoint(
        folder, config, shapes, draw_chunks, dtype=dtype, prefix=prefix, max_shard_bytes=max_shard_bytes
    )
