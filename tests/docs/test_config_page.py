"""docs/config.md is what docs/config_page.py makes of the defaults, and has every key."""

import importlib.util
import re

from support import paths

from selw2s_jax import config as config_lib


def test_the_page_of_keys_is_that_of_the_defaults():
    spec = importlib.util.spec_from_file_location("config_page", paths.REPO / "docs" / "config_page.py")
    config_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(config_page)
    text = config_page.page()
    named = re.findall(r"^\| `([\w.]+)` \| (?!\|)", text, re.MULTILINE)
    keys = [*config_lib.dotted_keys(config_lib.default_config()), config_lib.OPTIONS]  # whose keys are free
    assert sorted(named) == sorted(keys)
    assert text == config_page.PAGE.read_text(encoding="utf-8"), "make it again: python docs/config_page.py"
    # A comment of a whole dict, of a line, of the lines above, and of the last key in a line.
    assert "| `p_ik.weight` | `1.0` | lambda of Eq. 4 |" in text
    assert "### lora\n\nOf training.trained=lora.\n" in text
    assert "\\| drop (of training) \\| refuse |" in text
    assert re.search(r"\| `weak.members` \| empty \| Several weak models .* weak.model alone. \|\n", text)
