"""A run as its workdir keeps it, finished or not: test predictions by seed and method, logs, results, what is missing.

Neither models nor devices are needed: everything is read from manifest.json, results.json, the ground truth of the
test set, artifacts and logs.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from selw2s_jax import artifacts, collect, inputs, storage, students
from selw2s_jax.errors import UserError

# What is read of an entry of "diagnostics" and "p_ik" in results.json.
_DIAGNOSTICS = (
    "ik_rate", "self_accuracy_on_ik", "weak_accuracy_on_ik", "weak_accuracy", "prior_accuracy", "target_accuracy",
    "smoothing_move", "smoothing_flips", "p_ik_auroc",
)  # fmt: skip
_P_IK = (
    "method", "seed", "task", "distribution", "n", "known", "auroc", "auroc_low", "auroc_high", "brier",
    "calibration_error", "ik_rate", "ik_precision",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Run:
    """What a workdir holds of one experiment.

    Attributes:
        workdir: where it was read from.
        manifest: as `pipeline` wrote it when the run was last started.
        truth: `[N]` bool, the labels of the test items, ordered by example_id.
        predictions: by method ("weak" and "ceiling" first) and seed, the probability of class 1, `[N]`; of
            finished evaluations alone.
        logs: by method and seed, the logged steps in order, each with "step" and "train/..." metrics.
        diagnostics: per method and seed that chose among labels, what it chose in the second half of training;
            empty until the run is finished.
        p_ik: per test of P(IK), as results.json has it; empty until the run is finished.
        notes: what a reader of the results has to know.
        missing: what is planned and not there.
    """

    workdir: epath.Path
    manifest: dict[str, Any]
    truth: np.ndarray
    predictions: dict[str, dict[int, np.ndarray]]
    logs: dict[str, dict[int, list[dict[str, float]]]]
    diagnostics: list[dict[str, Any]]
    p_ik: list[dict[str, Any]]
    notes: list[str]
    missing: list[str]

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest["config"]

    @property
    def task(self) -> str:
        return self.config["task"]

    @property
    def weak(self) -> str:
        return self.manifest["models"]["weak"]["name"]

    @property
    def strong(self) -> str:
        return self.manifest["models"]["strong"]["name"]

    @property
    def is_papers_data(self) -> bool:
        """Whether the paper's numbers are of the same data."""
        return self.manifest["test"]["is_papers_data"]

    @property
    def title(self) -> str:
        return f"{self.task}: {self.weak} teaches {self.strong}"

    def correct(self, method: str, seeds: Sequence[int]) -> np.ndarray:
        """Whether a method gets each item right, `[S, N]` bool."""
        answers = np.stack([self.predictions[method][seed] for seed in seeds]) > 0.5
        return answers == self.truth

    def common_seeds(self, *methods: str) -> list[int]:
        """The seeds, sorted, that all of these methods are finished for."""
        seeds = [set(self.predictions.get(method, {})) for method in methods]
        return sorted(set.intersection(*seeds))


def read(workdir: epath.PathLike) -> Run:
    """The run in a workdir.

    Raises:
        UserError: there is none, or a file of it is damaged.
    """
    workdir = epath.Path(workdir).expanduser()
    manifest = students.read_manifest(workdir)
    path = workdir / "manifest.json"
    if "test" not in manifest:
        raise UserError(
            f"{path} says nothing of predictions; run the same config in {workdir} again to add it"
        )
    return _checked(path, workdir, lambda: _read(workdir, manifest))


def _read(workdir: epath.Path, manifest: dict[str, Any]) -> Run:
    ids, truth = _read_truth(workdir, manifest["test"]["labels_hash"])
    predictions: dict[str, dict[int, np.ndarray]] = {}
    for entry in manifest["test"]["evaluations"]:
        artifact = _find(workdir, "predictions", entry["key"])
        if artifact is not None:
            table = artifact.read_table("predictions.parquet")
            values = dict(zip(table["example_id"], table["prob_1"], strict=True))
            where = f"artifact predictions/{entry['key']}"
            of_method = predictions.setdefault(entry["method"], {})
            of_method[entry["seed"]] = inputs.by_example_id(values, ids, where)
    missing = [
        stage["label"] for stage in manifest["stages"] if _find(workdir, stage["name"], stage["key"]) is None
    ]
    results, reason = _read_results(workdir, manifest)
    return Run(
        workdir=workdir,
        manifest=manifest,
        truth=truth,
        predictions=predictions,
        logs=_read_logs(workdir, manifest["students"]),
        **results,
        missing=missing + ([reason] if reason else []),
    )


