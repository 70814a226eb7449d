"""Collectives of a compiled program, read from its HLO text."""

import collections
import functools
import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from selw2s_jax.plan import estimate

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_ITEM_BITS = {"pred": 8, "token": 0}  # others end in their number of bits: bf16, f32, s8, u4, f8e4m3fn
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"(?<=[\s)}\]])([a-z][a-z0-9\-]*)\(")
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_APPLIED = re.compile(r"\bto_apply=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIP_COUNT = re.compile(r'known_trip_count\\?":\{\\?"n\\?":\\?"(\d+)')
_COMPARED = re.compile(r"compare\(%?[\w.\-]+, %?([\w.\-]+)\), direction=LT")


class Collective(NamedTuple):
    """The collectives of one kind in one run of a program, as each device takes part in them.

    Attributes:
        kind: of `KINDS`.
        count: how many; those of a loop once for each turn.
        num_bytes: of the whole arrays that are gathered, reduced or moved.
        wire_bytes: that each device sends, as `estimate.wire_bytes`.
    """

    kind: str
    count: int
    num_bytes: int
    wire_bytes: float


class Instruction(NamedTuple):
    """A line of a computation."""

    name: str
    result: str  # its type
    opcode: str
    rest: str  # operands and attributes


class Module(NamedTuple):
    """A program: the name of the computation that it starts with, and the instructions of each."""

    entry: str
    computations: dict[str, list[Instruction]]


class Moved(NamedTuple):
    """One collective instruction: attributes as of `Collective`, and the number that others of the same have too."""

    kind: str
    num_bytes: int
    wire_bytes: float
    channel: str | None


def collectives(text: str, num_devices: int) -> list[Collective]:
    """The collectives of a program, loops counted as often as they turn.

    Args:
        text: of the optimised module, `compiled.as_text()`.
        num_devices: that it runs on.
    """
    module = parse(text)
    times, within = turns(module), within_kernels(module)
    found: dict[tuple, Collective] = {}
    for name, instructions in module.computations.items():
        for one in instructions if times[name] else ():
            moved = collective(module, name, one, num_devices)
            if moved is None:
                continue
            this = Collective(
                moved.kind, times[name], times[name] * moved.num_bytes, times[name] * moved.wire_bytes
            )
            # TPU: one that runs beside computation is named again in each fusion that it runs beside.
            channel = moved.channel if name in within else None
            key = (moved.kind, channel) if channel else (name, one.name)
            found[key] = min(this, found.get(key, this))
    return [_total(kind, found.values()) for kind in KINDS if any(one.kind == kind for one in found.values())]


def collective(module: Module, name: str, one: Instruction, num_devices: int) -> Moved | None:
    """What an instruction of a computation moves between devices; None where that is nothing."""
    kind = one.opcode.removesuffix("-start")
    if kind not in KINDS:
        return None
    sizes = {each.name: each.result for each in module.computations[name]}
    group = _group_size(one.rest, num_devices)
    whole = sum(sum(array_bytes(sizes.get(operand, ""))) for operand in operands(one.rest))
    if kind == "all-gather":
        whole *= group
    # TPU: "all-reduce-scatter" is one kernel, whose parts are an all-reduce and a slice of its result.
    if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"
    channel = re.search(r"\bchannel_id=(\d+)", one.rest)
    return Moved(kind, whole, estimate.wire_bytes(kind, whole, group), channel and channel[1])


def within_kernels(module: Module) -> set[str]:
    """The computations that are parts of one kernel: bodies of fusions, and what reductions apply."""
    return {
        name
        for body in module.computations.values()
        for one in body
        if one.opcode == "fusion"
        for name in called(one)
    } | {name for body in module.computations.values() for one in body for name in _APPLIED.findall(one.rest)}


def _total(kind: str, found: Iterable[Collective]) -> Collective:
    own = [one for one in found if one.kind == kind]
    return Collective(
        kind,
        sum(one.count for one in own),
        sum(one.num_bytes for one in own),
        sum(one.wire_bytes for one in own),
    )


@functools.lru_cache(maxsize=1)  # for its collectives and for its kernels
def parse(text: str) -> Module:
    """Reads the text of a module."""
    entry, current, computations = "", None, {}
    for line in text.splitlines():
        if (start := _COMPUTATION.match(line)) and not line.startswith(" "):
            current = computations[start[2]] = []
            if start[1]:
                entry = start[2]
        elif current is not None and (found := _INSTRUCTION.match(line)):
            opcode = _OPCODE.search(found[2])
            if opcode:
                result, rest = found[2][: opcode.start()], found[2][opcode.end() :]
                current.append(Instruction(found[1], result, opcode[1], rest))
    return Module(entry, computations)


def turns(module: Module) -> collections.Counter:
    """How often each computation runs."""
    times: collections.Counter = collections.Counter()

    def visit(name: str, number: int) -> None:
        times[name] += number
        for one in module.computations.get(name, ()):
            inner = number * (trip_count(module, one) if one.opcode == "while" else 1)
            for each in called(one):
                if each in module.computations:
                    visit(each, inner)

    visit(module.entry, 1)
    return times


def called(one: Instruction) -> Iterator[str]:
    """The computations that an instruction runs."""
    # What an all-reduce applies to pairs of numbers holds nothing to count.
    yield from _CALLED.findall(one.rest)
    for group in _BRANCHES.findall(one.rest):
        yield from (name.strip().lstrip("%") for name in group.split(",") if name.strip())


def trip_count(module: Module, loop: Instruction) -> int:
    """Turns of a loop: as XLA knows them, or the number that its condition compares a counter from 0 with; else 1."""
    if known := _TRIP_COUNT.search(loop.rest):
        return int(known[1])
    name = re.search(r"\bcondition=%?([\w.\-]+)", loop.rest)
    condition = module.computations.get(name[1], []) if name else []
    constants = {
        one.name: int(one.rest.partition(")")[0])
        for one in condition
        if one.opcode == "constant" and one.rest.partition(")")[0].isdecimal()
    }
    for one in condition:
        if one.opcode == "compare" and (compared := _COMPARED.search(f"compare({one.rest}")):
            return constants.get(compared[1], 1)
    return 1


def operands(rest: str) -> list[str]:
    """The names of an instruction's operands."""
    return re.findall(r"%([\w.\-]+)", rest.partition(")")[0])


def _group_size(rest: str, num_devices: int) -> int:
    """Devices that take part in one group of a collective."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(listed[1].split(","))
    if tiled := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(tiled[1])
    if by_axis := re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\([^)]*\)+)?\s*\{([^}]*)\}", rest
    ):
        sizes = dict(re.findall(r"'?([\w.:()]+)'?=(\d+)", by_axis[1]))
        return math.prod(int(sizes.get(axis.strip(" '"), 1)) for axis in by_axis[2].split(","))
    return num_devices


def arrays(type_text: str) -> Iterator[tuple[str, list[int]]]:
    """Dtype and sizes of an array, or of each array of a tuple."""
    for dtype, dims, _ in _ARRAY.findall(type_text):
        yield dtype, [int(size) for size in dims.split(",") if size]


def num_elements(type_text: str) -> int:
    """Numbers in an array, or in all arrays of a tuple."""
    return sum(math.prod(sizes) for _, sizes in arrays(type_text))


def array_bytes(type_text: str, *, first: bool = False, skip: str | None = None) -> Iterator[int]:
    """Bytes of an array, or of each array of a tuple.

    Args:
        first: only of the first.
        skip: leave out those with this in their layout.
    """
    found = list(_ARRAY.finditer(type_text))
    for one in found[:1] if first else found:
        if skip is None or skip not in (one[3] or ""):
            sizes = map(int, filter(None, one[2].split(",")))
            yield math.prod(sizes) * _item_bits(one[1]) // 8


def _item_bits(dtype: str) -> int:
    if dtype in _ITEM_BITS:
        return _ITEM_BITS[dtype]
    number = re.search(r"\d+", dtype)
    return int(number[0]) if number else 0
