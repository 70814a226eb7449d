"""A compiled step beside what it could be: the products that the mathematics needs, and the least bytes of its layout.

By formula from the sizes of the model; what is compiled is read from the program (`plan.kernels`).
"""

from typing import NamedTuple

from selw2s_jax.models import decoder, registry
from selw2s_jax.plan import estimate


class Products(NamedTuple):
    """FLOPs of one step on all devices together.

    Attributes:
        useful: of tokens that are read: of the last layer keys and values of all tokens, the rest of those that the
            heads read; logits of answer tokens alone.
        recomputed: made again by remat, and by the second forward pass of micro-batches; logits by the backward
            pass, where they are made in parts of the vocabulary.
        unread: of padding, of tokens of the last layer that nobody reads, and of attention over other examples.
        others: what the compiled program has more than the formula says, or less than all of these.
    """

    useful: float
    recomputed: float
    unread: float
    others: float

    @property
    def total(self) -> float:
        return sum(self)


class Bytes(NamedTuple):
    """Bytes of one step on one device: the least, by what they are of, and those of the compiled program."""

    parts: dict[str, float]
    compiled: float

    @property
    def least(self) -> float:
        return sum(self.parts.values())


class Limits(NamedTuple):
    """What a step needs beside what it does; seconds by the peaks of a chip are in `compiled.Compiled`."""

    products: Products
    memory: Bytes
    network: Bytes


class Step(NamedTuple):
    """What a step does, as far as its limits depend on it.

    Attributes:
        num_tokens: of all rows, padding included; num_used: without padding.
        length: tokens of an example.
        num_read: tokens that the last layer computes whole, as of `estimate.step_flops`.
        trained, remat, num_micro, backward, adapter_params: as of `estimate.step_flops`.
        mesh_shape: (data, fsdp, tensor).
        num_params, num_trained, param_bytes, compute_bytes, moment_bytes: as of `estimate.memory_bytes`.
        num_predicted: places for tokens whose log-probabilities are taken, padding among them; 0 of class heads.
        num_answered: answer tokens, which those are for.
        logits_again: as of `estimate.step_flops`.
    """

    config: registry.ModelConfig
    num_tokens: int
    num_used: int
    num_examples: int
    length: int
    row_length: int
    trained: str
    remat: str
    num_micro: int
    backward: bool
    adapter_params: int
    mesh_shape: tuple[int, int, int]
    num_params: int
    num_trained: int
    param_bytes: int
    compute_bytes: int
    moment_bytes: int
    num_read: int | None = None
    num_predicted: int = 0
    num_answered: int = 0
    logits_again: bool = False

    @property
    def num_wanted(self) -> int:
        """Tokens whose last layer is needed whole: those that predict an answer token, or the last of each example."""
        return min(self.num_answered if self.num_predicted else self.num_examples, self.num_used)

    @property
    def num_last(self) -> int:
        """Tokens of the last layer of which more than keys and values are computed."""
        return self.num_tokens if self.num_read is None else self.num_read

    @property
    def passes(self) -> estimate.Passes:
        return estimate.count_passes(self.trained, self.remat, self.backward, self.num_micro)

    @property
    def weights(self) -> dict[str, tuple[int, int, int]]:
        """`decoder.layer_weights` by the end of their names, as "q" or "down"."""
        return {name.split(".")[-1]: one for name, one in decoder.layer_weights(self.config).items()}

    @property
    def head_bytes(self) -> float:
        """Of the vocabulary's weights that a device multiplies with, where tokens are predicted."""
        numbers = self.config.vocab_size * self.config.embed_dim if self.num_predicted else 0
        return numbers * self.compute_bytes / self.mesh_shape[2]

    @property
    def layer_params(self) -> int:
        return sum(number for *_, number in self.weights.values())


def formula_flops(step: Step, **changes) -> int:
    """FLOPs of a step on all devices together, by `estimate.step_flops`."""
    return _flops(step, **changes).total


