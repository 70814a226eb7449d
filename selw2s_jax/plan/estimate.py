"""What a train step costs, by formula: FLOPs, bytes of memory traffic, bytes on the wire, and the time they take.

Nothing here is compiled or measured. The FLOPs agree with XLA's own count of the decoder, and with those of compiled
programs (`plan.kernels`); the traffic is rough; the time is a roofline of published peaks (Williams et al. 2009), so a
lower bound that real steps exceed.
"""

from typing import NamedTuple

from selw2s_jax.models import decoder, heads, registry
from selw2s_jax.plan import chips

FLOAT32_BYTES = 4


class Flops(NamedTuple):
    """FLOPs of one step on all devices together, 2 for each multiply-add.

    Attributes:
        matmul: of products with weights.
        attention: of products of queries with keys and of their softmax with values.
        total: of both.
        model: of the two that the mathematics needs, once: without what is recomputed or masked. The numerator of MFU
            (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
    """

    matmul: int
    attention: int
    total: int
    model: int


class Passes(NamedTuple):
    """How often a step does the work of a forward pass, in forward passes."""

    forward: int
    recomputed_matmul: int
    recomputed_attention: int
    inputs: int  # gradients of the inputs of products
    weights: int  # gradients of the weights of the backbone


def count_passes(trained: str, remat: str, backward: bool, num_micro: int) -> Passes:
    """Those of a step; arguments as of `step_flops`."""
    if not backward or trained == "heads":  # no gradient enters a frozen backbone without adapters
        return Passes(1, 0, 0, 0, 0)
    forward = 1 if num_micro == 1 else 2
    return Passes(forward, remat == "full", remat != "none", 1, trained == "all")


def _last_params(config: registry.ModelConfig) -> int:
    """The parameters of one layer's weights whose products are not made again (`layers.Block.last_products`)."""
    names = decoder.abstract_decoder(config).layers.last_products
    weights = decoder.layer_weights(config)
    return sum(weights[f"layers.{name}"][2] for name in names)


def step_flops(
    config: registry.ModelConfig,
    *,
    num_tokens: int,
    num_examples: int,
    mean_length: float,
    row_length: int | None = None,
    trained: str = "all",
    remat: str = "full",
    num_predicted: int = 0,
    logits_again: bool = False,
    backward: bool = True,
    num_micro: int = 1,
    adapter_params: int = 0,
    num_read: int | None = None,
) -> Flops:
    """FLOPs of one step, or with `backward=False` of one forward pass.

    With P the parameters of products of a layer, L layers, N heads of H and D the width, one forward pass is

        products with weights   2 P L per token, and 2 per parameter of an adapter
        attention               4 T N H L per token (a query with its row's T keys; the softmax with as many values)
        heads                   2 * 2 * 2 D per example (two heads of two classes), or 2 V D per token predicted

    The backward pass is twice that, once for gradients of inputs and once for those of weights, which frozen weights do
    not have; with `trained="heads"` no gradient enters the backbone at all. Remat "full" adds the forward pass of the
    layers, but for products whose results are only added up (`layers.Block`); "dots" that of attention alone. More than
    one micro-batch adds one forward pass, whose outputs the loss of the whole batch is taken of (`training.step`).
    Where the last layer computes only the tokens that are read, and keys and values of the others, it is not made
    again. Elementwise work is left out.

    Args:
        num_tokens: of all rows, padding included.
        mean_length: tokens of an example, which attention needs to see, no more than its window; causal masks are not
            subtracted.
        row_length: of packed rows, which attention computes in full; default `mean_length`.
        trained: as `training.state.TRAINED`.
        remat: as `decoder.REMAT_POLICIES`.
        num_micro: micro-batches.
        adapter_params: with `trained="lora"`, `lora.num_params` of the adapters.
        num_read: tokens that the last layer computes whole; None: all, as any layer.
        num_predicted: tokens whose log-probabilities a language-model head gives, in the place of class heads; it is
            trained where all weights are.
        logits_again: whether its logits are made again for the gradient, as where they are made in parts of the
            vocabulary (`models.token_log_probs`).
    """
    passes = count_passes(trained, remat, backward, num_micro)
    row_length = mean_length if row_length is None else row_length
    num_layers, width = config.num_layers, config.num_heads * config.head_dim
    of_layer = sum(num_params for *_, num_params in decoder.layer_weights(config).values())
    unread = 0 if num_read is None else num_tokens - num_read
    frozen = 2 * (num_tokens * num_layers * of_layer - unread * (of_layer - key_value_params(config)))
    adapters = 2 * num_tokens * adapter_params
    num_again = num_layers if num_read is None else num_layers - 1
    made_again = num_again * 2 * num_tokens * (of_layer - _last_params(config))
    made_again += adapters * num_again // num_layers
    attention = 4 * (num_tokens * num_layers - unread) * width
    attention_again = 4 * num_tokens * num_again * width
    if num_predicted:
        head, head_backward = head_flops(config, num_predicted), passes.inputs + passes.weights
    else:
        head, head_backward = _class_heads(config, num_examples, trained, backward)
    head_again = passes.inputs * (num_predicted > 0 and logits_again)

    model_matmul = (
        frozen * (1 + passes.inputs + passes.weights)
        + adapters * (1 + 2 * passes.inputs)
        + head * (1 + head_backward)
    )
    again = passes.forward - 1
    matmul = model_matmul + again * (frozen + adapters + head)
    matmul += passes.recomputed_matmul * made_again + head_again * head
    attention_total = attention * (passes.forward + 2 * passes.inputs)
    attention_total += attention_again * passes.recomputed_attention
    attention_total *= row_length
    seen = mean_length if config.sliding_window is None else min(mean_length, config.sliding_window)
    model = model_matmul + attention * seen * (1 + 2 * passes.inputs)
    return Flops(int(matmul), int(attention_total), int(matmul + attention_total), int(model))


