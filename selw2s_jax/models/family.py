"""The types that a model family and the decoder share: sizes, how to compute, and what a family provides."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from selw2s_jax.models import key_tables


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How the rotary embedding is stretched for contexts longer than those of pretraining.

    Attributes:
        kind: "linear" divides all frequencies by `factor` (Chen et al. 2023, arXiv 2306.15595); "llama3" only the low
            ones, as Llama 3.1 does: those of fewer than `low_freq_factor` turns within `original_max_seq_len` whole,
            of more than `high_freq_factor` not at all.
    """

    kind: str
    factor: float
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_seq_len: int | None = None


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The sizes of a decoder: everything that fixes its parameters' shapes and its function.

    Attributes:
        mlp_dim: width of the hidden layer of the MLP (for Qwen half of config.json's intermediate_size).
        max_seq_len: longest example, in tokens.
        rope_base: base of the rotary embedding, or None for learned positions.
        tie_embeddings: whether the language-model head is the token embedding.
        num_kv_heads: heads of keys and values where they are fewer than those of queries, which they divide; query head
            i has kv head i // (num_heads // num_kv_heads) (Ainslie et al. 2023, arXiv 2305.13245). None: as many.
        rope_scaling: of rotary positions, None for none.
        sliding_window: how many tokens a token sees, itself included; None for all.
        rotary_fraction: the share of a head's entries that is rotated, the first ones; None for all.
        parallel_residual: whether attention and MLP of a layer both read its input, as against one after the other,
            in the families that do either.
        activation: of the MLP, by its name in config.json, in the families that leave it open.
    """

    family: str
    num_layers: int
    embed_dim: int
    num_heads: int
    head_dim: int
    mlp_dim: int
    vocab_size: int
    max_seq_len: int
    norm_eps: float
    rope_base: float | None
    tie_embeddings: bool
    num_kv_heads: int | None = None
    rope_scaling: RopeScaling | None = None
    sliding_window: int | None = None
    rotary_fraction: float | None = None
    parallel_residual: bool = False
    activation: str | None = None

    @property
    def kv_heads(self) -> int:
        """The number of heads of keys and values."""
        return self.num_kv_heads or self.num_heads

    @property
    def rotary_dim(self) -> int:
        """The number of entries of a head that are rotated."""
        return self.head_dim if self.rotary_fraction is None else int(self.head_dim * self.rotary_fraction)

    def as_json(self) -> dict[str, Any]:
        """The sizes as JSON values, without those that have their default: what keys of stages are made of."""
        return {
            field.name: value
            for field, value in zip(dataclasses.fields(self), dataclasses.asdict(self).values(), strict=True)
            if value != field.default
        }

    @classmethod
    def from_json(cls, sizes: dict[str, Any]) -> "ModelConfig":
        """The inverse of `as_json`, also of what an earlier version wrote."""
        scaling = sizes.get("rope_scaling")
        return cls(**sizes | {"rope_scaling": None if scaling is None else RopeScaling(**scaling)})


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a decoder computes, as opposed to what (`ModelConfig`).

    Attributes:
        remat: what the backward pass keeps of each layer: "full" recomputes everything, "dots" keeps the
            products with weights, "none" keeps everything.
        attention: the implementation of `jax.nn.dot_product_attention`, "xla" or "cudnn".
    """

    param_dtype: jnp.dtype
    compute_dtype: jnp.dtype
    remat: str
    attention: str
    mesh: jax.sharding.Mesh


@dataclasses.dataclass(frozen=True)
class Family:
    """What a model family provides; `registry.register_family` makes it known.

    Attributes:
        name: `model_type` of config.json.
        block: `block(config, settings, rngs)` declares all layers as one stack of parameters [L, ...];
            called on one layer's slice as `block(x [R, T, D], context: layers.Context)` it returns the new x
            and its keys and values, [R, T, K, H] each, K the number of kv heads. A `layers.Block`, or of its form.
        norm: `norm(config, settings, rngs)`, the final norm.
        parse_config: config.json -> ModelConfig; raises ValueError saying what is missing or unsupported.
        format_config: the inverse, as the family's own code writes it.
        key_table: of its checkpoints.
    """

    name: str
    block: Callable[..., Any]
    norm: Callable[..., Any]
    parse_config: Callable[[dict], ModelConfig]
    format_config: Callable[[ModelConfig], dict]
    key_table: key_tables.KeyTable


# Of config.json. Integers beyond are no size of a model, and arrays of such sizes cannot even be described; floats
# beyond are 0 or infinite in float32.
_RANGES = {int: (1, 2**24), float: (float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max))}


def require(config: dict, field: str, kind: type = int, *, most: float = math.inf):
    """`config[field]` as a positive number of `kind`, at most `most`; ValueError, naming it, where it is none."""
    value = config.get(field)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    # The comparisons are such that NaN is refused too.
    if not numeric or not value > 0 or (kind is int and not value % 1 == 0):
        raise ValueError(f"{field} must be a positive {kind.__name__}, not {shown(value)}")
    least, greatest = _RANGES[kind][0], min(_RANGES[kind][1], most)
    if not least <= value <= greatest:
        raise ValueError(f"{field} must lie in {least:.8g} to {greatest:.8g}, not be {shown(value)}")
    return kind(value)


def flag(config: dict, field: str, default: bool) -> bool:
    """`config[field]`, which may be missing; ValueError where it is neither true nor false."""
    value = config.get(field, default)
    if not isinstance(value, bool):
        raise ValueError(f"{field} must be true or false, not {shown(value)}")
    return value


def shown(value) -> str:
    """A value of config.json for an error line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def refuse_unsupported(config: dict, supported: dict[str, tuple]) -> None:
    """Raises ValueError for each field whose value is given and not among the supported ones."""
    faults = [
        f"{field} {shown(config[field])} (supported: {' or '.join(map(repr, values))})"
        for field, values in supported.items()
        if field in config and config[field] not in values
    ]
    if faults:
        raise ValueError("unsupported " + ", ".join(faults))
