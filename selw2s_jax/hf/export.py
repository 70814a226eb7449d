"""Checkpoints in Hugging Face's format: config.json and safetensors, written tensor by tensor."""

import json
import math
import os
import pathlib
import struct
from collections.abc import Callable, Iterable

import jax
import ml_dtypes
import numpy as np
from flax import nnx

from selw2s_jax import errors
from selw2s_jax.hf import mapping, weight_files
from selw2s_jax.models import decoder, registry

WRITE_DTYPES = {
    "float32": ("F32", np.dtype(np.float32)),
    "float16": ("F16", np.dtype(np.float16)),
    "bfloat16": ("BF16", np.dtype(ml_dtypes.bfloat16)),
}


def save_checkpoint(
    folder,
    config: registry.ModelConfig,
    decoder_or_state: decoder.Decoder | nnx.State,
    *,
    dtype: str = "float32",
    prefix: bool = True,
    max_shard_bytes: int | None = None,
) -> None:
    """Writes a decoder as a Hugging Face checkpoint folder, the inverse of `loader.load_decoder`.

    Args:
        folder: made if missing; files of the same names are replaced.
        decoder_or_state: the decoder, or its `nnx.Param` state, addressable from this process.
        dtype: float32, float16 or bfloat16.
        prefix: whether keys begin with "transformer.".
        max_shard_bytes: write shards of at most that many bytes (but at least one tensor) and an index;
            default one file.
    """
    params = decoder.flatten_params(nnx.state(decoder_or_state, nnx.Param))

    def read_chunks(tensor: mapping.Tensor):
        value = params[tensor.param].get_value()
        yield np.asarray(jax.device_get(value if tensor.layer is None else value[tensor.layer]))

    shapes = {path: variable.shape for path, variable in params.items()}
    write_checkpoint(
        folder, config, shapes, read_chunks, dtype=dtype, prefix=prefix, max_shard_bytes=max_shard_bytes
    )


def write_checkpoint(
    folder,
    config: registry.ModelConfig,
    shapes: dict[str, tuple[int, ...]],
    read_chunks: Callable[[mapping.Tensor], Iterable[np.ndarray]],
    *,
    dtype: str = "float32",
    prefix: bool = True,
    max_shard_bytes: int | None = None,
) -> None:
    """Writes the tensors of parameters of these shapes, asking for each one's values in turn.

    Args:
        read_chunks: a tensor -> its values in C order, in one or more arrays, so that no more than a chunk
            need be in memory.
    """
    if dtype not in WRITE_DTYPES:
        raise errors.UserError(f"dtype {dtype!r} cannot be written: choose {', '.join(WRITE_DTYPES)}")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    family = registry.get_family(config.family)
    item_size = WRITE_DTYPES[dtype][1].itemsize
    tensors = mapping.tensors(family.key_table, shapes, prefix)
    shards: list[list[mapping.Tensor]] = [[]]
    for tensor in tensors:
        size = item_size * sum(math.prod(t.shape) for t in [*shards[-1], tensor])
        if shards[-1] and max_shard_bytes is not None and size > max_shard_bytes:
            shards.append([])
        shards[-1].append(tensor)

    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        _write_safetensors(folder / name, shard, read_chunks, *WRITE_DTYPES[dtype])
    if len(shards) > 1:
        total_size = item_size * sum(math.prod(tensor.shape) for tensor in tensors)
        weight_map = {t.key: name for name, shard in zip(names, shards, strict=True) for t in shard}
        index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
        _write_json(folder / weight_files.INDEX_NAME, index)
    # Last, so that a folder with a config.json is a whole one.
    _write_json(folder / weight_files.CONFIG_NAME, family.format_config(config) | {"torch_dtype": dtype})


def _write_safetensors(path, tensors, read_chunks, dtype_name, dtype) -> None:
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for tensor in tensors:
        end = offset + math.prod(tensor.shape) * dtype.itemsize
        header[tensor.key] = {
            "dtype": dtype_name,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    header_text = json.dumps(header).encode()
    header_text += b" " * (-len(header_text) % 8)  # the format aligns the data to 8 bytes
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(header_text)) + header_text)
        for tensor in tensors:
            start = file.tell()
            for chunk in read_chunks(tensor):
                file.write(np.ascontiguousarray(chunk.astype(dtype, copy=False)).view(np.uint8).data)
            if file.tell() - start != math.prod(tensor.shape) * dtype.itemsize:
                raise ValueError(
                    f"{tensor.key} of shape {tensor.shape} was given {file.tell() - start} bytes"
                )
    os.replace(partial, path)


def _write_json(path, content) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)
