"""What the code of a notebook's cell takes from other cells, as text: an edit there changes what the part computes."""

import inspect
import linecache
import pathlib
import symtable
import textwrap
import types
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
            if (text := _text(known[name], part.__module__)) is not None:
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


def _text(value: Any, notebook: str) -> str | None:
    """A value of another cell as a text that is the same in every process; None for one that is not among them."""
    if isinstance(value, type):
        return _text_of_class(value) if value.__module__ == notebook else None
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


def _text_of_class(value: type) -> str:
    """The whole cells of its functions, as Python finds no class that has no file, and its plain values."""
    members = [getattr(one, "__func__", getattr(one, "fget", one)) for one in vars(value).values()]
    inner = [inspect.unwrap(one) for one in members if callable(one)]
    cells = {one.__code__.co_filename for one in inner if isinstance(one, types.FunctionType)}
    plain = {name: one for name, one in vars(value).items() if not name.startswith("__") and _is_plain(one)}
    return "".join(line for cell in sorted(cells) for line in linecache.getlines(cell)) + repr(plain)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(inner) for pair in value.items() for inner in pair)
    return isinstance(value, _PLAIN) or (isinstance(value, list | tuple) and all(map(_is_plain, value)))
