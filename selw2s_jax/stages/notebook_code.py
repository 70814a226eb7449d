"""What the code of a notebook's cell takes from other cells, as text: an edit there changes what the part computes."""

import inspect
import pathlib
import symtable
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from selw2s_jax.runtime import artifacts

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def beside(source: str, known: Mapping[str, Any], part: Any) -> dict[str, str]:
    """By name what some lines of a cell use of others: functions and classes with what these use, plain values, arrays.

    Modules, and what comes from them, are not among it; nor are other objects, whose state nothing says as a text.

    Args:
        source: the lines, whole statements.
        known: the names of the notebook.
        part: what the lines define.
    """
    found: dict[str, str] = {}
    left = [source]
    while left:
        for name in _free_names(left.pop()):
            if name in found or name not in known or inspect.unwrap(known[name]) is inspect.unwrap(part):
                continue
            if (text := _text(known[name])) is not None:
                found[name] = text
                left += [text] if callable(known[name]) else []
    return found


def _free_names(source: str) -> set[str]:
    """The names that code uses and does not bind itself, wherever they stand in it."""
    try:
        return set(_global_names(symtable.symtable(textwrap.dedent(source), "cell", "exec")))
    except SyntaxError:  # lines that are no statement by themselves
        return set()


def _global_names(table: symtable.SymbolTable) -> Iterator[str]:
    is_top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (not symbol.is_assigned() if is_top else symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _global_names(inner)


def _text(value: Any) -> str | None:
    """A value of another cell as a text that is the same in every process; None for one that is not among them."""
    if callable(value):
        inner = inspect.unwrap(value)  # of what is jitted, the function
        try:
            return None if pathlib.Path(inspect.getfile(inner)).is_file() else inspect.getsource(inner)
        except (OSError, TypeError):  # built in, or typed at a prompt
            return None
    if isinstance(value, set | frozenset):  # which has no order of its own
        value = sorted(value, key=repr)
    if _is_plain(value):
        return repr(value)
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):
        return f"{value.dtype}{list(value.shape)} {artifacts.content_hash(value.tobytes().hex())}"
    return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(inner) for pair in value.items() for inner in pair)
    return isinstance(value, _PLAIN) or (isinstance(value, list | tuple) and all(map(_is_plain, value)))
