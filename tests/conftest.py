"""Shared fixtures. Real data sets and tokenizers are looked up, never required."""

import os
import pathlib

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
