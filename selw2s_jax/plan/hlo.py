"""Collectives of a compiled program, read from its HLO text."""

import collections
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
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
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


class _Instruction(NamedTuple):
    name: str
    result: str  # its type
    opcode: str
    rest: str  # operands and attributes


def collectives(text: str, num_devices: int) -> list[Collective]:
    """The collectives of a program, loops counted as often as they turn.

    Args:
        text: of the optimised module, `compiled.as_text()`.
        num_devices: that it runs on.
    """
    entry, computations = _parse(text)
    turns = _turns(entry, computations)
    fused = {
        name
        for body in computations.values()
        for one in body
        if one.opcode == "fusion"
        for name in _called(one)
    }
    found: dict[tuple, Collective] = {}
    for name, instructions in computations.items():
        sizes = {one.name: _bytes(one.result) for one in instructions}
        for one in instructions:
            kind = one.opcode.removesuffix("-start")
            if kind not in KINDS or not turns[name]:
                continue
            group = _group_size(one.rest, num_devices)
            whole = sum(sizes.get(operand, 0) for operand in _operands(one.rest))
            if kind == "all-gather":
                whole *= group
            # TPU: "all-reduce-scatter" is one kernel, whose parts are an all-reduce and a slice of its result.
            if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
                kind = "reduce-scatter"
            times = turns[name]
            wire_bytes = times * estimate.wire_bytes(kind, whole, group)
            this = Collective(kind, times, times * whole, wire_bytes)
            # TPU: one that runs beside computation is named again in each fusion that it runs beside.
            channel = re.search(r"\bchannel_id=(\d+)", one.rest) if name in fused else None
            key = (kind, channel[1]) if channel else (name, one.name)
            found[key] = min(this, found.get(key, this))
    return [_total(kind, found.values()) for kind in KINDS if any(one.kind == kind for one in found.values())]


def _total(kind: str, found: Iterable[Collective]) -> Collective:
    own = [one for one in found if one.kind == kind]
    return Collective(
        kind,
        sum(one.count for one in own),
        sum(one.num_bytes for one in own),
        sum(one.wire_bytes for one in own),
    )


def _parse(text: str) -> tuple[str, dict[str, list[_Instruction]]]:
    """The name of the entry computation, and the instructions of each computation."""
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
                current.append(_Instruction(found[1], result, opcode[1], rest))
    return entry, computations


def _turns(entry: str, computations: dict[str, list[_Instruction]]) -> collections.Counter:
    """How often each computation runs."""
    turns: collections.Counter = collections.Counter()

    def visit(name: str, times: int) -> None:
        turns[name] += times
        for one in computations.get(name, ()):
            for called in _called(one):
                inner = times
                if one.opcode == "while":
                    inner *= _trip_count(one, computations)
                if called in computations:
                    visit(called, inner)

    visit(entry, 1)
    return turns


def _called(one: _Instruction) -> Iterator[str]:
    # What an all-reduce applies to pairs of numbers holds nothing to count.
    yield from _CALLED.findall(one.rest)
    for group in _BRANCHES.findall(one.rest):
        yield from (name.strip().lstrip("%") for name in group.split(",") if name.strip())


def _trip_count(loop: _Instruction, computations: dict[str, list[_Instruction]]) -> int:
    """Turns of a loop: as XLA knows them, or the number that its condition compares a counter from 0 with; else 1."""
    if known := _TRIP_COUNT.search(loop.rest):
        return int(known[1])
    name = re.search(r"\bcondition=%?([\w.\-]+)", loop.rest)
    condition = computations.get(name[1], []) if name else []
    constants = {
        one.name: int(one.rest.partition(")")[0])
        for one in condition
        if one.opcode == "constant" and one.rest.partition(")")[0].isdecimal()
    }
    for one in condition:
        if one.opcode == "compare" and (compared := _COMPARED.search(f"compare({one.rest}")):
            return constants.get(compared[1], 1)
    return 1


def _operands(rest: str) -> list[str]:
    return re.findall(r"%([\w.\-]+)", rest.partition(")")[0])


def _group_size(rest: str, num_devices: int) -> int:
    """Devices that take part in one group of a collective."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(listed[1].split(","))
    if tiled := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(tiled[1])
    if by_axis := re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\([^)]*\)+)?\s*\{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'?([\w.:()]+)'?=(\d+)", by_axis[1]))
        return math.prod(int(sizes.get(axis.strip(" '"), 1)) for axis in by_axis[2].split(","))
    return num_devices


def _bytes(type_text: str) -> int:
    """Bytes of an array, or of all arrays of a tuple."""
    return sum(
        math.prod(map(int, filter(None, dims.split(",")))) * _item_bits(dtype) // 8
        for dtype, dims in _ARRAY.findall(type_text)
    )


def _item_bits(dtype: str) -> int:
    if dtype in _ITEM_BITS:
        return _ITEM_BITS[dtype]
    number = re.search(r"\d+", dtype)
    return int(number[0]) if number else 0
