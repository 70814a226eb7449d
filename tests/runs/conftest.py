"""Fixtures of the tests of whole runs."""

from unittest import mock

import pytest

from selw2s_jax.analysis import plotting


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    """Runs of this process draw none, which takes a tenth of their time; those of other processes do."""
    made_up = {"svg": b"<svg></svg>"}  # which a report takes apart
    with mock.patch.object(plotting.Picture, "_save", lambda self, form, **_: made_up.get(form, b"\x89PNG")):
        yield
