"""The notebooks in examples/: kept without outputs, and their cells run as a notebook runs them."""

import ast
import asyncio
import json
import linecache
import pathlib
import re
import shutil

import pytest
from support import marks, paths, small_run

from selw2s_jax.analysis import plotting

NOTEBOOKS = sorted((paths.REPO / "examples").glob("*.ipynb"))


def cells(path: pathlib.Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def run_cells(path: pathlib.Path, names: dict) -> list:
    """Runs the code cells in one namespace, in a running event loop; what each shows, None for nothing.

    Source is found by the cell's name, as IPython keeps it.
    """

    def run(source: str, name: str):
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        body = ast.parse(source).body
        if shows := bool(body) and isinstance(body[-1], ast.Expr):
            body[-1] = ast.copy_location(ast.Assign([ast.Name("_", ast.Store())], body[-1].value), body[-1])
        exec(compile(ast.fix_missing_locations(ast.Module(body, [])), name, "exec"), names)
        return names["_"] if shows else None

    async def run_all():
        return [run("".join(cell["source"]), f"<{path.name} {cell['id']}>") for cell in cells(path, "code")]

    return asyncio.run(run_all())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path):
    content = json.loads(path.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert path.read_text() == json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    assert [cell["id"] for cell in content["cells"]] == [f"cell-{i}" for i in range(len(content["cells"]))]
    for cell in cells(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("begun", [marks.in_ci(True), pytest.param(False, marks=pytest.mark.slow)])
def test_the_notebooks_run_one_after_the_other(
    begun, tmp_path, tmp_path_factory, monkeypatch, registrations, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plotting.Picture, "_save", lambda self, form, **_: b"\x89PNG")
    if begun:  # by a run of the same questions and models: all but finetune is there
        shutil.copytree(small_run.workdir(tmp_path_factory.getbasetemp()), "runs/notebooks")
    first, own = (paths.REPO / "examples" / f"{name}.ipynb" for name in ("first_steps", "own_method"))
    asked = run_cells(first, {"__name__": "__main__"})[-1]
    assert [one["text"] for one in asked][2:] == ["Q: What do plants breathe in? A: carbon dioxide"]
    planned = re.findall(r"(\d+) stages in runs/notebooks, (\d+) to run", capsys.readouterr().out)
    assert planned == [("11", "2" if begun else "11"), ("11", "0")]
    names = {"__name__": "__main__"}
    (comparison,) = run_cells(own, names)[-1]
    assert comparison[:2] == ("robust", "finetune")
    assert ", 2 to run" in capsys.readouterr().out  # the method's student and its evaluation
    again = names["selw2s_jax"].run(names["config"], "runs/notebooks")
    assert again.metrics == names["results"].metrics and ", 0 to run" in capsys.readouterr().out
    cell = next(cell for cell in cells(own, "code") if "registry.register" in "".join(cell["source"]))
    exec("".join(cell["source"]), names)
    assert "is registered again" in capsys.readouterr().out
