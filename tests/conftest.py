"""Shared fixtures. Real data sets and tokenizers are looked up, never required."""

import atexit
import contextlib
import gc
import os
import pathlib
import shutil
import signal
import tempfile
from importlib import metadata
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Other libraries' products are so small here that their threads, torch's and OpenBLAS's, would but wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests compile much and compute little: LLVM's optimisation is left out, XLA's quicker emitters write the code, and
# a program, however small, is not split into parts that are compiled beside each other.
# (XLA ends the process on a flag that it does not know; these are of the version in constraints.txt.)
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        if metadata.version("jaxlib").startswith("0.10.")
        else "",
        os.environ.get("XLA_FLAGS", ""),
    ]
).strip()

import jax
import pytest
from support import paths

from selw2s_jax.runtime import artifacts, garbage
from selw2s_jax.worlds import smoke

# What one test compiled, however quickly, others of this process read, and processes that it starts each other's;
# nothing of it outlives the tests. The folders are two, as a cache with a limit, which a run has, keeps other files.
# Where this process has several CPU devices there is none, as in compilation_cache.enable.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
if jax.default_backend() != "cpu" or jax.device_count() == 1:
    jax.config.update("jax_compilation_cache_dir", os.environ["XDG_CACHE_HOME"] + "/tests")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

# Operations are not told, one by one, the whole stack of calls that they were traced under, deep under pytest.
jax.config.update("jax_include_full_tracebacks_in_locations", False)

# In the background of a shell interrupts are ignored, under nohup closed terminals; here and in what is started, where
# scripts could not trap them.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

pytest_plugins = ["support.refusals"]


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """What earlier tests left, mostly traces that JAX keeps, is not gone through by every collection of a run."""
    gc.collect()
    gc.freeze()
    garbage.collect_seldom()  # traces are many small objects, and few of them are garbage


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder of real data sets: `$SELW2S_TEST_DATA`, else `../shared/data` beside the repository."""
    folder = pathlib.Path(os.environ.get("SELW2S_TEST_DATA", paths.REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets not found at {folder}; set SELW2S_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def fixtures() -> pathlib.Path:
    """The folder of small committed files, each made by a committed script beside it."""
    return paths.FIXTURES


@pytest.fixture
def registrations():
    """Parts and methods that a test registers are forgotten after it."""
    from selw2s_jax.experiments import columns, teachers
    from selw2s_jax.method import (
        combinations,
        label_rules,
        label_sources,
        losses,
        registry,
        row_weights,
        selection,
    )

    parts = (label_rules.LABEL_RULES, label_sources.LABEL_SOURCES, losses.LOSSES, columns.COLUMNS)
    parts += (combinations.COMBINATIONS, row_weights.ROW_WEIGHTS, teachers.TEACHERS)
    with contextlib.ExitStack() as stack:
        for names in (*parts, selection.SELECTORS, selection.REFINERS, registry.METHODS):
            stack.enter_context(mock.patch.dict(names))
        yield


@pytest.fixture(scope="session", autouse=True)
def generated_once(tmp_path_factory):
    """What smoke runs of this process begin with, questions, tokenizers and random weights, is made once and copied."""
    made = tmp_path_factory.mktemp("generated")

    def copied(make):
        def copy(*name_and_folder):
            *name, folder = name_and_folder
            original = make(*name, made)
            return artifacts.fill_once(
                folder / original.name, lambda path: shutil.copytree(original, path, dirs_exist_ok=True)
            )

        return copy

    with (
        mock.patch.object(smoke, "data_folder", copied(smoke.data_folder)),
        mock.patch.object(smoke, "model_folder", copied(smoke.model_folder)),
    ):
        yield


def pytest_terminal_summary(terminalreporter):
    """Names the tests that took over five seconds and are not marked slow."""
    took = {}
    for report in terminalreporter.stats.get("passed", []):
        if report.when == "call" and report.duration > 5 and "slow" not in report.keywords:
            took[report.nodeid] = report.duration
    if took:
        terminalreporter.section("over 5 s and not marked slow")
        for name, seconds in sorted(took.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{seconds:.1f} s  {name}")
