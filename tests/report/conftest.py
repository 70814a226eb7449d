"""Fixtures of the tests of reports."""

import pytest

from selw2s_jax.analysis import plotting


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures are made up but not drawn, in tests of tables and text; it takes a tenth of a second for each."""
    monkeypatch.setattr(plotting, "to_png", lambda drawn: b"\x89PNG")
