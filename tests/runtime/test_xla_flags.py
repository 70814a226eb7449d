"""XLA_FLAGS is tried out beforehand: in a process of its own, as this one's XLA has read its flags already."""

import os
import re
import subprocess
import sys

import pytest
from support import paths

TRY = """
import os, sys
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import xla_flags
for text in sys.argv[1:]:
    os.environ["XLA_FLAGS"] = text
    try:
        xla_flags.check()
    except UserError as error:
        print(error, end="")
    print(flush=True)
"""
UNKNOWN = r"ends XLA \(Unknown flag in XLA_FLAGS: --xla_nope=1\): correct or unset"
CASES = {
    "": None,
    " ": None,
    "--xla_backend_optimization_level=2": None,
    " --xla_dump_to='/a folder' --xla_cpu_use_fusion_emitters=true": None,
    "--xla_nope=1": UNKNOWN,
    "--xla_backend_optimization_level=2 --xla_nope=1": UNKNOWN,
    "--xla_dump_to": "Unknown flag in XLA_FLAGS: --xla_dump_to",
    "--xla_backend_optimization_level=high": "Couldn't interpret value high for flag",
    "--xla_backend_optimization_level=2,--xla_dump_to=x": "Couldn't interpret value",
    "--help": "it does not say why",
    "no such file": 'Could not open file "no such file"',
    "--xla_backend_optimization_level = 2": "'=' is no flag; write --NAME=VALUE without spaces",
    "-xla_dump_to=x": "'-xla_dump_to=x' is no flag",
    "--xla_dump_to='x": "No closing quotation",
}


@pytest.fixture(scope="module")
def lines() -> dict[str, str]:
    """What is said of each case."""
    ended = subprocess.run(
        [sys.executable, "-c", TRY, *CASES],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths.PYTHONPATH},
        check=True,
    )
    assert not ended.stderr
    return dict(zip(CASES, ended.stdout.splitlines(), strict=True))


@pytest.mark.parametrize(("text", "refusal"), CASES.items())
def test_what_ends_xla_is_refused_in_a_line(lines, text, refusal):
    if refusal is None:
        assert not lines[text]
    else:
        assert lines[text].startswith(f"XLA_FLAGS={text}") and re.search(refusal, lines[text])
