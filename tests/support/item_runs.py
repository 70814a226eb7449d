"""Predictions of every test item: what runs keep of them, held to results.json, and made-up runs that have them."""

import collections
import json
import pathlib

import numpy as np
import pyarrow.parquet as pq
from support import report_runs

from selw2s_jax.analysis import methods, metrics
from selw2s_jax.data import item_predictions
from selw2s_jax.report import stored
from selw2s_jax.run import manifests


def read(folder: pathlib.Path) -> list[dict]:
    """The rows of a run's predictions."""
    # read_table would take a folder named `a=b` for a partition.
    with pq.ParquetFile(folder / item_predictions.FILE) as file:
        return file.read().to_pylist()


def assert_results_are_theirs(folder: pathlib.Path) -> dict[tuple, tuple[int, int]]:
    """Every count of right answers of a run's results.json is that of its predictions.

    Returns:
        Items and right ones by test, method and seed.
    """
    rows, results = read(folder), json.loads((folder / "results.json").read_text())
    counts: dict[tuple, list[int]] = collections.defaultdict(lambda: [0, 0])
    for row in rows:
        of_model = counts[row["test"], row["method"], row["seed"]]
        of_model[0] += 1
        of_model[1] += row["correct"]
        if row["probability"] is not None and row["label"] is not None:
            assert row["correct"] == ((np.float32(row["probability"]) > 0.5) == row["label"])
        if "answer" in row:
            assert row["correct"] == (row["answer"] == row["label"])
    found = {key: tuple(value) for key, value in counts.items()}
    assert {row["task"] for row in rows} == {results["manifest"]["config"]["task"]}
    for record in results["records"]:
        key = (record["task"], record["method"], record["seed"])
        assert found[key] == (record["n"], record["correct"])
        assert found[key][1] / found[key][0] == record["accuracy"]
        assert metrics.wilson_interval(found[key][1], found[key][0])[0] == record["accuracy_low"]
    for one in results.get("members", []):
        task = results["manifest"]["config"]["task"]
        assert found[task, one["member"], one["seed"]] == (one["test_n"], one["test_correct"])
    for one in results.get("continual", []):
        assert found[one["tested"], one["method"], one["seed"]] == (one["n"], one["correct"])
    for one in results["p_ik"]:
        assert found[one["test_task"], methods.FEW_SHOT, one["seed"]] == (one["n"], one["known"])
    for name, correct in results.get("by_frequency", {}).get("correct", {}).items():
        seeds = [right for (_, method, _), (_, right) in found.items() if method == name]
        assert np.mean(seeds) == np.sum(correct)
    return found


def write_run(workdir: pathlib.Path, **of_run) -> pathlib.Path:
    """A workdir as `report_runs.write_run` makes it, with records and predictions."""
    report_runs.write_run(workdir, **of_run)
    path = workdir / "results.json"
    results, run = json.loads(path.read_text()), stored.read_run(workdir)
    truth = json.loads((workdir / manifests.TRUTH_FILE).read_text())
    labels = dict(zip(truth["example_id"], truth["label"], strict=True))
    ids = sorted(labels)
    texts = [f"question {name}" for name in ids]
    test = item_predictions.Test(run.task, ids, [labels[name] for name in ids], texts)
    parts = [
        item_predictions.judged(test, method, seed, np.asarray(prob_1, np.float32))
        for method, of_seed in run.predictions.items()
        for seed, prob_1 in of_seed.items()
    ]
    results["records"] = [
        {
            "task": run.task,
            "method": part.method,
            "seed": part.seed,
            "n": len(ids),
            "correct": int(part.correct.sum()),
        }
        for part in parts
    ]
    path.write_text(json.dumps(results))
    item_predictions.write(workdir, run.task, parts, manifests.identity(run.manifest))
    return workdir
