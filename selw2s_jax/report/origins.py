"""Where a number comes from: the artifacts behind what a run says of a method and seed, in lines for other tools."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from selw2s_jax.analysis import formats, methods, results
from selw2s_jax.data import item_predictions, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.report import kept
from selw2s_jax.run import manifests
from selw2s_jax.runtime import artifacts, storage

_TESTS = ("evaluations", "members", "p_ik", "few_shot")  # lists of a manifest's tests
_EARLIER = (
    "note: an earlier version did not write down what each stage needs, so what these artifacts are made from is not "
    "listed: run the same config again to have it, finished stages are kept"
)


class Asked(NamedTuple):
    """What is asked for."""

    task: str
    method: str
    seed: int


def parse(text: str) -> Asked:
    """`TASK,METHOD,SEED`.

    Raises:
        UserError: it is none.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not parts[2].isdecimal():
        raise UserError(f"--where={text} must be TASK,METHOD,SEED, such as sciq,selective,0")
    return Asked(tasks.canonical_name(parts[0]), parts[1], int(parts[2]))


def text(runs: Mapping[str, kept.Kept], asked: Asked) -> str:
    """A line for each number and for each artifact, those that a number is read from before those that they need.

    Columns: what it is (a kind of stage, "number" or "log"), its key, whether it is there, its path, its label.

    Args:
        runs: of a workdir, by name.

    Raises:
        UserError: no run has such a method.
    """
    parts = []
    for name, run in runs.items():
        if run.manifest["config"]["task"] == asked.task and (roots := _roots(run.manifest, asked)):
            lines = [*_numbers(run, asked), *_artifacts(run, roots)]
            head = [f"# {name}\n"] if name else []
            parts.append("".join(head) + formats.aligned([["what", "key", "state", "path", "label"], *lines]))
            if not any("needs" in stage for stage in run.manifest["stages"]):
                parts.append(_EARLIER)
    if not parts:
        raise UserError(_unknown(runs, asked))
    return "\n\n".join(parts)


def _roots(manifest: Mapping[str, Any], asked: Asked) -> list[str]:
    """The keys of the stages that numbers of a method and seed are read from; else of what it is trained by."""
    test = manifest["test"]
    entries = [entry for kind in _TESTS for entry in test.get(kind, [])]
    found = [entry for entry in entries if (entry["method"], entry["seed"]) == (asked.method, asked.seed)]
    keys = [key for entry in found for key in (entry["key"], entry.get("answers")) if key is not None]
    if not keys:
        trained = manifest["students"]
        keys = [one["key"] for one in trained if (one["method"], one["seed"]) == (asked.method, asked.seed)]
    return list(dict.fromkeys(keys))


def _numbers(run: kept.Kept, asked: Asked) -> list[list[str]]:
    if run.results is None:
        return []
    path, lines = str(run.folder / manifests.RESULTS_FILE), []
    file = run.folder / item_predictions.FILE
    items = ["number", "items", "done" if file.is_file() else "missing", str(file), "of each test item"]
    if asked.method == methods.FEW_SHOT:  # which have no record
        lines.append(items)
    for record in run.results["records"]:
        if (record["method"], record["seed"]) == (asked.method, asked.seed):
            correct, n = record["correct"], record["n"]
            counted = f"accuracy {formats.percent(correct / n)} % ({correct} of {n})"
            lines.append(["number", "records", "done", path, counted])
            lines.append(items)
    for test in run.results["p_ik"]:
        if (test["method"], test["seed"]) == (asked.method, asked.seed):
            area = formats.NOTHING if test["auroc"] is None else f"{test['auroc']:.3f}"
            distribution = results.DISTRIBUTIONS.get(test["distribution"], test["distribution"])
            shown = f"P(IK) AUROC {area} on {test['test_task']} ({distribution})"
            lines.append(["number", "p_ik", "done", path, shown])
    return lines


def _artifacts(run: kept.Kept, roots: list[str]) -> list[list[str]]:
    """Those of these keys and of all that they need, each once."""
    stages = {stage["key"]: stage for stage in run.manifest["stages"]}
    store = artifacts.Store(run.workdir)
    logs, lines, seen, left = storage.names(run.workdir / "logs"), [], set(), roots[::-1]
    while left:
        key = left.pop()
        if key in seen or key not in stages:
            continue
        seen.add(key)
        stage = stages[key]
        found = store.find_by_key(stage["name"], key)
        state, path = ("missing", formats.NOTHING) if found is None else ("done", str(found.path))
        lines.append([stage["name"], key, state, path, stage["label"]])
        lines += [
            ["log", key, "done", str(run.workdir / "logs" / name), f"metrics of {stage['label']}"]
            for name in logs
            if name.endswith(f"-{key}.jsonl")
        ]
        left += stage.get("needs", [])[::-1]
    return lines


def _unknown(runs: Mapping[str, kept.Kept], asked: Asked) -> str:
    of_task = [run.manifest for run in runs.values() if run.manifest["config"]["task"] == asked.task]
    if not of_task:
        there = dict.fromkeys(run.manifest["config"]["task"] for run in runs.values())
        return f"--where: there is no run on {asked.task}; tasks here are {', '.join(there)}"
    tested = [
        entry
        for manifest in of_task
        for entries in (*(manifest["test"].get(kind, []) for kind in _TESTS), manifest["students"])
        for entry in entries
    ]
    there = dict.fromkeys(f"{entry['method']},{entry['seed']}" for entry in tested)
    return f"--where: no {asked.method} of seed {asked.seed} is there; there are {', '.join(there)}"