def _class_heads(
    config: registry.ModelConfig, num_examples: int, trained: str, backward: bool
) -> tuple[int, int]:
    """FLOPs of both heads once, and how often their gradients take as many."""
    head = 2 * num_examples * 2 * heads.NUM_CLASSES * config.embed_dim
    # Heads alone are fed by embeddings that need no gradient.
    return head, 0 if not backward else 1 if trained == "heads" else 2


def head_flops(config: registry.ModelConfig, num_predicted: int) -> int:
    """FLOPs of the logits of so many tokens, once: a product with the vocabulary."""
    return 2 * num_predicted * config.vocab_size * config.embed_dim


def key_value_params(config: registry.ModelConfig) -> int:
    """The parameters of one layer's weights that keys and values are products with."""
    of = {name.split(".")[-1]: num_params for name, (*_, num_params) in decoder.layer_weights(config).items()}
    return 2 * of["qkv"] // 3 if "qkv" in of else of["k"] + of["v"]


class Traffic(NamedTuple):
    """Bytes that one device reads and writes in one step."""

    optimizer: int
    weights: int
    activations: int
    total: int


def memory_bytes(
    config: registry.ModelConfig,
    *,
    num_tokens: int,
    row_length: int,
    num_params: int,
    num_trained: int,
    mesh_shape: tuple[int, int, int] = (1, 1, 1),
    param_bytes: int = 4,
    compute_bytes: int = 2,
    moment_bytes: int = 4,
    trained: str = "all",
    remat: str = "full",
    backward: bool = True,
    num_micro: int = 1,
) -> Traffic:
    """Bytes of memory traffic of one step on one device, a rough count.

    On a mesh (data, fsdp, tensor), with W the parameters held by a device of fsdp * tensor, and passes those of
    `step_flops` (forward, recomputed, gradients of inputs):

        optimizer    per trained parameter of W: the weight and both moments read and written once each in their
                     dtypes, the gradient in the compute dtype, or in float32 where micro-batches are summed
        weights      per micro-batch, W read and written once in every forward pass where it is cast to the compute
                     dtype, and per pass W read in it; with what fsdp gathers written and read
        activations  per pass, layer and token of the device: the inputs read and outputs written of every product in
                     the compute dtype, and 2 (4 + compute) bytes for each of the heads' row_length attention weights;
                     with the pass over gradients of weights counted too

    Elementwise work and what the backward pass of the softmax writes besides are left out. XLA's own count, part of
    which stays on the chip, was 2.1 to 2.9 times this for a layer of width 2048 compiled for TPU v5e.

    Args:
        num_params: of the whole model; num_trained: of them, or of heads and adapters, those that are trained.
        moment_bytes: of one moment of Adam, 0 for optimizers that keep next to nothing.
    """
    passes = count_passes(trained, remat, backward, num_micro)
    data, fsdp, tensor = mesh_shape
    held = num_params / (fsdp * tensor)
    updated = num_trained / (fsdp * tensor) if backward else 0
    gradient_bytes = compute_bytes if num_micro == 1 else FLOAT32_BYTES
    optimizer = updated * (2 * param_bytes + 2 * gradient_bytes + 2 * 2 * moment_bytes)

    reads = passes.forward + passes.recomputed_matmul + passes.inputs
    gathered = num_params / tensor if fsdp > 1 else 0
    cast = held * (param_bytes + compute_bytes) if param_bytes != compute_bytes else 0
    weights = num_micro * (passes.forward * cast + reads * (held + 2 * gathered) * compute_bytes)

    products = compute_bytes * sum(i + o for i, o, _ in decoder.layer_weights(config).values())
    scores = config.num_heads * row_length * 2 * (FLOAT32_BYTES + compute_bytes)
    tokens = num_tokens / (data * fsdp)
    matmul_passes = passes.forward + passes.recomputed_matmul + passes.inputs + passes.weights
    attention_passes = passes.forward + passes.recomputed_attention + 2 * passes.inputs
    activations = tokens * config.num_layers * (products * matmul_passes + scores * attention_passes) / tensor
    return Traffic(*map(int, (optimizer, weights, activations, optimizer + weights + activations)))


