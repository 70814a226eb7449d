"""What a compiled program does on one device, kernel by kernel, read from its HLO text: products, memory traffic, time.

XLA's own cost analysis counts the body of a loop once, and says nothing of programs for accelerators that are not here.
"""

import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from selw2s_jax.plan import hlo

_FREE = {
    "after-all",
    "bitcast",
    "call",
    "conditional",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
    "while",
}
_SLICES = ("dynamic-slice", "slice", "gather")
_CONTRACTED = re.compile(r"lhs_contracting_dim(?:ension)?s\"?[=:]\s*[\[{]([^\]}]*)[\]}]")
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_WINDOW = re.compile(r"window=\{([^}]*)\}")


class Rates(NamedTuple):
    """FLOPs per second, and bytes per second of memory and of the links, of one device."""

    flops: float
    memory: float
    links: float


class Executed(NamedTuple):
    """What one device does in a run of a program.

    Attributes:
        flops: of products, 2 for each multiply-add; elementwise work is left out.
        memory_bytes: read and written by kernels, each of which reads its inputs and writes its results once; what
            stays in a TPU's vector memory is not among them.
        seconds: of the kernels one after another as they are scheduled, each as long as its products or its memory
            traffic takes, and of what they wait for collectives; None without rates.
    """

    flops: float
    memory_bytes: float
    seconds: float | None


def executed(text: str, num_devices: int, rates: Rates | None = None) -> Executed:
    """Reads a program.

    Args:
        text: of the optimised module, scheduled, `compiled.as_text()`.
        num_devices: that it runs on.
    """
    return _Reader(hlo.parse(text), num_devices).executed(rates)


class _Reader:
    def __init__(self, module: hlo.Module, num_devices: int):
        self._module, self._num_devices = module, num_devices
        self._types = {
            name: {one.name: one.result for one in body} for name, body in module.computations.items()
        }
        self._by_name = {name: {one.name: one for one in body} for name, body in module.computations.items()}

    def executed(self, rates: Rates | None) -> Executed:
        turns, within = hlo.turns(self._module), hlo.within_kernels(self._module)
        flops = memory = 0.0
        for name, body in self._module.computations.items():
            if not turns[name]:
                continue
            flops += turns[name] * sum(self._flops(name, one) for one in body)
            if name not in within:
                memory += turns[name] * sum(self._bytes(name, one) for one in body)
        return Executed(flops, memory, None if rates is None else self._seconds(rates))

    def _flops(self, name: str, one: hlo.Instruction) -> float:
        types = self._types[name]
        if one.opcode == "convolution":
            return _convolution_flops(one, types)
        if one.opcode == "dot" or (one.opcode == "custom-call" and "contracting_dim" in one.rest):
            (_, left), *_ = hlo.arrays(types[hlo.operands(one.rest)[0]])
            axes = re.findall(r"\d+", _CONTRACTED.search(one.rest)[1])
            (_, result), *_ = hlo.arrays(one.result)
            return 2.0 * math.prod(result) * math.prod(left[int(axis)] for axis in axes)
        return 0.0

    def _flops_of_kernel(self, name: str, one: hlo.Instruction) -> float:
        inner = (
            self._flops_of_kernel(called, part)
            for called in hlo.called(one)
            for part in self._module.computations.get(called, ())
        )
        return self._flops(name, one) + (sum(inner) if one.opcode == "fusion" else 0.0)

    def _bytes(self, name: str, one: hlo.Instruction) -> float:
        types, inputs = self._types[name], hlo.operands(one.rest)
        if one.opcode == "copy-start":
            return _hbm(types[inputs[0]]) + _hbm(one.result, first=True)
        if one.opcode in _FREE or one.opcode.endswith(("-start", "-done")) or one.opcode in hlo.KINDS:
            return 0.0
        if one.opcode in _SLICES:
            return 2.0 * _hbm(one.result)
        if one.opcode == "dynamic-update-slice":
            return 2.0 * _hbm(types[inputs[1]])
        if one.opcode == "fusion":
            (called,) = hlo.called(one)
            shares = self._read_shares(called)
            read = sum(
                shares.get(number, 1.0) * _hbm(types.get(operand, ""))
                for number, operand in enumerate(inputs)
            )
            return read + self._written(called, one.result)
        return sum(_hbm(types.get(operand, "")) for operand in inputs) + _hbm(one.result)

    @functools.cache  # noqa: B019 - as long as the reader
    def _read_shares(self, name: str) -> dict[int, float]:
        """Of each parameter of a fusion by its number, the share that is read: of what is sliced, the slice."""
        body, types = self._module.computations[name], self._types[name]
        users: dict[str, list[tuple[hlo.Instruction, int]]] = {}
        for one in body:
            for place, operand in enumerate(hlo.operands(one.rest)):
                users.setdefault(operand, []).append((one, place))

        @functools.cache
        def share(of: str) -> float:
            size = hlo.num_elements(types[of])
            if of not in users or not size:
                return 1.0
            return min(sum(_share_of_use(*use, of, size) for use in users[of]), 1.0)

        def _share_of_use(user: hlo.Instruction, place: int, of: str, size: int) -> float:
            if place == 0 and user.opcode in _SLICES:
                return share(user.name) * hlo.num_elements(user.result) / size
            if place == 0 and user.opcode == "dynamic-update-slice":
                return 0.0  # in place
            if user.opcode == "fusion":  # TPU: one within another
                return self._read_shares(next(hlo.called(user))).get(place, 1.0)
            return share(user.name) if hlo.num_elements(user.result) == size else 1.0

        return {int(one.rest.partition(")")[0]): share(one.name) for one in body if one.opcode == "parameter"}

    def _written(self, name: str, result: str) -> float:
        """Bytes that a fusion writes: of an array that it updates in place, the update."""
        by_name, types = self._by_name[name], self._types[name]
        root = self._module.computations[name][-1]
        outputs = hlo.operands(root.rest) if root.opcode == "tuple" else [root.name]
        found = 0.0
        for output in outputs:
            one = by_name[output]
            while one.opcode in ("bitcast", "copy") and hlo.operands(one.rest)[0] in by_name:
                one = by_name[hlo.operands(one.rest)[0]]
            if one.opcode == "dynamic-update-slice":
                found += _hbm(types[hlo.operands(one.rest)[1]])
            elif one.opcode == "fusion":
                found += self._written(next(hlo.called(one)), one.result)
            elif len(outputs) > 1:
                found += _hbm(types[output])
            else:
                found += _hbm(result)
        return found

    def _seconds(self, rates: Rates) -> float:
        @functools.cache
        def run(name: str) -> float:
            return self._schedule(name, rates, run)

        return run(self._module.entry)

    def _schedule(self, name: str, rates: Rates, run) -> float:
        """Seconds of one turn of a computation, in which kernels run one by one and collectives beside them."""
        clock = links_free = 0.0
        pending: dict[str, float] = {}  # by what waits for it
        beside = dict(self._beside(name))
        for one in self._module.computations[name]:
            moved = hlo.collective(self._module, name, one, self._num_devices)
            if moved is not None:
                links_free = max(clock, links_free) + moved.wire_bytes / rates.links
                if one.opcode.endswith("-start") and '"is_sync":true' not in one.rest:
                    pending[one.name] = links_free
                else:
                    clock = links_free
            elif one.opcode.endswith("-done"):
                clock = max(clock, pending.pop(next(iter(hlo.operands(one.rest)), ""), 0.0))
            elif one.opcode == "while":
                clock += hlo.trip_count(self._module, one) * sum(run(each) for each in hlo.called(one))
            elif one.opcode in ("call", "async-start"):
                clock += sum(run(each) for each in hlo.called(one))
            elif one.opcode == "conditional":
                clock += max(run(each) for each in hlo.called(one))
            else:
                flops, num_bytes = self._flops_of_kernel(name, one), self._bytes(name, one)
                clock += max(flops / rates.flops, num_bytes / rates.memory)
                for channel, wire_bytes, ends in beside.get(one.name, ()):
                    if channel not in pending:
                        pending[channel] = links_free = max(clock, links_free) + wire_bytes / rates.links
                    if ends:
                        clock = max(clock, pending[channel])
        return max(clock, links_free)

    def _beside(self, name: str) -> Iterator[tuple[str, list[tuple[str, float, bool]]]]:
        """Of fusions that hold collectives: the channel of each, its bytes, whether this is the last of them."""
        body, seen = self._module.computations[name], set()
        found = {}
        for one in reversed(body):
            if one.opcode != "fusion":
                continue
            for called in hlo.called(one):
                for part in self._module.computations.get(called, ()):
                    moved = hlo.collective(self._module, called, part, self._num_devices)
                    if moved is not None:
                        key = moved.channel or f"{called}.{part.name}"
                        found.setdefault(one.name, []).append((key, moved.wire_bytes, key not in seen))
                        seen.add(key)
        yield from found.items()