def _flops(step: Step, **changes) -> estimate.Flops:
    options = {
        "num_tokens": step.num_tokens,
        "num_examples": step.num_examples,
        "mean_length": step.length,
        "row_length": step.row_length,
        "trained": step.trained,
        "remat": step.remat,
        "backward": step.backward,
        "num_micro": step.num_micro,
        "adapter_params": step.adapter_params,
        "num_read": step.num_read,
        "num_predicted": step.num_predicted,
        "logits_again": step.logits_again,
    }
    return estimate.step_flops(step.config, **(options | changes))


def products(step: Step, compiled_flops: float) -> Products:
    """Which of a step's products are needed.

    Args:
        compiled_flops: of all devices together, as the compiled program has them.
    """
    of_all, once = formula_flops(step), formula_flops(step, remat="none", num_micro=1, logits_again=False)
    wanted = {"num_tokens": step.num_used, "num_read": step.num_wanted, "num_predicted": step.num_answered}
    needed = _flops(step, **wanted, remat="none", num_micro=1).model
    useful = min(needed, once)
    unread, others = once - useful, float(compiled_flops - of_all)
    left_out = min(
        max(-others, 0.0), unread
    )  # less than the formula: products that nobody reads are not made
    return Products(useful, of_all - once, unread - left_out, others + left_out)


def network(step: Step) -> dict[str, float]:
    """The least bytes that each device sends in one step, by what they are of; rings as of `estimate.wire_bytes`.

    With W the weights of products in the compute dtype that one device of the tensor axis multiplies with, in each
    micro-batch

        gathers      W over fsdp in every forward pass and once in the backward pass, of a last layer that is read
                     in the forward pass alone
        gradients    of trained weights: W scattered over fsdp, and of what is left summed over data; those of adapters
                     summed over both
        activations  two sums over tensor of a layer's outputs in every forward pass, and of its inputs' gradients; of
                     what remat "full" makes again, those that the backward pass needs; of the last layer those of
                     tokens that are read, and the gradients of its input
        embedding    rows looked up: summed over tensor, exchanged over fsdp, and back with those of all data groups
        head         of the vocabulary, where tokens are predicted: as the weights of a layer, but that its gradient of
                     inputs alone is summed over tensor
    """
    data, fsdp, tensor = step.mesh_shape
    config, passes = step.config, step.passes
    size, num_layers = step.compute_bytes, step.config.num_layers
    weights = num_layers * step.layer_params * size / tensor
    num_gathers = num_layers * (passes.forward + passes.inputs)
    if step.num_read is not None:
        num_gathers -= passes.inputs  # those of the last layer are still there: its backward pass comes first
    gathers = step.num_micro * num_gathers * estimate.wire_bytes("all-gather", weights / num_layers, fsdp)
    gradients = passes.weights * _gradients(step, weights)
    if step.trained == "lora":
        adapters = step.adapter_params * size / tensor
        gradients = estimate.wire_bytes("all-reduce", adapters, data * fsdp)
    tokens = step.num_tokens / (data * fsdp)
    stream = tokens * config.embed_dim * size
    again = passes.recomputed_matmul * (2 - len(decoder.abstract_decoder(config).layers.last_products))
    once = 2 * (passes.forward + passes.inputs)
    # In units of the stream; of the last layer all tokens have a gradient, that of keys and values.
    read = step.num_last / step.num_tokens
    num_sums = num_layers * (once + again)
    if step.num_read is not None:
        num_sums = (num_layers - 1) * (once + again) + once * read + passes.inputs * (1 - read)
    activations = num_sums * estimate.wire_bytes("all-reduce", stream, tensor)
    if step.trained == "heads":
        return {"gathers": gathers, "activations": activations, "embedding": _look_up(step, stream)}
    found = {
        "gathers": gathers,
        "gradients": step.num_micro * gradients,
        "activations": activations,
        "embedding": _look_up(step, stream) * passes.forward + passes.weights * _back_to_table(step, stream),
    }
    return found | ({"head": _head(step)} if step.num_predicted else {})


