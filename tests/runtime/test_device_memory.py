import pytest

from selw2s_jax.runtime import device_memory

TPU = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 21.50G of 15.48G hbm."


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("RESOURCE_EXHAUSTED: the program needs (20.5G) exceeds available HBM of 15.75G", 41 * 2**29),
        (TPU, 43 * 2**29),
        ("RESOURCE_EXHAUSTED: out of memory", 0),
        ("INTERNAL: (20.5G) exceeds available HBM", None),
    ],
)
def test_what_a_compiler_says_that_a_program_would_have_needed(message, expected):
    assert device_memory.refused_bytes(ValueError(message)) == expected