def _convolution_flops(one: hlo.Instruction, types: dict[str, str]) -> float:
    """As TPUs spell products: dimensions of a batch are spatial ones, padded so that most places hold nothing."""
    (_, left), (_, right) = (next(iter(hlo.arrays(types[name]))) for name in hlo.operands(one.rest)[:2])
    (_, result), *_ = hlo.arrays(one.result)
    inputs, kernel, outputs = _LABELS.search(one.rest).groups()
    window = _WINDOW.search(one.rest)
    fields = dict(field.split("=") for field in window[1].split()) if window else {}
    numbers = {key: value.split("x") for key, value in fields.items()}
    pairs = 1
    for axis in range(sum(label.isdecimal() for label in outputs)):
        given = {key: values[axis] for key, values in numbers.items()}
        size_in, size_out = left[inputs.index(str(axis))], result[outputs.index(str(axis))]
        pairs *= _valid_places(size_in, size_out, given)
    spatial = math.prod(size for size, label in zip(result, outputs, strict=True) if label.isdecimal())
    return 2.0 * math.prod(result) / spatial * pairs * right[kernel.index("i")]


def _valid_places(size_in: int, size_out: int, window: dict[str, str]) -> int:
    """Pairs of an output and a place of the window, along one dimension, where there is an input."""
    stride, dilation = int(window.get("stride", 1)), int(window.get("lhs_dilate", 1))
    step, low = int(window.get("rhs_dilate", 1)), int(window.get("pad", "0_0").split("_")[0])
    reach = (size_in - 1) * dilation
    places = (
        out * stride + place * step - low for out in range(size_out) for place in range(int(window["size"]))
    )
    return sum(0 <= place <= reach and place % dilation == 0 for place in places)


def _hbm(type_text: str, *, first: bool = False) -> float:
    """Bytes of the arrays of a type that are in the device's memory: S(1) is a TPU's vector memory."""
    return sum(hlo.array_bytes(type_text, first=first, skip="S(1)"))
