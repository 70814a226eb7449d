"""Two runs compared, the origins of a number, and predictions of several runs as one table."""

import dataclasses
import json
import shutil

import pytest
from support import commands, item_runs, report_runs

from selw2s_jax.analysis import comparisons
from selw2s_jax.errors import UserError
from selw2s_jax.report import __main__ as report_command
from selw2s_jax.report import differences, item_tables, kept, origins, stored
from selw2s_jax.run import manifests


def change(workdir, **values) -> None:
    """Changes what manifest and results say of a run."""
    for name in ("manifest.json", "results.json"):
        content = json.loads((workdir / name).read_text())
        manifest = content if name == "manifest.json" else content["manifest"]
        manifest |= values
        (workdir / name).write_text(json.dumps(content))


def table_under(text: str, title: str) -> list[list[str]]:
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(title))
    rows = []
    for line in lines[start + 1 :]:
        if not line:
            break
        rows.append([cell for cell in line.split("  ") if cell])
    return [[cell.strip() for cell in row] for row in rows]


RIGHT = {name: report_runs.RIGHT[name] for name in ("weak", "ceiling", "selective")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs, the second with another gamma and other answers of one method."""
    folder = tmp_path_factory.mktemp("runs")
    first = item_runs.write_run(folder / "first", right=RIGHT, p_ik=())
    second = item_runs.write_run(
        folder / "second", right=RIGHT | {"selective": (10, 7)}, settings={"p_ik.gamma": 0.5}, p_ik=()
    )
    change(first, libraries={"jax": "0.9.0", "numpy": "2.0"})
    change(second, libraries={"jax": "0.10.0", "numpy": "2.0"})
    return first, second


@pytest.fixture
def pair(made, tmp_path):
    """Copies of them, free to be changed."""
    return tuple(shutil.copytree(folder, tmp_path / folder.name) for folder in made)


def test_differences_of_two_runs(pair):
    text = differences.text(*map(kept.read, pair))
    assert table_under(text, "settings that differ") == [["key", "A", "B"], ["p_ik.gamma", "0.8", "0.5"]]
    assert table_under(text, "versions that differ")[1:] == [["libraries.jax", "0.9.0", "0.10.0"]]
    assert "results that differ: 1 of 6" in text
    (row,) = table_under(text, "results that differ")[1:]
    runs = [stored.read_run(folder) for folder in pair]
    correct = [run.correct("selective", [0])[0] for run in runs]
    tested = comparisons.mcnemar(*correct)
    assert row == [
        "sciq", "sciq", "selective", "0", "10", "80.00", "100.00", "+20.00", "10", str(tested.only_first),
        str(tested.only_second), f"{tested.p_value:.3f}",
    ]  # fmt: skip
    (mean,) = table_under(text, "means over seeds")[1:]
    both = [run.correct("selective", [0, 1]) for run in runs]
    change_found = comparisons.bootstrap_difference(both[1], both[0])
    assert mean[:6] == ["sciq", "sciq", "selective", "2", "10", f"{100 * change_found.mean:+.2f}"]
    assert mean[6] == f"{100 * change_found.low:+.2f} to {100 * change_found.high:+.2f}"


def test_a_run_is_itself_and_one_without_predictions_has_its_accuracies(pair):
    first, second = pair
    same = differences.text(kept.read(first), kept.read(first))
    assert "settings that differ: none" in same and "results that differ: none of 6" in same
    (second / "predictions.parquet").unlink()
    text = differences.text(kept.read(first), kept.read(second))
    assert table_under(text, "results that differ")[1][-4:] == ["-"] * 4
    assert "compared by its accuracies alone" in text


def test_items_are_paired_by_id_where_test_sets_differ(made, tmp_path):
    second = item_runs.write_run(
        tmp_path / "third", num_items=7, p_ik=(), right={"weak": (3, 4), "ceiling": (7, 7)}
    )
    text = differences.text(kept.read(made[0]), kept.read(second))
    rows = table_under(text, "results that differ")[1:]
    assert {(row[4], row[8]) for row in rows} == {("10 and 7", "7")}
    assert "results in A alone: sciq selective seed 0" in text


def test_runs_of_sweeps_go_by_name(tmp_path):
    for name in ("a", "b"):
        cells = {"task=sciq": {}, f"task={name}": {"task": name}}
        report_runs.write_sweep(tmp_path / name, cells, right={"weak": (5,)}, seeds=(0,), p_ik=())
        for path in (tmp_path / name).glob("runs/*/results.json"):
            path.unlink()
    runs = [kept.read(tmp_path / name) for name in ("a", "b")]
    text = differences.text(*runs)
    assert "# task=sciq" in text and "runs in A alone: task=a" in text and "not finished" in text
    with pytest.raises(UserError, match="give the folders of two runs"):
        differences.text({"x": runs[0]["task=a"]}, runs[1])
    cell = kept.read(tmp_path / "a" / "runs" / "task=sciq")[""]
    assert cell.workdir == tmp_path / "a"


def test_origins_of_a_number(pair):
    first, _ = pair
    manifest = json.loads((first / "manifest.json").read_text())
    entry = next(
        one for one in manifest["test"]["evaluations"] if (one["method"], one["seed"]) == ("selective", 1)
    )
    trained = next(one for one in manifest["students"] if (one["method"], one["seed"]) == ("selective", 1))
    for stage in manifest["stages"]:
        if stage["key"] == entry["key"]:
            stage["needs"] = [trained["key"]]
    assert origins.text(kept.read(first), origins.parse("sciq,selective,1")).endswith(origins._EARLIER)
    manifest["stages"].append(
        {"label": "selective, seed 1", "name": "train", "key": trained["key"], "needs": []}
    )
    change(first, stages=manifest["stages"])
    lines = [
        line.split()
        for line in origins.text(kept.read(first), origins.parse("sciq,selective,1")).splitlines()
    ]
    assert lines[0] == ["what", "key", "state", "path", "label"]
    by_kind = {line[0]: line for line in lines[1:]}
    path = str(first / "artifacts" / "predictions" / entry["key"])
    assert by_kind["predictions"][1:4] == [entry["key"], "done", path]
    assert by_kind["train"][1:4] == [trained["key"], "missing", "-"]
    assert by_kind["log"][1] == trained["key"] and lines[1][:3] + lines[1][5:6] == [
        "number",
        "records",
        "done",
        "70.00",
    ]
    with pytest.raises(UserError, match=r"no selective of seed 3 is there; there are weak,0"):
        origins.text(kept.read(first), origins.parse("sciq,selective,3"))
    with pytest.raises(UserError, match="there is no run on boolq; tasks here are sciq"):
        origins.text(kept.read(first), origins.parse("boolq,selective,0"))
    with pytest.raises(UserError, match="must be TASK,METHOD,SEED"):
        origins.parse("sciq,selective")


def test_predictions_of_several_runs_as_one_table(pair, tmp_path):
    arguments = [f"--workdir={folder}" for folder in pair]
    ended = commands.call(report_command.main, *arguments, f"--predictions={tmp_path}/all.csv", cwd=tmp_path)
    assert ended.returncode == 0 and not (pair[0] / "report").exists()
    rows = report_runs.read_csv((tmp_path / "all.csv").read_bytes())
    assert len(rows) == 2 * 60 and list(rows[0])[:3] == ["run", "task", "test"]
    assert {row["run"] for row in rows} == set(map(str, pair))
    found = [
        row for row in rows if (row["run"], row["method"], row["seed"]) == (str(pair[1]), "selective", "0")
    ]
    assert all(row["correct"] == "True" for row in found)
    runs = kept.read(pair[0])
    assert item_tables.encode(runs, "one.parquet")[:4] == b"PAR1"
    change(pair[0], config=runs[""].manifest["config"] | {"seeds": [0, 1, 2]})
    with pytest.raises(UserError, match="has no predictions of its last start"):
        item_tables.encode(kept.read(pair[0]), "one.csv")


def test_the_command_takes_two_workdirs(pair, tmp_path):
    ended = commands.call(report_command.main, "--diff", *map(str, pair), cwd=tmp_path)
    assert ended.returncode == 0 and "p_ik.gamma" in ended.stdout, ended
    for wrong in (["--diff", str(pair[0])], ["--diff", *map(str, pair), f"--workdir={pair[0]}"]):
        ended = commands.call(report_command.main, *wrong, cwd=tmp_path)
        commands.assert_refused(ended, "--diff takes two workdirs, as --diff A B")
    for wrong in (
        ["--diff", *map(str, pair), "--output=x"],
        ["--workdir=x", "--where=a,b,0", "--predictions=x.csv"],
    ):
        ended = commands.call(report_command.main, *wrong, cwd=tmp_path)
        commands.assert_refused(ended, "do not go together; leave one out")
    for wrong in (
        ["--diff", str(pair[0]), "http://me:secret@host/x"],
        ["--workdir=x", "--predictions=https://host/x.csv"],
    ):
        ended = commands.call(report_command.main, *wrong, cwd=tmp_path)
        commands.assert_refused(ended, "host/x")
        assert "secret" not in ended.stderr


def test_models_that_share_a_name_are_told_apart(made):
    run = stored.read_run(made[0])
    runs = [
        dataclasses.replace(
            run, manifest=run.manifest | {"models": {"weak": {"name": name}, "strong": {"name": "/x/big"}}}
        )
        for name in ("/a/little", "/b/little")
    ]
    assert {run.weak for run in runs} == {"little"} and runs[0].weak_model == "/a/little"
    named = stored.with_distinct_models(runs)
    assert [run.title for run in named] == ["sciq: a/little teaches big", "sciq: b/little teaches big"]
    assert manifests.weak_name(named[0].manifest, lambda model: model["name"]) == "/a/little"
