"""Key tables as data: one row for every tensor that a checkpoint of a family may hold."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Row:
    """One kind of tensor.

    Attributes:
        key: its key in the file; `{layer}` is the layer's number, `{prefix}` the optional prefix of the table.
        param: dotted path of the parameter, or None for a tensor that is deliberately not read.
        unfold: number of the parameter's axes that each axis of the file's tensor unfolds into (an axis of
            size 3 * N * H into three); default one each. A stack's layer axis is not counted.
    """

    key: str
    param: str | None
    unfold: tuple[int, ...] | None = None

    @property
    def is_layered(self) -> bool:
        return "{layer}" in self.key


@dataclasses.dataclass(frozen=True)
class KeyTable:
    """The rows of a family.

    Attributes:
        prefix: what `{prefix}` of a key may stand for in a file, besides nothing.
        optional_params: the parameters that a model may do without.
    """

    rows: tuple[Row, ...]
    prefix: str = ""
    optional_params: tuple[str, ...] = ("lm_head",)


@functools.cache
def _patterns(table: KeyTable) -> tuple[tuple[re.Pattern, Row], ...]:
    def compile_key(key):
        pattern = re.escape(key).replace(r"\{prefix\}", f"(?:{re.escape(table.prefix)})?")
        return re.compile(pattern.replace(r"\{layer\}", r"(?P<layer>0|[1-9]\d*)"))

    return tuple((compile_key(row.key), row) for row in table.rows)


def match(table: KeyTable, key: str) -> tuple[Row, int | None] | None:
    """The row that a checkpoint key belongs to and its layer, or None for an unknown key."""
    for pattern, row in _patterns(table):
        if found := pattern.fullmatch(key):
            return row, int(found["layer"]) if row.is_layered else None
    return None


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor that a checkpoint of given sizes holds: its key, parameter, layer and shape in the file.

    `param_shape` is the shape of the parameter's part that it fills, without the layer axis.
    """

    key: str
    param: str
    layer: int | None
    shape: tuple[int, ...]
    unfold: tuple[int, ...]
    param_shape: tuple[int, ...]


def tensors(table: KeyTable, shapes: Mapping[str, tuple[int, ...]], prefix: bool = True) -> list[Tensor]:
    """Every tensor that fills parameters of these shapes, by layer as the reference code writes them.

    Args:
        shapes: shape of each parameter by dotted path; stacked parameters start with the layer axis.
        prefix: whether keys begin with the table's prefix.

    Raises:
        ValueError: a parameter that the table does not have, or the reverse.
    """
    rows = {row.param: row for row in table.rows if row.param is not None}
    mismatched = rows.keys() - shapes.keys() - set(table.optional_params) | shapes.keys() - rows.keys()
    if mismatched:
        raise ValueError(f"parameters and key table differ in {', '.join(sorted(mismatched))}")

    def make_tensor(row, layer):
        shape = shapes[row.param][1:] if row.is_layered else shapes[row.param]
        unfold = row.unfold or (1,) * len(shape)
        ends = [sum(unfold[: i + 1]) for i in range(len(unfold))]
        file_shape = tuple(math.prod(shape[end - n : end]) for end, n in zip(ends, unfold, strict=True))
        key = row.key.format(prefix=table.prefix if prefix else "", layer=layer)
        return Tensor(key, row.param, layer, file_shape, unfold, shape)

    present = [row for row in rows.values() if row.param in shapes]
    layered = [row for row in present if row.is_layered]
    num_layers = shapes[layered[0].param][0] if layered else 0
    first = next((i for i, row in enumerate(present) if row.is_layered), len(present))
    return [
        *(make_tensor(row, None) for row in present[:first]),
        *(make_tensor(row, layer) for layer in range(num_layers) for row in layered),
        *(make_tensor(row, None) for row in present[first:] if not row.is_layered),
    ]
