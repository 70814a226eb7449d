"""Marks of tests: what `make test` leaves to CI, as another member of the same test proves nearly the same."""

import pytest

IN_CI = (pytest.mark.slow, pytest.mark.ci)


def in_ci(*values):
    """Values of a parametrized test that CI tries."""
    return pytest.param(*values, marks=IN_CI)
