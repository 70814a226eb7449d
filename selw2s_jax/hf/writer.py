"""Checkpoints in Hugging Face's format: config.json and safetensors, written tensor by tensor.

Every process of a run calls these functions, as each holds a part of every tensor; process 0 alone writes.
"""

import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np
from etils import epath
from flax import nnx
from jax.experimental import multihost_utils

from selw2s_jax import errors
from selw2s_jax.hf import weight_files
from selw2s_jax.models import decoder, heads, key_tables, registry
from selw2s_jax.runtime import artifacts, distributed

HEADS_NAME = "heads.safetensors"
HEADS = ("class_head", "p_ik_head")
WRITE_DTYPES = {
    "float32": ("F32", np.dtype(np.float32)),
    "float16": ("F16", np.dtype(np.float16)),
    "bfloat16": ("BF16", np.dtype(ml_dtypes.bfloat16)),
}
# Families that transformers can classify with: its class, and the key of its head [2, D], which has no bias and reads
# the last token that is not padding, as ours does.
TRANSFORMERS_CLASSIFIERS = {
    "gpt2": ("GPT2ForSequenceClassification", "score.weight"),
    "llama": ("LlamaForSequenceClassification", "score.weight"),
    "mistral": ("MistralForSequenceClassification", "score.weight"),
    "qwen2": ("Qwen2ForSequenceClassification", "score.weight"),
    "qwen3": ("Qwen3ForSequenceClassification", "score.weight"),
    "gpt_neox": ("GPTNeoXForSequenceClassification", "score.weight"),
    "olmo2": ("Olmo2ForSequenceClassification", "score.weight"),
}


def save_checkpoint(
    folder,
    config: registry.ModelConfig,
    decoder_or_state: decoder.Decoder | nnx.State,
    *,
    dtype: str = "float32",
    prefix: bool = True,
    max_shard_bytes: int | None = None,
    index: bool = False,
    extra: Mapping[str, jax.Array] | None = None,
    config_fields: Mapping[str, Any] | None = None,
) -> None:
    """Writes a decoder as a Hugging Face checkpoint folder, the inverse of `loader.load_decoder`.

    Args:
        folder: made if missing; files of the same names are replaced.
        decoder_or_state: the decoder, or its `nnx.Param` state, sharded over any devices and processes.
        dtype: float32, float16 or bfloat16.
        prefix: whether keys begin with the prefix of the family's key table.
        max_shard_bytes: write shards of at most that many bytes (but at least one tensor) and an index;
            default one file.
        index: write the index for one file too, which tells it from others in the folder.
        extra: further tensors by key.
        config_fields: of config.json, besides or instead of those that the family writes.
    """
    params = decoder.flatten_params(nnx.state(decoder_or_state, nnx.Param))
    values = {path: variable.get_value() for path, variable in params.items()} | dict(extra or {})

    def read_chunks(tensor: key_tables.Tensor):
        value = values[tensor.param]
        yield _to_host(value if tensor.layer is None else value[tensor.layer])

    write_checkpoint(
        folder,
        config,
        {path: variable.shape for path, variable in params.items()},
        read_chunks,
        dtype=dtype,
        prefix=prefix,
        max_shard_bytes=max_shard_bytes,
        index=index,
        extra_shapes={key: value.shape for key, value in (extra or {}).items()},
        config_fields=config_fields,
    )


def save_classifier(
    folder,
    classifier: heads.Classifier,
    *,
    dtype: str = "float32",
    pad_token_id: int,
    main_head: str = HEADS[0],
) -> None:
    """Writes a classifier: the backbone as a checkpoint, and its heads under their names in heads.safetensors.

    For the families of `TRANSFORMERS_CLASSIFIERS` the checkpoint also has a head and is, to transformers, a
    classifier of that class.

    Args:
        folder, dtype: as for `save_checkpoint`.
        pad_token_id: what transformers takes for padding.
        main_head: the head that transformers gets, "class_head" or "p_ik_head".
    """
    config = classifier.backbone.config
    extra, fields = {}, {}
    if config.family in TRANSFORMERS_CLASSIFIERS:
        architecture, head_key = TRANSFORMERS_CLASSIFIERS[config.family]
        names = ("0", "1") if main_head == "class_head" else ("IDK", "IK")
        extra = {head_key: getattr(classifier, main_head).get_value()}
        fields = {
            "architectures": [architecture],
            "id2label": {str(number): name for number, name in enumerate(names)},
            "label2id": {name: number for number, name in enumerate(names)},
            "pad_token_id": pad_token_id,
        }
    save_heads(folder, classifier, dtype=dtype)
    save_checkpoint(
        folder, config, classifier.backbone, dtype=dtype, index=True, extra=extra, config_fields=fields
    )


def save_heads(folder, classifier: heads.Classifier, *, dtype: str = "float32") -> None:
    """Writes the heads that a classifier has under their names in heads.safetensors."""
    present = {name: getattr(classifier, name) for name in HEADS}
    arrays = {name: head.get_value() for name, head in present.items() if head is not None}
    save_tensors(epath.Path(folder) / HEADS_NAME, arrays, dtype=dtype)


