"""Imports run one way: every room of the package stands on a floor, and imports rooms of lower floors only."""

import ast
import functools
import pathlib

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "selw2s_jax"

# Lowest first. A room is a folder or a module of the package's top; `__init__` is the package itself, whose functions
# import when they are called.
FLOORS = (
    ("defaults", "errors", "method"),
    ("analysis", "config", "sharding", "runtime"),
    ("data", "models", "arguments"),
    ("hf", "training", "cli"),
    ("inference", "worlds"),
    ("stages",),
    ("experiments",),
    ("run",),
    ("main", "report", "predict", "export", "plan", "replay", "preregister"),
    ("benchmark", "exports", "library", "__init__"),
    ("__main__",),
)
# What a room may import of the package, where that is less than all of the floors below it.
NOTHING_BUT = {
    "method": {"method"},
    "report": {
        "report",
        "run",
        "analysis",
        "method",
        "data",
        "runtime",
        "config",
        "defaults",
        "arguments",
        "cli",
        "errors",
    },
}
# Of another room that it may import, the only modules.
ONLY_MODULES = {"report": {"run": {"run.manifests", "run.registrations"}}}
# Slow to import, or optional: only inside the functions that use them; torch never.
LAZY_LIBRARIES = {
    "datasets",
    "huggingface_hub",
    "jinja2",
    "matplotlib",
    "orbax",
    "pandas",
    "tensorboardX",
    "tiktoken",
    "trackio",
    "transformers",
    "wandb",
}
FORBIDDEN_LIBRARIES = {"pickle", "tensorflow", "torch"}


def module_name(path: pathlib.Path) -> str:
    """`models.gpt2` of `selw2s_jax/models/gpt2.py`; packages by their own name, the whole as ""."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = [module for module, path in SOURCES.items() if path.name == "__init__.py"]
MODULES = [module for module in SOURCES if module not in PACKAGES]


def room(module: str) -> str:
    return module.split(".")[0] or "__init__"


def floor(name: str) -> int | None:
    """The index in FLOORS of a room."""
    return next((index for index, rooms in enumerate(FLOORS) if name in rooms), None)


@functools.cache
def imports(module: str, *, late: bool = True) -> frozenset[str]:
    """Full names of everything that a module imports, `from` targets included; without `late`, when it is imported."""
    found = set()
    nodes = [_parse(module)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import in line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if late or not (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or _is_for_types(node)
        ):
            nodes += ast.iter_child_nodes(node)
    return frozenset(found)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@functools.cache
def _parse(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


@functools.cache
def internal_imports(module: str) -> frozenset[str]:
    """The modules of this package that a module imports."""
    found = set()
    for name in imports(module):
        if name.split(".")[0] == PACKAGE.name:
            inner = name.partition(".")[2]
            while inner not in SOURCES:  # a function or class of its module
                inner = inner.rpartition(".")[0]
            found.add(inner)
    return frozenset(found)


def closure(modules: list[str]) -> set[str]:
    """The modules and all that they import, late imports included."""
    seen, left = set(), list(modules)
    while left:
        module = left.pop()
        if module not in seen:
            seen.add(module)
            left += internal_imports(module)
    return seen


def test_the_table_has_every_room_and_no_other():
    rooms = [name for names in FLOORS for name in names]
    assert len(set(rooms)) == len(rooms)
    assert set(rooms) == {room(module) for module in SOURCES}


def test_rooms_import_lower_floors_only():
    upward = [
        f"{module} imports {other}"
        for module in MODULES
        for other in internal_imports(module)
        if room(other) != room(module) and floor(room(other)) >= floor(room(module))
    ]
    assert not upward


def test_some_rooms_import_less():
    for name, allowed in NOTHING_BUT.items():
        own = [module for module in MODULES if room(module) == name]
        assert {room(other) for module in own for other in internal_imports(module)} <= allowed, name
        for other, known in ONLY_MODULES.get(name, {}).items():
            found = {m for module in own for m in internal_imports(module) if room(m) == other}
            assert found <= known, name


def test_a_report_drags_in_no_model_training_inference_or_stage():
    found = closure([module for module in MODULES if room(module) == "report"])
    assert not {room(module) for module in found} & {"models", "training", "inference", "stages", "hf"}


def test_what_others_build_on_stands_alone():
    for module in ("analysis.metrics", "models.key_tables", "runtime.storage", "sharding"):
        assert internal_imports(module) <= {"errors", "analysis.distributions"}, module
    assert {room(other) for other in internal_imports("config")} == {"defaults", "errors"}
    assert not [module for module in MODULES if room(module) == "defaults" and internal_imports(module)]


def test_imports_have_no_circle():
    graph = {module: set(internal_imports(module)) for module in MODULES}
    while graph:
        free = [module for module, others in graph.items() if not others & graph.keys()]
        assert free, f"imports in a circle among: {sorted(graph)}"
        for module in free:
            del graph[module]


def test_the_top_is_small():
    modules = [module for module in SOURCES if "." not in module and SOURCES[module].parent == PACKAGE]
    assert len(modules) <= 9  # with __main__, which Python wants there


def test_packages_import_nothing_when_imported():
    for package in PACKAGES:
        assert not imports(package, late=False), package


def test_libraries_that_are_slow_or_optional_are_imported_late():
    for module in SOURCES:
        at_top = {name.split(".")[0] for name in imports(module, late=False)}
        assert not {"scipy.stats", "scipy.optimize"} & imports(module, late=False), module
        anywhere = {name.split(".")[0] for name in imports(module)}
        assert not at_top & LAZY_LIBRARIES, module
        assert not anywhere & FORBIDDEN_LIBRARIES, module
