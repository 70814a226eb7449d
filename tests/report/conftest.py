"""Fixtures of the tests of reports."""

from unittest import mock

import pytest

from selw2s_jax.analysis import plotting


@pytest.fixture(scope="module", autouse=True)
def no_pdf():
    """Fonts are not embedded, which takes half of a picture's time; `tests/analysis` makes whole files."""
    with mock.patch.object(plotting.Picture, "pdf", b"%PDF"):
        yield


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures are made up but not drawn, in tests of tables and text; it takes a tenth of a second for each."""
    monkeypatch.setattr(plotting.Picture, "_save", lambda self, form, **_: f"<svg>{form}</svg>".encode())