def _checked(path: epath.Path, workdir: epath.Path, read: Callable[[], Any]) -> Any:
    """`read()`, with errors of a damaged file as one line."""
    try:
        return read()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} cannot be read; run the same config in {workdir} again to mend it, finished stages are kept"
        ) from error


def _read_truth(workdir: epath.Path, labels_hash: str) -> tuple[list[str], np.ndarray]:
    """Sorted example_ids of the test set, and their labels."""
    path = workdir / collect.TRUTH_FILE

    def read_columns() -> tuple[list[str], list[int]]:
        table = json.loads(path.read_text(encoding="utf-8"))
        return table["example_id"], table["label"]

    ids, labels = _checked(path, workdir, read_columns)
    if artifacts.content_hash([ids, labels]) != labels_hash:
        raise UserError(f"{path} is not the file that was written; run the same config in {workdir} again")
    order = np.argsort(ids)
    return [ids[index] for index in order], np.array(labels, bool)[order]


def _find(workdir: epath.Path, stage: str, key: str) -> artifacts.Artifact | None:
    """The finished artifact of that key, or None."""
    path = workdir / "artifacts" / stage / key
    content = storage.read_bytes(path / "manifest.json")
    if content is None:
        return None
    try:
        recorded = json.loads(content)["inputs"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"artifact {stage}/{key} has no readable manifest; delete {path} to make it again"
        ) from error
    artifact = artifacts.Store(workdir).find(stage, recorded)
    if artifact is None or artifact.key != key:
        raise UserError(
            f"artifact {stage}/{key} was made from other inputs than its name says; delete {path} to make it again"
        )
    return artifact


def _read_results(workdir: epath.Path, manifest: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """What a `Run` has of results.json; else nothing, and why."""
    path = workdir / "results.json"
    content = storage.read_bytes(path)
    nothing = {"diagnostics": [], "p_ik": [], "notes": []}
    unfinished = "label diagnostics and tests of P(IK), which the run writes when it ends"
    if content is None:
        return nothing, unfinished

    def parse() -> dict[str, Any]:
        found = json.loads(content)
        if any(found["manifest"][key] != manifest[key] for key in ("config", "stages")):
            return {}
        return {
            "diagnostics": [_diagnosis(entry) for entry in found["diagnostics"]],
            "p_ik": [_only(entry, _P_IK) for entry in found["p_ik"]],
            "notes": [str(note) for note in found["notes"]],
        }

    parts = _checked(path, workdir, parse)
    return (parts, None) if parts else (nothing, f"{unfinished} (results.json is of an earlier config)")


def _diagnosis(entry: Mapping[str, Any]) -> dict[str, Any]:
    own = _only(entry, ("method", "seed", "self_weight", "effective_neighbours"))
    return own | _only(entry["second_half"], _DIAGNOSTICS)


def _only(entry: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: entry[name] for name in names}


def _read_logs(
    workdir: epath.Path, trained: Sequence[Mapping[str, Any]]
) -> dict[str, dict[int, list[dict[str, float]]]]:
    """By method and seed, the steps of each training that has begun."""
    names = storage.names(workdir / "logs")
    logs: dict[str, dict[int, list[dict[str, float]]]] = {}
    for entry in trained:
        for name in names:
            if name.endswith(f"-{entry['key']}.jsonl"):
                steps = _read_log(workdir / "logs" / name)
                logs.setdefault(entry["method"], {})[entry["seed"]] = steps
    return logs


def _read_log(path: epath.Path) -> list[dict[str, float]]:
    steps = []
    for line in (storage.read_bytes(path) or b"").splitlines():
        try:
            record = json.loads(line)
            numbers = {name: float(value) for name, value in record.items() if value is not None}
        except (ValueError, TypeError, AttributeError):
            break  # half a line of a training that is under way or was killed
        if math.isfinite(numbers.get("step", math.nan)):
            steps.append(numbers)
    return steps
