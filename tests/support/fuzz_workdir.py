"""Cases of `support.fuzz`: workdirs of runs and sweeps with files removed, cut, flipped, swapped or changed in values."""

import contextlib
import functools
import json
import pathlib
import random
import tempfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from support import fuzz, report_runs, store_edits

from selw2s_jax.report import document, figures, p_ik_figures, stored
from selw2s_jax.run import manifests
from selw2s_jax.runtime import artifacts


def _write_run(folder: pathlib.Path) -> None:
    report_runs.write_run(
        folder / "run",
        right={"weak": (5, 4), "finetune": (6, 6), "selective": (8, 7), "ceiling": (9, 10)},
        diagnostics=report_runs.DIAGNOSES,
        p_ik=(report_runs.P_IK,),
        questions="of p_ik",
        notes=("a note",),
        examples=({"task": "sciq", "reader": "weak", "text": "Q"},),
    )


def _write_sweep(folder: pathlib.Path) -> None:
    right = {"weak": (5,), "finetune": (6,), "ceiling": (9,)}
    report_runs.write_sweep(folder / "run", {"a": {"task": "sciq"}, "b": {"task": "boolq"}}, right=right)


_WORKDIRS = {"run": _write_run, "sweep": _write_sweep}


@functools.cache
def _files(kind: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        _WORKDIRS[kind](folder := pathlib.Path(name))
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder / "run").as_posix(): path.read_bytes() for path in paths}


def _copy(kind: str, folder: pathlib.Path) -> pathlib.Path:
    """The workdir of that kind in an empty folder, with nothing but what reports read."""
    for name, content in _files(kind).items():
        path = folder / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / "run"


@functools.cache
def _whole(kind: str) -> dict[tuple[str, ...], np.ndarray]:
    with tempfile.TemporaryDirectory() as name:
        return _answers(stored.read(_copy(kind, pathlib.Path(name))))


def _answers(contents: stored.Contents) -> dict[tuple[str, ...], np.ndarray]:
    """Every test prediction of a workdir, and the labels, by task, method and seed."""
    return {
        (run.task, method, str(seed)): np.stack([values, run.truth])
        for run in contents.runs
        for method, by_seed in run.predictions.items()
        for seed, values in by_seed.items()
    }


@contextlib.contextmanager
def _without_pictures() -> Iterator[None]:
    """What takes a report its time, and nothing but numbers of its tables."""
    with contextlib.ExitStack() as stack:
        for module in (figures, p_ik_figures):
            for name in vars(module):
                if name.startswith("draw_"):
                    stack.enter_context(mock.patch.object(module, name, lambda *_, **__: b"png"))
        yield


@fuzz.register("workdirs")
def reports(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A run or a sweep that is to be reported."""
    kind = generator.choice(("run", "run", "sweep"))
    workdir = _copy(kind, folder)
    own = [
        path
        for path in workdir.rglob("*")
        if path.is_file() and "artifacts" not in path.parts and path.suffix == ".json"
    ]
    if generator.random() < 0.5:
        what = f"{(path := generator.choice(sorted(own))).name} {fuzz.damage_json_file(generator, path)}"
        is_json = path.name
    else:
        what, is_json = fuzz.damage_folder(generator, workdir), None
    is_written = generator.random() < 0.1

    def check(contents: stored.Contents) -> None:
        whole, found = _whole(kind), _answers(contents)
        for key, values in found.items():
            if key in whole:
                assert np.array_equal(values, whole[key]), key
        missing = (
            sum(len(run.missing) for run in contents.runs) + len(contents.damaged) + len(contents.waiting)
        )
        assert is_json or missing or len(found) == len(whole), (what, sorted(found))
        if is_written:
            with _without_pictures():
                assert document.files(contents.runs, absent=[*contents.waiting, *contents.damaged])

    return fuzz.Case(f"{kind}: {what}", lambda: stored.read(workdir), check)


_STAGE, _INPUTS = "train", {"settings": [1, 0.5], "of": {"data": "ab"}}
_CONTENT = {
    "summary": {"p_ik_head": True, "steps": 3},
    "table": {"example_id": np.array(["a", "b"], object), "prob_1": np.array([0.25, 0.5])},
    "array": np.arange(6, dtype=np.float32).reshape(2, 3),
}


def _write_artifact(folder) -> None:
    artifacts.write_text(folder / "summary.json", json.dumps(_CONTENT["summary"]))
    artifacts.write_table(folder / "table.parquet", _CONTENT["table"])
    artifacts.write_array(folder / "array.npy", _CONTENT["array"])
    (folder / "model").mkdir()
    artifacts.write_text(folder / "model" / "weights", "weights")


@functools.cache
def _artifact_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        path = store_edits.make(artifacts.Store(name), _STAGE, _INPUTS, _write_artifact).path
        return {
            one.relative_to(name).as_posix(): one.read_bytes()
            for one in pathlib.Path(path).rglob("*")
            if one.is_file()
        }


@fuzz.register("artifacts")
def stored_stages(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A finished stage: found and read as it was written, not there, or damaged."""
    for name, content in _artifact_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    place = artifacts.Store(folder).path(_STAGE, _INPUTS)
    what = "; ".join(
        fuzz.damage_folder(generator, pathlib.Path(place)) for _ in range(generator.choice((1, 1, 2)))
    )
    has_manifest = (place / manifests.MANIFEST_FILE).is_file()
    by_key = generator.random() < 0.5

    def read() -> dict[str, Any] | None:
        store = artifacts.Store(folder)
        found = store.find_by_key(_STAGE, place.name) if by_key else store.find(_STAGE, _INPUTS)
        if found is None:
            return None
        read = {"summary": found.read_json("summary.json"), "table": found.read_table("table.parquet")}
        return read | {
            "array": found.read_array("array.npy"),
            "model": found.verified("model/weights").read_text(),
        }

    def check(found: dict[str, Any] | None) -> None:
        assert found is not None or not has_manifest
        if found is not None:
            assert found["summary"] == _CONTENT["summary"] and found["model"] == "weights"
            assert np.array_equal(found["array"], _CONTENT["array"]), found
            for name, values in _CONTENT["table"].items():
                assert np.array_equal(found["table"][name], values), found

    return fuzz.Case(what, read, check)
