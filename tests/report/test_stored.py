"""Reading runs: what is there, what is missing, and damaged ones refused in one line."""

import dataclasses
import json

import pytest
from support import report_runs

from selw2s_jax.errors import UserError
from selw2s_jax.report import document, numbers, stored
from selw2s_jax.run import manifests
from selw2s_jax.training import metrics_log


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> stored.Run:
    return stored.read_run(report_runs.write_run(tmp_path_factory.mktemp("reading") / "run"))


def test_what_is_read(run):
    assert run.title == "sciq: gpt2 teaches qwen-14b" and run.missing == []
    assert list(run.predictions) == list(report_runs.RIGHT)
    for method, counts in report_runs.RIGHT.items():
        assert run.correct(method, [0, 1]).sum(1).tolist() == list(counts)
    assert [step["train/loss"] for step in run.logs["weak"][1]] == [1, 1 / 2, 1 / 3]
    assert run.diagnostics[0]["ik_rate"] == 0.4


def test_a_part_of_a_run_says_what_is_missing(tmp_path):
    workdir = report_runs.write_run(tmp_path / "run", unfinished=("ceiling", "selective"), with_results=False)
    run = stored.read_run(workdir)
    assert run.missing[:2] == ["evaluation of ceiling, seed 0", "evaluation of ceiling, seed 1"]
    assert len(run.missing) == 5 and "when it ends" in run.missing[-1]
    made = document.files([run])
    text = " ".join(report_runs.Page(made["report.html"]).text)
    assert all(label in text for label in run.missing)
    rows = {row["method"]: row for row in report_runs.read_csv(made["main.csv"])}
    assert set(rows) == {"weak", "finetune", "random_selection"}
    assert rows["finetune"]["pgr"] == "" and float(rows["finetune"]["accuracy"]) == 0.6
    assert "labels.csv" not in made and "results-1.svg" in made


def test_seeds_that_are_not_finished_for_both_are_not_compared(tmp_path):
    workdir = report_runs.write_run(tmp_path / "run")
    run = stored.read_run(workdir)
    predictions = run.predictions | {"selective": {1: run.predictions["selective"][1]}}
    run = dataclasses.replace(run, predictions=predictions)
    rows = {row["method"]: row for row in numbers.main_results(run)}
    assert rows["selective"]["num_seeds"] == 1
    assert rows["selective"]["pgr"] == pytest.approx((0.7 - 0.4) / (1 - 0.4))


def test_results_of_an_earlier_config_are_not_used(tmp_path):
    workdir = report_runs.write_run(tmp_path / "run")
    manifest = json.loads((workdir / "manifest.json").read_text())
    manifest["config"]["p_ik"]["gamma"] = 0.5
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    run = stored.read_run(workdir)
    assert run.diagnostics == run.p_ik == [] and "earlier config" in run.missing[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "{", "manifest.json cannot be read"),
        ("manifest.json", "[]", "manifest.json"),
        ("manifest.json", '{"config": {}, "models": {}, "students": []}', "says nothing of predictions"),
        (
            "manifest.json",
            '{"config": {}, "models": {}, "students": [], "test": 3, "stages": []}',
            "cannot be read",
        ),
        (
            "manifest.json",
            '{"config": {"methods": ["m"]}, "models": {}, "students": [], "methods": {"m": {"role": "king"}}, '
            '"test": {"evaluations": []}, "stages": []}',
            "cannot be read",
        ),
        ("results.json", "", "results.json cannot be read"),
        ("results.json", '{"manifest": 1}', "results.json cannot be read"),
        (manifests.TRUTH_FILE, None, f"{manifests.TRUTH_FILE} cannot be read"),
        (manifests.TRUTH_FILE, "[1, 2]", f"{manifests.TRUTH_FILE} cannot be read"),
        (
            manifests.TRUTH_FILE,
            '{"example_id": ["item-0"], "label": [1]}',
            "is not the file that was written",
        ),
        ("predictions.parquet", "PAR1", "is damaged"),
        ("artifact manifest", "{", "no readable manifest"),
        ("artifact manifest", '{"stage": "predictions", "inputs": {}, "files": {}}', "other inputs"),
    ],
)
def test_damaged_runs_are_refused_in_one_line(tmp_path, name, content, message):
    workdir = report_runs.write_run(tmp_path / "run")
    artifact = next((workdir / "artifacts" / "predictions").iterdir())
    named = {
        "artifact manifest": artifact / "manifest.json",
        "predictions.parquet": artifact / "predictions.parquet",
    }
    report_runs.damage(named.get(name, workdir / name), content)
    with pytest.raises(UserError, match=message) as error:
        stored.read_run(workdir)
    assert "\n" not in str(error.value)


