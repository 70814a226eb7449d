"""Layouts of a train step: mesh, remat and micro-batches. Which may be the fastest, and the first of them that fits.

Candidates come in the order of an estimate of their time (`candidates`). The search takes the first that fits: by a
rough count where that leaves no doubt, else by the compiler's own (`search`). Every layout gives the same results but
for rounding.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from selw2s_jax import sharding
from selw2s_jax.models import decoder, registry
from selw2s_jax.runtime import device_memory

AUTO = "auto"  # of execution.remat: to be chosen; of the mesh and of micro-batches that is None

# What the search may choose. "none" is not among them: what it keeps besides products takes longer to write and read
# than to make again (on 2 CPU cores a step of GPT-2 took mostly 1.2 times as long as with "dots"), and needs most
# memory.
REMATS = ("dots", "full")

# Links between machines are slower than those inside one, which tensor parallelism needs at every layer.
_MOST_TENSOR = 8
# Rates of an A100: products in bfloat16, in FLOPs for each byte over NVLink or of memory. They only put candidates in
# order, which they leave the same between half and twice as much, as the other accelerators have.
_FLOPS_PER_WIRE_BYTE = 1000
_FLOPS_PER_MEMORY_BYTE = 150
# Share of what products could hide that is waited for all the same. XLA's schedules of a step of Qwen-14B on 8 A100
# wait for a quarter of it with the flags of launch/xla_flags.sh, and for all of it without.
_HIDDEN_COSTS = 0.5
_FEWEST_TOKENS = 1024  # of a device in a micro-batch: products of fewer wait for their weights
_FLOAT32 = 4
# Of the memory, below and above which the rough count leaves no doubt, and the compiler is not asked; the last once it
# has corrected the rough count.
_SURELY_FITS, _SURELY_NOT, _SURELY_NOT_ONCE_CORRECTED = 0.4, 2.0, 0.95
# Of the usable memory, that a layout is to leave some of: fragments, and programs of evaluations.
TIGHT_SHARE = 0.9
_MOST_COUNTS = 5
_LOGITS_COPIES = 3  # of those made at once: themselves, their exponentials, their gradient
_WHOLE_SHARE = 0.25  # of a device's memory, up to which it holds all weights of a model that is read


class Layout(NamedTuple):
    """How a train step is laid out.

    Attributes:
        mesh_shape: (data, fsdp, tensor).
        remat: of `decoder.REMAT_POLICIES`.
        num_micro: micro-batches of a step.
    """

    mesh_shape: tuple[int, int, int]
    remat: str
    num_micro: int

    def describe(self, batch_size: int) -> str:
        """For people: "remat dots, mesh data 1 x fsdp 8 x tensor 1, micro-batches of 16"."""
        data, fsdp, tensor = self.mesh_shape
        batch = "whole batches" if self.num_micro == 1 else f"micro-batches of {batch_size // self.num_micro}"
        return f"remat {self.remat}, mesh data {data} x fsdp {fsdp} x tensor {tensor}, {batch}"


class Given(NamedTuple):
    """What is not to be chosen; None of what is.

    Attributes: as of `Layout`; a given mesh has been folded for the model.
    """

    mesh_shape: tuple[int, int, int] | None = None
    remat: str | None = None
    num_micro: int | None = None

    @property
    def layout(self) -> Layout | None:
        """The only candidate, where nothing is left to choose."""
        return None if None in self else Layout(*self)


class Work(NamedTuple):
    """What a step does, as far as its layout matters.

    Attributes:
        config: sizes of the model.
        trained: of `state.TRAINED`.
        num_params, num_trained: of the whole model, and those that are trained.
        param_dtype: of what is trained; what is frozen is held in the compute dtype.
        compute_dtype, moment_dtype: dtypes.
        num_tokens: of a step, padding apart.
        longest: tokens of the longest example.
        batch_sizes: examples of each kind in a step.
        predicts_tokens: whether its loss is of vocabulary entries.
        platform: of the devices, as JAX names it.
    """

    config: registry.ModelConfig
    trained: str
    num_params: int
    num_trained: int
    param_dtype: str
    compute_dtype: str
    moment_dtype: str
    num_tokens: int
    longest: int
    batch_sizes: tuple[int, ...]
    predicts_tokens: bool = False
    platform: str = "gpu"

    @property
    def state_bytes(self) -> int:
        """Of parameters and moments, on all devices together."""
        of_trained = _size(self.param_dtype) + 2 * _size(self.moment_dtype)
        return self.num_trained * of_trained + (self.num_params - self.num_trained) * _size(
            self.compute_dtype
        )


class Trial(NamedTuple):
    """A layout that was looked at.

    Attributes:
        num_bytes: that a device needs: by the compiler, or by the rough count.
        is_counted: whether by the compiler.
    """

    layout: Layout
    num_bytes: int
    is_counted: bool


class Found(NamedTuple):
    """What came of a search.

    Attributes:
        chosen: None where nothing fits.
        tried: what the compiler counted, in order.
    """

    chosen: Trial | None
    tried: tuple[Trial, ...]


def mesh_shapes(model_config: registry.ModelConfig, num_devices: int) -> list[tuple[int, int, int]]:
    """The (data, fsdp, tensor) that divide a model, on all devices; those that divide its state the most first."""
    divisors = [size for size in range(1, num_devices + 1) if num_devices % size == 0]
    shapes = [
        (data, num_devices // (data * tensor), tensor)
        for data, tensor in itertools.product(divisors, divisors)
        if num_devices % (data * tensor) == 0 and tensor <= _MOST_TENSOR
    ]
    return [shape for shape in shapes if _divides(shape, model_config)]


def _divides(shape: tuple[int, int, int], model_config: registry.ModelConfig) -> bool:
    """As `sharding.check_divisible`, of a shape alone."""
    _, fsdp, tensor = shape
    by_tensor = (model_config.kv_heads, model_config.num_heads, model_config.mlp_dim, model_config.vocab_size)
    return model_config.embed_dim % fsdp == 0 and not any(size % tensor for size in by_tensor)


def reading_mesh(
    model_config: registry.ModelConfig,
    usable_bytes: int | None,
    devices: Sequence[jax.Device] | None = None,
    *,
    dtype: Any = "float32",
) -> jax.sharding.Mesh:
    """The mesh for a model that is only read.

    Each device reads rows of its own, with all weights where they are few beside its memory; else fsdp divides them.

    Args:
        usable_bytes: memory of a device, None where it is not known.
        devices: default: all.
        dtype: that weights are held in, or a wider one.
    """
    devices = jax.devices() if devices is None else devices
    num_bytes = decoder.num_params(model_config, lm_head=True) * _size(dtype)
    is_whole = usable_bytes is not None and num_bytes <= _WHOLE_SHARE * usable_bytes
    shape = (len(devices), 1, 1) if is_whole else None
    return sharding.mesh_for(model_config, shape, may_fold=True, devices=devices)


def reading_mesh_here(model_config: registry.ModelConfig) -> jax.sharding.Mesh:
    """`reading_mesh` of all devices of a process that runs alone."""
    return reading_mesh(model_config, device_memory.usable_bytes(jax.devices()))


def candidates(work: Work, num_devices: int, given: Given | None = None) -> list[Layout]:
    """The layouts to choose from, in the order of the estimate of their time.

    Args:
        given: what all of them have.
    """
    given = given or Given()
    shapes = [given.mesh_shape] if given.mesh_shape else mesh_shapes(work.config, num_devices)
    remats = [given.remat] if given.remat else REMATS
    micros = [given.num_micro] if given.num_micro else _micros(work.batch_sizes)
    found = [Layout(*each) for each in itertools.product(shapes, remats, micros)]
    return sorted(found, key=lambda layout: time_estimate(work, layout))


def _micros(batch_sizes: Sequence[int]) -> list[int]:
    """Numbers of micro-batches: powers of two, and the largest, that divide the examples of every kind."""
    common = math.gcd(*batch_sizes)
    return [n for n in range(1, common + 1) if common % n == 0 and (n & (n - 1) == 0 or n == common)]


def time_estimate(work: Work, layout: Layout) -> float:
    """A number that grows with the time of a step: FLOPs of a device, of what limits it in their place.

    Counted are products, those made again too; the bytes of weights that fsdp gathers in every pass, of gradients that
    data and fsdp add up, as far as products do not hide them; the bytes of activations that tensor adds up, for which
    products wait; and the memory that the optimizer reads and writes.
    """
    config, (data, fsdp, tensor) = work.config, layout.mesh_shape
    num_micro, size = layout.num_micro, _size(work.compute_dtype)
    backbone_is_trained = work.trained == "all"
    again = layout.remat == "full" and work.trained != "heads"
    forward = 1 if num_micro == 1 or work.trained == "heads" else 2
    inputs = work.trained != "heads"
    passes = forward + again + inputs

    groups = data * fsdp
    per_micro = max(work.num_tokens / num_micro, groups * work.longest) / groups
    tokens = num_micro * max(per_micro, _FEWEST_TOKENS * tensor / _MOST_TENSOR)
    weights = config.num_layers * sum(number for *_, number in decoder.layer_weights(config).values())
    flops = 2 * weights * tokens / tensor * (passes + backbone_is_trained)

    gathered = num_micro * passes * weights * size / tensor * _others(fsdp)
    gradients = work.num_trained * size / tensor
    added = gradients * _others(fsdp) + 2 * gradients / fsdp * _others(data)
    activations = 4 * tokens * config.embed_dim * size * config.num_layers * passes * _others(tensor)
    memory = work.num_trained / (fsdp * tensor) * (2 * _size(work.param_dtype) + 4 * _size(work.moment_dtype))
    hidden = _FLOPS_PER_WIRE_BYTE * (gathered + num_micro * added)
    waited_for = _FLOPS_PER_WIRE_BYTE * activations + _HIDDEN_COSTS * hidden
    return max(flops, hidden) + waited_for + _FLOPS_PER_MEMORY_BYTE * memory


def _others(size: int) -> float:
    """The share of an array that is with the other devices of an axis."""
    return (size - 1) / size


def least_bytes(work: Work, layout: Layout) -> int:
    """What a device needs at least: its share of the state, were it divided evenly."""
    _, fsdp, tensor = layout.mesh_shape
    return work.state_bytes // (fsdp * tensor)


def rough_bytes(work: Work, layout: Layout) -> int:
    """What a device needs, roughly: state, gradients, weights in the compute dtype, activations that are kept.

    Fitted to what the compiler counted of Qwen-14B on 8 A100 at 128 to 1,024 tokens, and on a CPU of GPT-2 and of
    written answers by SmolLM2-135M and Qwen2.5-1.5B, no others.
    """
    config, (data, fsdp, tensor) = work.config, layout.mesh_shape
    size, shares = _size(work.compute_dtype), fsdp * tensor
    weights = decoder.layer_weights(config).values()
    gradients = work.num_trained * (size if layout.num_micro == 1 else size + _FLOAT32)
    cast = work.num_trained * size if work.param_dtype != work.compute_dtype else 0
    layer = sum(number for *_, number in weights)
    gathered = 2 * layer * size / tensor if fsdp > 1 else 0
    # The gradient of the embedding is added up in one piece.
    embedding = config.vocab_size * config.embed_dim * size / tensor if work.trained == "all" else 0

    groups = data * fsdp
    slots = max(work.num_tokens / layout.num_micro, groups * work.longest) / groups
    outputs = sum(number for _, number, _ in weights)
    every = outputs + sum(number for number, *_ in weights) + 8 * config.embed_dim
    scores = 4 * config.num_heads * work.longest
    kept = {"full": config.embed_dim, "dots": outputs, "none": 2 * every + scores}
    activations = slots * size * config.num_layers * kept[layout.remat] / tensor
    of_a_layer = slots * size * (every + scores) / tensor
    if work.trained == "heads":
        activations = 0
    # Of bfloat16 that a scan reads, XLA's CPU keeps the whole stack in float32 (`models.cpu_products`).
    is_widened = work.platform == "cpu" and size < _FLOAT32 and work.trained != "heads"
    of_weights = gradients + cast + work.num_params * _FLOAT32 * is_widened
    num_logits = min(slots * config.vocab_size, decoder.LOGITS_AT_ONCE / groups) * work.predicts_tokens
    of_loss = _LOGITS_COPIES * _FLOAT32 * num_logits / tensor
    state = least_bytes(work, layout)
    return int(state + of_weights / shares + gathered + embedding + activations + of_a_layer + of_loss)


def search(work: Work, layouts: Sequence[Layout], usable_bytes: int, count: Callable[[Layout], int]) -> Found:
    """The first layout that fits and leaves some room; else the first that fits at all.

    Few are counted: what the compiler counts of one corrects the rough count of those after it.

    Args:
        layouts: in the order in which they are wanted.
        usable_bytes: memory of a device.
        count: bytes that a device needs by the compiler; where it refuses the program what it names, 0 for nothing.
    """
    rough = {layout: rough_bytes(work, layout) for layout in layouts}
    tried: list[Trial] = []

    def try_out(layout: Layout) -> Trial:
        tried.append(Trial(layout, count(layout) or usable_bytes + 1, True))
        return tried[-1]

    correction, doubt = 1.0, _SURELY_NOT
    for layout in rough:
        if rough[layout] <= _SURELY_FITS * usable_bytes:
            return Found(Trial(layout, rough[layout], False), tuple(tried))
        if least_bytes(work, layout) > usable_bytes or rough[layout] * correction > doubt * usable_bytes:
            continue
        if try_out(layout).num_bytes <= TIGHT_SHARE * usable_bytes:
            break
        if len(tried) == _MOST_COUNTS:
            break
        correction, doubt = tried[-1].num_bytes / rough[layout], _SURELY_NOT_ONCE_CORRECTED
    leanest = min(rough, key=rough.__getitem__)
    is_known = any(one.num_bytes <= usable_bytes or one.layout == leanest for one in tried)
    if not is_known and least_bytes(work, leanest) <= usable_bytes:
        try_out(leanest)
    ample = [one for one in tried if one.num_bytes <= TIGHT_SHARE * usable_bytes]
    fitting = [one for one in tried if one.num_bytes <= usable_bytes]
    return Found(next(iter(ample or fitting), None), tuple(tried))


def _size(dtype: Any) -> int:
    return jnp.dtype(dtype).itemsize
