"""Shared fixtures. Real data sets and tokenizers are looked up, never required."""

import contextlib
import os
import pathlib
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

pytest_plugins = ["refusals"]

REPO = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder of real data sets: `$SELW2S_TEST_DATA`, else `../shared/data` beside the repository."""
    folder = pathlib.Path(os.environ.get("SELW2S_TEST_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets not found at {folder}; set SELW2S_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def fixtures() -> pathlib.Path:
    """The folder of small committed files, each made by a committed script beside it."""
    return FIXTURES


@pytest.fixture
def registrations():
    """Losses, label rules and methods that a test registers are forgotten after it."""
    from selw2s_jax.method import label_rules, losses, registry

    with contextlib.ExitStack() as stack:
        for names in (label_rules.LABEL_RULES, losses.LOSSES, registry.METHODS):
            stack.enter_context(mock.patch.dict(names))
        yield
