"""A run as a script starts it and reads it back: the same run, the numbers of reports, predictions, refusals."""

import asyncio
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support import report_runs, small_run

import selw2s_jax
from selw2s_jax.analysis import plotting
from selw2s_jax.report import __main__ as report_command
from selw2s_jax.report import document, numbers, stored


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return small_run.workdir(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def results(finished) -> selw2s_jax.Results:
    return selw2s_jax.load_run(finished)


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(plotting.Picture, "_save", lambda self, form, **_: b"\x89PNG")


def test_a_run_is_found_again(finished, results, no_pictures, capsys):
    async def in_a_notebook():  # which has an event loop of its own
        return selw2s_jax.run(results.config, finished)

    before = (finished / "results.json").read_bytes()
    again = asyncio.run(in_a_notebook())
    assert ", 0 to run" in capsys.readouterr().out
    assert (finished / "results.json").read_bytes() == before
    assert again.config == small_run.make_config() and again.metrics == results.metrics
    assert again.predictions.equals(results.predictions) and not again.missing


def test_numbers_are_those_of_the_report(finished, results):
    run = stored.read_run(finished)
    kept = json.loads((finished / "results.json").read_text())
    assert results.manifest["stages"] == kept["manifest"]["stages"] and results.notes == kept["notes"]
    for row, record in zip(results.by_seed, kept["records"], strict=True):
        same = ("task", "weak", "strong", "method", "seed", "n", "correct", "accuracy", "pgr")
        assert [row[name] for name in same] == [record[name] for name in same]
        np.testing.assert_allclose(row["accuracy_low"], record["accuracy_low"], rtol=1e-12)
    for row, expected in zip(results.metrics, numbers.main_results(run), strict=True):
        assert (row["accuracy_low"], row["accuracy_high"]) == expected["accuracy_interval"]
        assert row["pgr"] == expected["pgr"] and "paper_accuracy" not in row
    assert {row["method"] for row in results.students} == {"weak", "ceiling", "selective"}
    assert "one seed only" in results.warnings[0]["observation"]


def test_predictions_have_the_accuracies(results):
    table = results.predictions.to_pylist()
    for row in results.by_seed:
        right = [
            one["correct"] for one in table if (one["method"], one["seed"]) == (row["method"], row["seed"])
        ]
        assert (len(right), sum(right)) == (row["n"], row["correct"])


def test_results_are_of_the_workdir_as_it_was(finished, results, tmp_path):
    """Another run that is started there takes nothing of its own into those of the one before."""
    shutil.copytree(finished, tmp_path / "run")
    before = selw2s_jax.load_run(tmp_path / "run")
    manifest = results.manifest | {"config": results.manifest["config"] | {"plugins": ["mine"]}}
    for name, content in (("manifest", manifest), ("config", manifest["config"])):
        (tmp_path / "run" / f"{name}.json").write_text(json.dumps(content))
    assert before.config == results.config and before.manifest["config"] == results.manifest["config"]
    assert before.predictions.equals(results.predictions)
    with pytest.raises(selw2s_jax.UserError, match=r"has no predictions\.parquet of this run"):
        selw2s_jax.load_run(tmp_path / "run").predictions  # noqa: B018


def test_runs_of_a_sweep_stand_below_each_other(tmp_path):
    cells = {
        f"p_ik.task={task}": {
            "settings": {"p_ik.task": task},
            "right": {**report_runs.RIGHT, "selective": right},
            "depend": ("selective",),
        }
        for task, right in (("arc", (8, 7)), ("boolq", (4, 6)))
    }
    results = selw2s_jax.load_run(report_runs.write_sweep(tmp_path / "run", cells))
    found = {(row["p_ik.task"], row["method"]): row for row in results.metrics}
    assert found["arc", "selective"]["accuracy"] == 0.75 and found["boolq", "selective"]["accuracy"] == 0.5
    low, high = (found["arc", "selective"][f"difference_{end}"] for end in ("low", "high"))
    assert low <= found["arc", "selective"]["difference"] <= high
    keys = ("p_ik.task", "first", "second", "seed", "only_first", "only_second")
    tested = [tuple(row[key] for key in keys) for row in results.mcnemar]
    assert ("arc", "selective", "finetune", 0, 2, 0) in tested
    assert len(tested) == 2 * len(results.comparisons)
    tests = {(row["p_ik.task"], row["test_task"], row["auroc"]) for row in results.p_ik}
    assert tests == {
        (task, report_runs.P_IK["test_task"], report_runs.P_IK["auroc"]) for task in ("arc", "boolq")
    }
    items = results.p_ik_items
    assert items.num_rows == 2 * report_runs.P_IK["n"]
    assert set(items["p_ik.task"].to_pylist()) == {"arc", "boolq"}
    assert sum(items["known"].to_pylist()) == 2 * report_runs.P_IK["known"]
    assert set(results.manifests) == set(cells)
    for wanted, message in (("manifest", "holds a sweep"), ("predictions", r"has no predictions\.parquet")):
        with pytest.raises(selw2s_jax.UserError, match=message):
            getattr(results, wanted)
    (results.workdir / "runs" / "p_ik.task=arc" / "manifest.json").write_text("{")
    damaged = selw2s_jax.load_run(results.workdir)  # names it, and reads the other
    assert {row["p_ik.task"] for row in damaged.metrics} == {"boolq"} and "cannot be read" in damaged.missing[
        -1
    ]
    with pytest.raises(selw2s_jax.UserError, match="cannot be read"):
        damaged.student(method="weak")


def test_different_models_of_one_name_are_told_apart(tmp_path):
    cells = {f"weak={name}": {"weak": f"/{name}/gpt2"} for name in ("one", "two")}
    results = selw2s_jax.load_run(report_runs.write_sweep(tmp_path / "run", cells))
    assert {row["weak"] for row in results.metrics} == {"one/gpt2", "two/gpt2"}


def test_the_report_is_that_of_the_command(tmp_path, monkeypatch):
    workdir, asked = report_runs.write_run(tmp_path / "run"), []

    def files(runs, *, absent):
        asked.append(([run.title for run in runs], list(absent)))
        return {document.PAGE: b"page", "main.csv": b"table"}

    monkeypatch.setattr(document, "files", files)
    results = selw2s_jax.load_run(workdir)
    page = results.report(tmp_path / "page")
    assert (page.read_bytes(), (page.parent / "main.csv").read_bytes()) == (b"page", b"table")
    assert results.report() == workdir / "report" / "report.html"
    report_command.main([f"--workdir={workdir}"])
    assert asked == [(["sciq: gpt2 teaches qwen-14b"], [])] * 3
    assert "selective" in str(results) and "| selective |" in results._repr_markdown_()


def test_a_run_without_results_is_read_too(tmp_path):
    workdir = report_runs.write_run(
        tmp_path / "run", unfinished=report_runs.RIGHT, p_ik=(), with_results=False
    )
    results = selw2s_jax.load_run(workdir)
    assert str(results) == repr(results) == f"Results({str(workdir)!r})"
    assert not results.metrics and results.missing
    assert results.p_ik_items.num_rows == 0
    with pytest.raises(selw2s_jax.UserError, match="no evaluation is finished"):
        results.report()


def test_mistakes_are_user_errors(tmp_path, results):
    config = small_run.make_config()
    config.p_ik.gamma = 2.0
    for wrong, message in (({"task": "sciq"}, "default_config"), (config, "gamma")):
        with pytest.raises(selw2s_jax.UserError, match=message):
            selw2s_jax.run(wrong, tmp_path / "run")
    for shard in ((1, 1), (-1, 2), (0, 0)):  # the first of which would leave models out, and nobody make them
        with pytest.raises(selw2s_jax.UserError, match=r"0 <= i < n"):
            selw2s_jax.run(small_run.make_config(), tmp_path / "run", shard=shard)
    (tmp_path / "file").write_text("")
    with pytest.raises(selw2s_jax.UserError, match="file"):
        selw2s_jax.run(small_run.make_config(), tmp_path / "file" / "run")
    with pytest.raises(selw2s_jax.UserError, match="is not there"):
        selw2s_jax.load_run(tmp_path / "nothing")
    for name, message in (
        ({}, "^method is missing"),
        ({"method": "selectve"}, "did you mean selective"),
    ):
        with pytest.raises(selw2s_jax.UserError, match=message):
            results.student(**name)


def test_the_package_imports_what_is_asked_of_it():
    code = """
import sys
import selw2s_jax
assert not {"jax", "numpy", "ml_collections", "pyarrow", "typing"} & sys.modules.keys()
assert set(selw2s_jax.__all__) <= set(dir(selw2s_jax))
import inspect
import selw2s_jax.run.manifests as manifests
assert selw2s_jax.run.manifests is manifests is sys.modules["selw2s_jax.run.manifests"]
assert list(inspect.signature(selw2s_jax.run).parameters) == ["config", "workdir", "shard"]
assert "Returns:" in selw2s_jax.run.__doc__
import copy
assert copy.deepcopy(selw2s_jax.run) is selw2s_jax.run
assert selw2s_jax.config.default_config().task and issubclass(selw2s_jax.UserError, Exception)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
