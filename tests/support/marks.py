"""Marks of tests: what `make test` leaves to CI, as another member of the same test proves nearly the same."""

import pytest

IN_CI = (pytest.mark.slow, pytest.mark.ci)


def in_ci(*values):
    """Values of a parametrized test that CI tries."""
    return pytest.param(*values, marks=IN_CI)


def thorough(*values):
    """Values of a parametrized test that `make test-slow` alone tries, though the test itself may be of CI."""
    return pytest.param(*values, marks=(pytest.mark.slow, pytest.mark.thorough))
