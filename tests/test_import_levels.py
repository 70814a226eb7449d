"""Imports run one way: every module of the package has a level, and imports its own level or lower ones."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "selw2s_jax"

# Lowest first. A name ending in `.*` is every module below it; of two that fit, the longer holds.
LEVELS = (
    ("errors",),
    ("compilation_cache", "config", "distributed", "preemption", "provenance", "sharding", "progress"),
    ("storage", "leases", "remote", "artifacts", "method.*", "analysis.metrics", "data.keyed"),
    ("models.*", "hf.mapping", "data.*", "analysis.*"),
    ("hf.*", "training.*", "inference.*", "checkpointing"),
    (
        "smoke",
        "lengths",
        "answering",
        "examples",
        "sweep",
        "world",
        "inputs",
        "results",
        "stages",
        "trainer",
        "experiment",
        "collect",
        "model_card",
        "students",
        "exports",
        "label_choice",
        "predictions",
        "run_questions",
        "run_knowledge",
        "run_knowledge_statistics",
        "run_knowledge_tables",
        "run_results",
        "run_statistics",
        "run_warnings",
        "run_tables",
        "run_report",
        "run_pooled",
        "run_sweep_tables",
        "run_sweep_report",
        "plugins",
    ),
    ("schedule", "outcome", "pipeline", "planning.*"),
    ("benchmarking.*",),
    ("benchmark", "cli", "main", "export", "plan", "predict", "report"),
)
# The packages themselves hold docstrings and, at the root, functions that import when called.
PACKAGES = (
    "",
    "analysis",
    "benchmarking",
    "data",
    "hf",
    "inference",
    "method",
    "models",
    "planning",
    "training",
)
# Imports inside functions that would be cycles at the top of a module.
LATE_CYCLES: set[tuple[str, str]] = set()
# Slow to import, or optional: only inside the functions that use them; torch never.
LAZY_LIBRARIES = {
    "datasets",
    "huggingface_hub",
    "matplotlib",
    "pandas",
    "tensorboardX",
    "tiktoken",
    "transformers",
}
FORBIDDEN_LIBRARIES = {"pickle", "tensorflow", "torch"}


def module_name(path: pathlib.Path) -> str:
    """`models.gpt2` of `selw2s_jax/models/gpt2.py`; packages by their own name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def level(module: str) -> int | None:
    """The index in LEVELS, or None for a module that the table does not have."""
    fits = {}
    for index, patterns in enumerate(LEVELS):
        for pattern in patterns:
            if pattern == module or (pattern.endswith(".*") and module.startswith(pattern[:-1])):
                fits[len(pattern)] = index
    return fits[max(fits)] if fits else None


def imports(module: str, *, late: bool = True) -> set[str]:
    """Full names of everything that a module imports, `from` targets included; without `late`, at its top only."""
    found = set()
    nodes = [ast.parse(SOURCES[module].read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import in line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if late or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            nodes += ast.iter_child_nodes(node)
    return found


def internal_imports(module: str, *, late: bool = True) -> set[str]:
    """The modules of this package that a module imports."""
    found = set()
    for name in imports(module, late=late):
        if name.split(".")[0] == PACKAGE.name:
            inner = name.partition(".")[2]
            while inner not in SOURCES:  # a function or class of its module
                inner = inner.rpartition(".")[0]
            found.add(inner)
    return found - {""}


def test_every_module_has_a_level():
    missing = [module for module in SOURCES if module not in PACKAGES and level(module) is None]
    assert not missing, f"give these modules a level in LEVELS: {missing}"


def test_the_table_has_no_module_that_is_gone():
    patterns = [pattern for patterns in LEVELS for pattern in patterns]
    assert len(set(patterns)) == len(patterns)
    for pattern in patterns:
        assert any(
            m == pattern or (pattern.endswith(".*") and m.startswith(pattern[:-1])) for m in SOURCES
        ), pattern


@pytest.mark.parametrize("module", [module for module in SOURCES if module not in PACKAGES])
def test_modules_import_their_level_or_lower(module):
    upward = [
        other for other in internal_imports(module) if other in PACKAGES or level(other) > level(module)
    ]
    assert not upward, (
        f"{module} (level {level(module)}) imports {[(other, level(other)) for other in upward]}"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_nothing_when_imported(package):
    assert not imports(package, late=False)


@pytest.mark.parametrize("late", [False, True], ids=["top of modules", "functions too"])
def test_imports_have_no_cycle(late):
    graph = {
        module: {other for other in internal_imports(module, late=late) if (module, other) not in LATE_CYCLES}
        for module in SOURCES
        if module not in PACKAGES
    }
    while graph:
        free = [module for module, others in graph.items() if not others & graph.keys()]
        assert free, f"imports in a circle among: {sorted(graph)}"
        for module in free:
            del graph[module]


def test_late_cycles_are_still_there():
    for module, other in LATE_CYCLES:
        assert other in internal_imports(module) - internal_imports(module, late=False)


@pytest.mark.parametrize("module", SOURCES)
def test_libraries_that_are_slow_or_optional_are_imported_late(module):
    at_top = {name.split(".")[0] for name in imports(module, late=False)}
    anywhere = {name.split(".")[0] for name in imports(module)}
    assert not at_top & LAZY_LIBRARIES
    assert not anywhere & FORBIDDEN_LIBRARIES


def test_the_method_and_metrics_stand_alone():
    """Pure arrays in and out: nothing of the package but the method itself."""
    for module in SOURCES:
        if module.startswith("method."):
            assert all(other.startswith("method.") for other in internal_imports(module))
    assert not internal_imports("analysis.metrics") and not internal_imports("data.keyed")
    for module in ("sharding", "config", "distributed", "storage", "hf.mapping"):
        assert internal_imports(module) <= {"errors"}
