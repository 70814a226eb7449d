"""The garbage collector goes over what is new alone, for a while."""

import os
import subprocess
import sys

from support import paths


def test_what_is_new_is_freed_and_what_there_was_only_after():
    command = [sys.executable, "-m", "support.garbage_worker"]  # here each collection takes most of a second
    environment = os.environ | {"PYTHONPATH": paths.PYTHONPATH}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0 and ended.stdout == "done\n", ended.stderr
