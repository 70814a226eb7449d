"""The code of a user's own parts, as a stage's key holds it: the file of each, and the files of what it imports.

A file counts as it was first read since its module was imported: what is written there later does not run. In a
notebook, whose cells have no file, it is the code of the part's cell, and of the functions, classes and plain values of
other cells that it names (`notebook_code`). What is installed (in site-packages), Python's own library and this package
are not among them, but for the package that the part is of where that is itself installed.
"""

import ast
import functools
import importlib.machinery
import importlib.util
import inspect
import io
import pathlib
import sys
import sysconfig
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import notebook_code

_PACKAGE = __name__.split(".")[0]
# By file: its module, how that was imported, which is another object after a reload, and what was in the file then.
_READ: dict[pathlib.Path, tuple[str, Any, bytes]] = {}


def hashes(**factories: Callable) -> dict[str, str]:
    """Hashes of the source of parts from outside this package, whose code can change, by "code of <role>".

    Files of the user's that a part imports, itself or through others, are hashed with it by their modules' names.
    """
    return {
        f"code of {role}": artifacts.content_hash(_code(role, factory))
        for role, factory in factories.items()
        if factory.__module__.split(".")[0] != _PACKAGE
    }


def changed() -> dict[str, pathlib.Path]:
    """By module the files whose present lines are not those that run: of parts that keys were asked of already."""
    return {
        module: path
        for path, (module, loaded, content) in _READ.items()
        if loaded is _loaded(module) and path.is_file() and path.read_bytes() != content
    }


def _loaded(module: str) -> Any:
    """What stands for a module as it was imported; None of one that is not."""
    there = sys.modules.get(module)
    return getattr(there, "__spec__", None) or there  # a script has no spec, and is not imported again


def _code(role: str, factory: Callable) -> str | list:
    """The source of a part; where it imports files of the user's, with those by name."""
    source, is_file = _source(role, factory)
    module = sys.modules.get(factory.__module__)  # a class has no globals of its own
    known = getattr(inspect.unwrap(factory), "__globals__", vars(module) if module else {})
    imported: dict[str, str] = {factory.__module__: ""}  # which others may import too
    beside = {} if is_file else notebook_code.beside(source, known, factory)
    names: list[str] = []
    for code in (source, *beside.values()):
        tree = _parse(code)
        names += [*_imports(tree, known.get("__package__")), *_used(tree, known)]
    while names:
        name = names.pop()
        path = None if name in imported else _own_file(name, factory.__module__.split(".")[0])
        if path is not None:
            names += _read(name, path, imported)
    del imported[factory.__module__]
    imported |= {f"{factory.__module__}.{name}": code for name, code in beside.items()}
    return [source, sorted(map(list, imported.items()))] if imported else source


def _source(role: str, factory: Callable) -> tuple[str, bool]:
    """The whole file that defines a factory, which may use what is beside it; else, and False, its own lines."""
    factory = inspect.unwrap(factory)
    try:
        content = _content(factory.__module__, pathlib.Path(inspect.getfile(factory)))
        return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8").read(), True
    except (OSError, TypeError):
        pass  # a notebook's cell has no file
    try:
        return inspect.getsource(factory), False
    except (OSError, TypeError) as error:
        raise UserError(
            f"the source of {role} {factory!r} cannot be read, and stages are kept by it: "
            "register a function that a file defines, and give its options in Method"
        ) from error


def _content(module: str, path: pathlib.Path) -> bytes:
    """A file as it was first read since its module was imported; of one that is not, as it is."""
    if (loaded := _loaded(module)) is None:
        return path.read_bytes()
    if path not in _READ or _READ[path][1] is not loaded:
        _READ[path] = module, loaded, path.read_bytes()
    return _READ[path][2]


def _read(name: str, path: pathlib.Path, imported: dict[str, str]) -> Iterator[str]:
    """Adds a module to those imported, and gives the names of what it imports itself."""
    try:
        content = _content(name, path)
    except OSError as error:
        raise UserError(f"{path}, which a plug-in imports, cannot be read ({error.strerror})") from error
    imported[name] = artifacts.content_hash(content.decode("utf-8", "backslashreplace"))
    if path.suffix != ".py":
        return
    is_package = path.name == "__init__.py"
    yield from _imports(_parse(content), name if is_package else name.rpartition(".")[0])
    loaded = vars(sys.modules[name]).values() if name in sys.modules else ()
    yield from (value.__name__ for value in loaded if isinstance(value, types.ModuleType))


def _parse(source: str | bytes) -> ast.AST:
    try:
        return ast.parse(textwrap.dedent(source) if isinstance(source, str) else source)
    except (SyntaxError, ValueError):  # lines out of a cell, or a file that was changed since
        return ast.Module([], [])


def _imports(tree: ast.AST, package: str | None) -> Iterator[str]:
    """The names of modules that code may import, wherever it stands in it: of `from a import b` a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except (ImportError, ValueError):  # beyond its package: it fails where it is imported
                continue
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))


def _used(tree: ast.AST, known: dict) -> Iterator[str]:
    """The modules of what code names and has not imported in its own lines, as a cell what other cells did."""
    for name in _names(tree) & known.keys():
        value = known[name]
        module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        if isinstance(module, str):
            yield module


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _own_file(name: str, package: str) -> pathlib.Path | None:
    """The file of a module of the user's; None of any other, and of what is no module.

    Args:
        package: of the part, whose modules are the user's also where it is installed.
    """
    if name.split(".")[0] in (_PACKAGE, "__main__", *sys.stdlib_module_names):
        return None
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
    else:
        spec = _find(name)
        file = spec.origin if spec is not None and spec.has_location else None
    if not isinstance(file, str) or not pathlib.Path(file).is_file():
        return None
    path = pathlib.Path(file).resolve()
    is_installed = name.split(".")[0] != package and any(path.is_relative_to(one) for one in _installed())
    return None if is_installed else path


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module that is not imported yet would be found; nothing is imported for it."""
    spec, folders = None, None
    for part in _with_parents(name):
        spec = importlib.machinery.PathFinder.find_spec(part, folders)
        if spec is None:
            return None
        folders = spec.submodule_search_locations or []
    return spec


@functools.cache
def _installed() -> tuple[pathlib.Path, ...]:
    """The folders of Python's own library and of what is installed."""
    named = sysconfig.get_paths()
    folders = {named[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    return tuple(pathlib.Path(folder).resolve() for folder in folders)
