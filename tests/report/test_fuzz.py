"""Damaged workdirs: reported as they were, with what is missing, or refused in one line."""

import pytest
from support import fuzz, fuzz_workdir, marks


def test_its_kinds_are_registered():
    assert fuzz.KINDS["workdirs"] is fuzz_workdir.reports
    assert fuzz.KINDS["artifacts"] is fuzz_workdir.stored_stages


@pytest.mark.parametrize("kind", ["workdirs", "artifacts"])
@pytest.mark.parametrize("numbers", [range(50), marks.in_ci(range(50, 200))], ids=str)
def test_a_damaged_workdir_is_read_or_refused(kind, numbers):
    assert not (found := fuzz.faults(kind, numbers)), "\n\n".join(found)