def _gradients(step: Step, weights: float) -> float:
    data, fsdp, _ = step.mesh_shape
    scattered = estimate.wire_bytes("reduce-scatter", weights, fsdp)
    return scattered + estimate.wire_bytes("all-reduce", weights / fsdp, data)


def _head(step: Step) -> float:
    data, fsdp, tensor = step.mesh_shape
    passes, weights = step.passes, step.head_bytes
    gathers = (passes.forward + passes.inputs) * estimate.wire_bytes("all-gather", weights, fsdp)
    gradients = passes.weights * _gradients(step, weights)
    inputs = step.num_predicted / (data * fsdp) * step.config.embed_dim * step.compute_bytes
    summed = passes.inputs * estimate.wire_bytes("all-reduce", inputs, tensor)
    return step.num_micro * (gathers + gradients) + summed


def _look_up(step: Step, stream: float) -> float:
    _, fsdp, tensor = step.mesh_shape
    rows = stream * step.param_bytes / step.compute_bytes  # before they are cast
    summed = estimate.wire_bytes("all-reduce", rows, tensor)
    return summed + estimate.wire_bytes("all-to-all", stream, fsdp)


def _back_to_table(step: Step, stream: float) -> float:
    data, fsdp, _ = step.mesh_shape
    return estimate.wire_bytes("all-to-all", stream, fsdp) + estimate.wire_bytes(
        "all-gather", stream * data, data
    )


def memory(step: Step) -> dict[str, float]:
    """The least bytes that one device reads and writes in one step, by what they are of.

    weights      those that the device multiplies with, the vocabulary's where tokens are predicted, read in every
                 forward pass and in the backward pass, and once more where they are cast
    optimizer    as of `estimate.memory_bytes`: weights, moments and gradients read and written once
    activations  what remat keeps of each layer, written and read: its input, and of "dots" and "none" the results of
                 its products; of the last layer that is read these, of the tokens that it computes
    """
    config, passes = step.config, step.passes
    data, fsdp, tensor = step.mesh_shape
    size = step.compute_bytes
    multiplied = config.num_layers * step.layer_params * size / tensor + step.head_bytes
    weights = step.num_micro * multiplied * (passes.forward + passes.inputs)
    if step.param_bytes != size:
        weights += step.num_params / (fsdp * tensor) * step.param_bytes
    traffic = estimate.memory_bytes(
        config,
        num_tokens=step.num_tokens,
        row_length=step.row_length,
        num_params=step.num_params,
        num_trained=step.num_trained,
        mesh_shape=step.mesh_shape,
        param_bytes=step.param_bytes,
        compute_bytes=size,
        moment_bytes=step.moment_bytes,
        backward=step.backward,
        num_micro=step.num_micro,
    )
    kept = 0.0
    if passes.inputs:
        outputs = sum(number for _, number, _ in step.weights.values()) / tensor
        per_token = config.embed_dim + (0 if step.remat == "full" else outputs)
        of_layer = step.num_tokens * per_token
        numbers = config.num_layers * of_layer
        if step.num_read is not None:
            keys_values = 2 * config.kv_heads * config.head_dim / tensor
            unread = (step.num_tokens - step.num_read) * (config.embed_dim + keys_values)
            numbers += step.num_read * (config.embed_dim + outputs) + unread - of_layer
        kept = 2 * numbers / (data * fsdp) * size
    return {"weights": weights, "optimizer": traffic.optimizer, "activations": kept}


def of_step(step: Step, *, flops: float, memory_bytes: float, wire_bytes: float) -> Limits:
    """The limits of a step beside what its compiled program does on one device."""
    num_devices = step.mesh_shape[0] * step.mesh_shape[1] * step.mesh_shape[2]
    return Limits(
        products(step, flops * num_devices),
        Bytes(memory(step), memory_bytes),
        Bytes(network(step), wire_bytes),
    )
