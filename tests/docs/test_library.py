"""The code of docs/library.md, run from its top to its end on a small finished run."""

import re
import textwrap

import pytest
from support import paths, small_run

import selw2s_jax
from selw2s_jax import config as config_lib
from selw2s_jax.experiments import checks


@pytest.mark.slow
@pytest.mark.ci
def test_the_pages_code_runs(tmp_path, tmp_path_factory, monkeypatch, capsys):
    pytest.importorskip("pandas")
    workdir, started = small_run.workdir(tmp_path_factory.getbasetemp()), []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").symlink_to(workdir)

    def run(config, folder):  # real models and questions are not at hand
        checks.validate(config_lib.normalize(config))
        started.append((folder, config.methods))
        return selw2s_jax.load_run(folder)

    monkeypatch.setattr(selw2s_jax, "run", run)
    page = (paths.REPO / "docs" / "library.md").read_text()
    names: dict = {}
    for block in re.findall(r"\n\n((?:    .*\n|\n(?=    ))+)", page):
        exec(compile(textwrap.dedent(block), "library.md", "exec"), names)
    assert started == [("DIR", ("finetune", "selective"))]
    assert {"weak", "selective"} <= set(names["by_item"].columns) and len(names["items"]) >= 99
    assert [answer["example_id"] for answer in names["answers"]][1:] == ["sciq/input/1:0", "sciq/input/1:1"]
    assert names["logits"].shape[:2] == names["hidden"].shape[:2] == names["tokens"].shape
    assert names["smoothed"].shape == names["targets"].shape == (6, 2) and names["values"].shape == (6,)
    named = re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)
    for name in re.findall(r"\w+(?=`|\()", "`".join(named) + "`"):
        assert hasattr(selw2s_jax.Results, name) or name == "FOLDER", name