def wire_bytes(kind: str, num_bytes: int, group_size: int) -> float:
    """Bytes that each device of a group sends for one collective, by the ring algorithm.

    Args:
        kind: HLO's name: "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute" or
            "collective-broadcast".
        num_bytes: of the whole array: the result of an all-gather, the operand of a reduce-scatter; operand and result
            of the others are of one size.
        group_size: devices that take part.
    """
    if kind in ("collective-permute", "collective-broadcast"):
        return float(num_bytes)
    share = (group_size - 1) / group_size
    passes = {"all-gather": 1, "reduce-scatter": 1, "all-to-all": 1, "ragged-all-to-all": 1, "all-reduce": 2}
    return passes[kind] * share * num_bytes


class Time(NamedTuple):
    """Seconds of one step, by the peaks of a chip: an estimate, and a lower bound.

    Attributes:
        matmul_s, memory_s, interconnect_s: each alone.
        total_s: the longest of them, as if the others were hidden behind it; of a compiled program, that of its kernels
            in their order (`kernels.Executed`).
        bound: which that is, "matmul", "memory" or "interconnect".
    """

    matmul_s: float
    memory_s: float
    interconnect_s: float
    total_s: float
    bound: str


def roofline(
    chip: chips.Chip,
    *,
    flops: float,
    memory_bytes: float,
    collective_bytes: float,
    efficiency: float = 1.0,
    interconnect_bytes_per_s: float | None = None,
) -> Time | None:
    """The least time in which a device does this work; None for a chip without published peaks.

    Args:
        flops, memory_bytes: of one device; in float32 products take longer than the bfloat16 peak says.
        collective_bytes: that one device sends, as `wire_bytes`.
        efficiency: share of the peak of products that is reached; below 1 the result is no longer a bound.
        interconnect_bytes_per_s: of one device, default the chip's, which for GPUs holds within a node: the network
            between nodes is slower. `chips.slice_bytes_per_s` for TPU slices.
    """
    if chip.bf16_flops is None:
        return None
    rate = chip.interconnect_bytes_per_s if interconnect_bytes_per_s is None else interconnect_bytes_per_s
    seconds = {
        "matmul": flops / (chip.bf16_flops * efficiency),
        "memory": memory_bytes / chip.hbm_bytes_per_s,
        "interconnect": collective_bytes / rate if collective_bytes else 0.0,
    }
    bound = max(seconds, key=seconds.get)
    return Time(*seconds.values(), seconds[bound], bound)
