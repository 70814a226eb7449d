"""Damaged workdirs: a trained model is found as it was, or refused in one line."""

import pytest
from support import fuzz, fuzz_workdir, marks


@pytest.mark.parametrize("numbers", [range(50), marks.in_ci(range(50, 200))], ids=str)
def test_a_model_of_a_damaged_workdir_is_found_or_refused(numbers):
    assert fuzz.KINDS["students"] is fuzz_workdir.trained_models
    assert not (found := fuzz.faults("students", numbers)), "\n\n".join(found)
