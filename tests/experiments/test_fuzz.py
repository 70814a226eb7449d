"""Configs of any values, from the command line and from Python: taken as they were meant, or refused in one line."""

import pytest
from support import fuzz, fuzz_config, marks

KINDS = ("config on the command line", "config set from Python")


def test_its_kinds_are_registered():
    assert {fuzz_config.command_line, fuzz_config.from_python} == {fuzz.KINDS[kind] for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbers", [range(25), marks.in_ci(range(25, 200))], ids=str)
def test_any_config_is_taken_as_it_was_meant_or_refused(kind, numbers):
    assert not (found := fuzz.faults(kind, numbers)), "\n\n".join(found)
