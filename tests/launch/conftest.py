"""Fixtures of the tests of launch scripts."""

import pytest
from support import launch_place


@pytest.fixture
def place(tmp_path):
    return launch_place.Place(tmp_path)
