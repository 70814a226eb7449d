"""The README's examples are complete."""

import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def my_config() -> str:
    block = re.search(r"As a whole `my_config\.py`[^:]*:\n\n((?:    .*\n|\n)+)", README.read_text())
    return textwrap.dedent(block[1])


@pytest.mark.slow
def test_the_example_method_runs_and_its_code_is_part_of_its_key(tmp_path):
    def run(code: str) -> str:
        (tmp_path / "my_config.py").write_text(code)
        command = [sys.executable, "-m", "selw2s_jax.main", "--config=my_config.py", "--workdir=run"]
        return subprocess.run(
            [*command, "--config.data.num_train=128", "--config.data.num_test=21"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    first = run(my_config())
    assert re.search(r"^reverse_kl +\d+\.\d\d", first, re.MULTILINE)
    assert ", 0 to run" in run(my_config())
    edited = run(my_config().replace("1e-6", "1e-5"))
    # The student and its evaluation; nothing else depends on the loss.
    assert ", 2 to run" in edited
