"""Damaged folders of models and tokenizers: read well, or refused in one line."""

import pytest
from support import fuzz, fuzz_tokenizers, fuzz_weights, marks


def test_its_kinds_are_registered():
    assert fuzz.KINDS["weights"] is fuzz_weights.checkpoints
    assert fuzz.KINDS["tokenizers"] is fuzz_tokenizers.folders


@pytest.mark.parametrize("kind", ["weights", "tokenizers"])
@pytest.mark.parametrize("numbers", [range(50), marks.in_ci(range(50, 200))], ids=str)
def test_a_damaged_folder_is_read_or_refused(kind, numbers):
    pytest.importorskip("sentencepiece", reason="install the llama extra")
    assert not (found := fuzz.faults(kind, numbers)), "\n\n".join(found)