def test_damaged_entries_of_results_are_refused(tmp_path):
    workdir = report_runs.write_run(tmp_path / "run", diagnostics=[{"method": "selective"}])
    with pytest.raises(UserError, match=r"results.json cannot be read"):
        stored.read_run(workdir)


def test_a_folder_without_a_run_is_refused(tmp_path):
    for workdir, message in ((tmp_path / "none", "none is not there"), (tmp_path, "has no run in it")):
        with pytest.raises(UserError, match=message):
            stored.read_run(workdir)


def test_nesting_without_end_is_no_recursion(tmp_path):
    """A disk that gives one block again and again: of a log half a line, of a manifest one that cannot be read."""
    deep = "[" * 100_000
    workdir = report_runs.write_run(tmp_path / "run")
    log = next((workdir / "logs").glob("*.jsonl"))
    whole = log.read_text()
    log.write_text(whole.partition("\n")[0] + "\n" + deep)
    assert stored._read_log(log) == [{"step": 0.0, "train/loss": 1.0}]
    assert [line for _, line in metrics_log._steps(log)] == [whole.partition("\n")[0] + "\n"]
    log.write_text('{"loss": 1}\n' + whole)
    assert metrics_log._steps(log) == []
    for name in ("results.json", manifests.TRUTH_FILE, "manifest.json"):
        path = workdir / name
        content = path.read_text()
        path.write_text(deep)
        with pytest.raises(UserError, match=rf"{name}.* run the same config in") as raised:
            stored.read_run(workdir)
        assert "\n" not in str(raised.value)
        path.write_text(content)
    (workdir / manifests.SWEEP_FILE).write_text(deep)
    with pytest.raises(UserError, match=r"sweep\.json cannot be read"):
        manifests.read_cells(workdir)


@pytest.mark.parametrize(
    "change", [{"brier": "low"}, {"known": 21}, {"distribution": "near"}, {"auroc": float("nan")}]
)
def test_tests_of_p_ik_that_are_none_are_refused(tmp_path, change):
    workdir = report_runs.write_run(tmp_path / "run", p_ik=(report_runs.P_IK | change,))
    with pytest.raises(UserError, match=r"results.json cannot be read"):
        stored.read_run(workdir)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["models"]["strong"].pop("name"),
        lambda manifest: manifest["config"].pop("task"),
        lambda manifest: manifest["config"]["p_ik"].update(gamma="high"),
        lambda manifest: manifest["students"][0].update(seed=[0]),
        lambda manifest: manifest["test"]["evaluations"][0].update(seed=1),
        lambda manifest: manifest["test"]["evaluations"][0].update(seed=7),
        lambda manifest: manifest.update(examples=[{}]),
    ],
)
def test_a_manifest_with_values_of_another_form_is_refused(tmp_path, change):
    workdir = report_runs.write_run(tmp_path / "run")
    manifest = json.loads((workdir / "manifest.json").read_text())
    change(manifest)
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest.json cannot be read"):
        stored.read_run(workdir)


@pytest.mark.parametrize("name", [3, "", "../run", "/run", "a\0", "x" * 300])
def test_a_sweep_with_a_name_that_no_folder_of_it_has_is_refused(tmp_path, name):
    workdir = report_runs.write_sweep(tmp_path / "run", {"a": {}})
    (workdir / manifests.SWEEP_FILE).write_text(json.dumps({"cells": [{"name": name, "axes": {}}]}))
    with pytest.raises(UserError, match=r"sweep.json cannot be read"):
        stored.read(workdir)
