"""Cases of `support.fuzz`: small checkpoints with a damaged config.json, index, header or file."""

import dataclasses
import functools
import json
import math
import pathlib
import random
import struct
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from support import families, fuzz

from selw2s_jax.hf import loader, random_checkpoint, weight_files
from selw2s_jax.models import decoder, family, registry

_KINDS = ("llama", "llama_tied", "mistral", "qwen3", "gpt_neox")
_GPT2 = family.ModelConfig("gpt2", 2, 12, 3, 4, 13, 17, 11, 1e-5, None, True)


@functools.cache
def _checkpoint(kind: str, is_sharded: bool) -> dict[str, bytes]:
    """The files of a small checkpoint by name."""
    config = families.CONFIGS.get(kind, _GPT2)
    with tempfile.TemporaryDirectory() as folder:
        random_checkpoint.write_random_checkpoint(
            folder, config, max_shard_bytes=20_000 if is_sharded else None
        )
        return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


@functools.cache
def _sizes(config: family.ModelConfig) -> dict[str, int]:
    """The entries of each parameter: how they are cut into heads no file tells but config.json."""
    return {name: math.prod(one.shape) for name, one in decoder.abstract_params(config, lm_head=True).items()}


def _damage_header(generator: random.Random, path: pathlib.Path) -> str:
    """Damages values of a safetensors header, and keeps the size that stands before it true, most times."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    for _ in range(generator.choice((1, 1, 2))):
        if generator.random() < 0.3:
            one, other = generator.sample(sorted(header), 2)
            field = generator.choice(("data_offsets", "dtype", "shape"))
            header[one][field], header[other][field] = header[other].get(field), header[one].get(field)
            if None in (header[one][field], header[other][field]):
                break
        else:
            header = fuzz.damage_json(generator, header)
        if (
            not isinstance(header, dict)
            or not all(isinstance(one, dict) for one in header.values())
            or len(header) < 2
        ):
            break
    text = json.dumps(header).encode()
    start = struct.pack("<Q", len(text) + generator.choice((0,) * 20 + (1, -1)))
    path.write_bytes(start + text + content[8 + size :])
    return f"header of {path.name} damaged in values"


def _damage(generator: random.Random, folder: pathlib.Path) -> str:
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    index = folder / weight_files.INDEX_NAME
    match generator.randrange(6):
        case 0 | 1:
            return _damage_header(generator, folder / generator.choice(files))
        case 2 | 3 if index.exists():
            return f"index {fuzz.damage_json_file(generator, index)}"
        case 2 | 3 | 4:
            return f"config.json {fuzz.damage_json_file(generator, folder / weight_files.CONFIG_NAME)}"
        case _:
            return fuzz.damage_folder(generator, folder)


def _plain(config: family.ModelConfig) -> bool:
    """Whether the numbers are such that a decoder of them computes."""
    numbers = [value for value in dataclasses.asdict(config).values() if type(value) in (int, float)]
    return all(math.isfinite(number) and number > 0 for number in numbers)


@fuzz.register("weights")
def checkpoints(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A model's folder, without a tokenizer."""
    kind, is_sharded = generator.choice((*_KINDS, "gpt2", "gpt2")), generator.random() < 0.5
    before = families.CONFIGS.get(kind, _GPT2)
    for name, content in _checkpoint(kind, is_sharded).items():
        (folder / name).write_bytes(content)
    what = f"{kind}, {_damage(generator, folder)}"
    is_loaded = generator.random() < 0.05
    said = (
        (folder / weight_files.CONFIG_NAME).read_bytes()
        if (folder / weight_files.CONFIG_NAME).is_file()
        else None
    )
    has_config = said == _checkpoint(kind, is_sharded)[weight_files.CONFIG_NAME]

    def check(config: registry.ModelConfig) -> None:
        assert _plain(config), config
        assert config == before or not has_config, config
        assert _sizes(config) == _sizes(before), config
        if is_loaded:
            model = loader.load_decoder(
                folder, param_dtype=jnp.float32, compute_dtype=jnp.float32, lm_head=True
            )
            assert all(np.asarray(leaf).size for leaf in jax.tree.leaves(nnx.state(model)))

    return fuzz.Case(what, lambda: loader.check_checkpoint(folder, lm_head=True), check)