def save_tensors(path, arrays: Mapping[str, jax.Array], *, dtype: str = "float32") -> None:
    """Writes arrays as one safetensors file in a folder that is made if missing."""
    path = epath.Path(path)
    if distributed.is_main():
        path.parent.mkdir(parents=True, exist_ok=True)
    tensors = [_plain_tensor(key, array.shape) for key, array in arrays.items()]
    _write_safetensors(path, tensors, lambda tensor: [_to_host(arrays[tensor.key])], check_dtype(dtype))


def write_checkpoint(
    folder,
    config: registry.ModelConfig,
    shapes: Mapping[str, tuple[int, ...]],
    read_chunks: Callable[[key_tables.Tensor], Iterable[np.ndarray]],
    *,
    dtype: str = "float32",
    prefix: bool = True,
    max_shard_bytes: int | None = None,
    index: bool = False,
    extra_shapes: Mapping[str, tuple[int, ...]] | None = None,
    config_fields: Mapping[str, Any] | None = None,
) -> None:
    """Writes the tensors of parameters of these shapes, asking for each one's values in turn.

    Args:
        read_chunks: a tensor -> its values in C order, in one or more arrays, so that no more than a chunk
            need be in memory; `param` of an extra tensor is its key.
        extra_shapes: of further tensors by key.
    """
    file_dtype = check_dtype(dtype)
    folder = epath.Path(folder)
    if distributed.is_main():
        folder.mkdir(parents=True, exist_ok=True)
    family = registry.get_family(config.family)
    item_size = file_dtype[1].itemsize
    tensors = key_tables.tensors(family.key_table, shapes, prefix)
    tensors += [_plain_tensor(key, shape) for key, shape in (extra_shapes or {}).items()]
    shards: list[list[key_tables.Tensor]] = [[]]
    for tensor in tensors:
        size = item_size * sum(math.prod(t.shape) for t in [*shards[-1], tensor])
        if shards[-1] and max_shard_bytes is not None and size > max_shard_bytes:
            shards.append([])
        shards[-1].append(tensor)

    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        _write_safetensors(folder / name, shard, read_chunks, file_dtype)
    if index or len(shards) > 1:
        total_size = item_size * sum(math.prod(tensor.shape) for tensor in tensors)
        weight_map = {t.key: name for name, shard in zip(names, shards, strict=True) for t in shard}
        content = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
        write_json(folder / weight_files.INDEX_NAME, content)
    # Last, so that a folder with a config.json is a whole one.
    fields = family.format_config(config) | {"torch_dtype": dtype} | dict(config_fields or {})
    write_json(folder / weight_files.CONFIG_NAME, fields)


def check_dtype(dtype: str) -> tuple[str, np.dtype]:
    """Name of a dtype in safetensors files, and numpy's type.

    Raises:
        UserError: weights are not written in it.
    """
    if dtype not in WRITE_DTYPES:
        raise errors.UserError(f"dtype {dtype!r} cannot be written: choose {', '.join(WRITE_DTYPES)}")
    return WRITE_DTYPES[dtype]


def _plain_tensor(key: str, shape: tuple[int, ...]) -> key_tables.Tensor:
    """A tensor that is stored as it is, under its own key."""
    return key_tables.Tensor(key, key, None, shape, (1,) * len(shape), shape)


def _to_host(value: jax.Array) -> np.ndarray:
    """A whole array, gathered from the other processes where they hold parts of it."""
    if value.is_fully_addressable:
        return np.asarray(value)
    return multihost_utils.process_allgather(value, tiled=True)


def _write_safetensors(
    path: epath.Path,
    tensors: list[key_tables.Tensor],
    read_chunks: Callable[[key_tables.Tensor], Iterable[np.ndarray]],
    file_dtype: tuple[str, np.dtype],
) -> None:
    chunks = ((tensor, chunk) for tensor in tensors for chunk in read_chunks(tensor))

    def write() -> None:
        try:
            if distributed.is_main():
                _write_chunks(path, tensors, chunks, *file_dtype)
        finally:
            if distributed.num_processes() > 1:
                for _ in chunks:  # to the end even after a failed write: gathering takes all processes
                    pass

    distributed.agree(write)


def _write_chunks(
    path: epath.Path,
    tensors: list[key_tables.Tensor],
    chunks: Iterator[tuple[key_tables.Tensor, np.ndarray]],
    dtype_name: str,
    dtype: np.dtype,
) -> None:
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
    written = dict.fromkeys((tensor.key for tensor in tensors), 0)
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(header_text)) + header_text)
        for tensor, chunk in chunks:
            values = np.ascontiguousarray(chunk.astype(dtype, copy=False)).reshape(-1)
            written[tensor.key] += file.write(values.view(np.uint8).data)
    for tensor in tensors:
        if written[tensor.key] != math.prod(tensor.shape) * dtype.itemsize:
            raise ValueError(f"{tensor.key} of shape {tensor.shape} was given {written[tensor.key]} bytes")
    partial.replace(path)


def write_json(path: epath.Path, content: Any) -> None:
    """Writes JSON values as a file."""
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    artifacts.write_text(path, text)
