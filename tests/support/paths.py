"""Where things are, and the path on which Python processes that tests start find them."""

import os
import pathlib

TESTS = pathlib.Path(__file__).resolve().parents[1]
REPO = TESTS.parent
CONFIGS = REPO / "configs"
FIXTURES = TESTS / "fixtures"
PYTHONPATH = os.pathsep.join(map(str, (REPO, TESTS)))
