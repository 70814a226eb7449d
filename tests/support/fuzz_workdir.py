"""Cases of `support.fuzz`: workdirs of runs and sweeps, with files removed, cut, flipped, swapped or changed."""

import contextlib
import dataclasses
import functools
import json
import pathlib
import random
import tempfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from support import fuzz, registered_runs, report_runs, store_edits, written_runs

from selw2s_jax import report
from selw2s_jax.analysis import plotting, result_figures
from selw2s_jax.report import document, stored
from selw2s_jax.run import manifests, students
from selw2s_jax.runtime import artifacts


def _write_run(folder: pathlib.Path) -> None:
    registered_runs.write_run(
        folder / "run",
        right={"weak": (5, 4), "finetune": (6, 6), "selective": (8, 7), "ceiling": (9, 10)},
        diagnostics=report_runs.DIAGNOSES,
        p_ik=(report_runs.P_IK,),
        questions="of p_ik",
        notes=("a note",),
        examples=({"task": "sciq", "reader": "weak", "text": "Q"},),
        of_labels={
            "disagreement": [report_runs.disagreement_entry(num_rows=23)],
            "calibration": [report_runs.calibration_entry()],
            "kernels": [report_runs.kernel_entry()],
        },
    )


def _write_sweep(folder: pathlib.Path) -> None:
    right = {"weak": (5,), "finetune": (6,), "ceiling": (9,)}
    report_runs.write_sweep(folder / "run", {"a": {"task": "sciq"}, "b": {"task": "boolq"}}, right=right)


def _write_written(folder: pathlib.Path) -> None:
    methods = {name: written_runs.METHODS[name] for name in ("weak", "finetune", "entropy_filter", "ceiling")}
    entry = written_runs.reliability_entry(num_questions=12, count=2)
    written_runs.write_run(folder / "run", methods=methods, seeds=(0,), num_items=11, of_seeds=[entry])


_WORKDIRS = {"run": _write_run, "sweep": _write_sweep, "written": _write_written}


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
        drawn = plotting.Picture(plotting.figure(width=1, height=1))
        modules = [one for name, one in vars(report).items() if name.endswith("figures")]
        for module in (*modules, result_figures):
            for name in vars(module):
                if name.startswith("draw_"):
                    stack.enter_context(mock.patch.object(module, name, lambda *_, **__: drawn))
        yield


@fuzz.register("workdirs")
def reports(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A run or a sweep that is to be reported."""
    kind = generator.choice(("run", "run", "sweep", "written"))
    workdir = _copy(kind, folder)
    own = [path for path in workdir.rglob("*.json") if "artifacts" not in path.parts]
    if generator.random() < 0.5:
        what = f"{(path := generator.choice(sorted(own))).name} {fuzz.damage_json_file(generator, path)}"
    else:
        what = fuzz.damage_folder(generator, workdir)
    is_written = generator.random() < 0.1

    def check(contents: stored.Contents) -> None:
        whole, found = _whole(kind), _answers(contents)
        for key, values in found.items():
            if key in whole:
                assert np.array_equal(values, whole[key]), key
        missing = (
            sum(len(run.missing) for run in contents.runs) + len(contents.damaged) + len(contents.waiting)
        )
        # Nothing vouches for the values of a manifest, which may name less.
        assert what.endswith("damaged in values") or missing or len(found) == len(whole), (
            what,
            sorted(found),
        )
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


_STUDENT = {
    "task": "sciq",
    "method": "selective",
    "seed": 0,
    "role": "strong",
    "has_class_head": True,
    "prompt": "fewshot",
    "instruction": "Answer.",
    "shots": [["1 + 1", 1], ["a", "b"]],
    "is_plain_text": False,
    "few_shot": {"instruction": "Answer.", "shots": [["a", 0]], "answers": "labels", "stop": ["Q:"]},
}
_MODEL = {
    "name": "gpt2",
    "folder": "models/gpt2",
    "fingerprint": "ab",
    "max_length": 9,
    "tokenizer": {"folder": "models/gpt2", "fingerprint": "cd", "bos_id": None},
    "sizes": {
        "family": "gpt2",
        "num_layers": 2,
        "embed_dim": 12,
        "num_heads": 3,
        "head_dim": 4,
        "mlp_dim": 13,
        "vocab_size": 17,
        "max_seq_len": 11,
        "norm_eps": 1e-5,
        "rope_base": None,
        "tie_embeddings": True,
    },
}
_CONFIG = {
    "training": {"trained": "lora"},
    "lora": {"rank": 2, "alpha": 4.0, "dropout": 0.0, "targets": ["attention"]},
    "compat": {"openai_pooling": False},
    "precision": {"param_dtype": "float32", "compute_dtype": "bfloat16"},
}


@fuzz.register("students")
def trained_models(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """A trained model that a command asks for by name."""
    for name, content in _artifact_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    key = artifacts.artifact_key(_STAGE, _INPUTS)
    manifest = {
        "config": _CONFIG,
        "models": {"weak": _MODEL, "strong": _MODEL},
        "students": [_STUDENT | {"key": key}],
    }
    path = folder / manifests.MANIFEST_FILE
    path.write_text(json.dumps(manifest))
    if generator.random() < 0.7:
        what = f"{path.name} {fuzz.damage_json_file(generator, path)}"
    else:
        what = fuzz.damage_folder(generator, folder)

    def check(found: students.Student) -> None:
        facts = found.facts
        assert (facts.task, facts.method, facts.seed) == (
            "sciq",
            "selective",
            0,
        ) and found.artifact.key == key
        assert facts.classifier_input("a") and facts.bos in ("on", "off") and facts.base
        for name in dataclasses.fields(facts):
            value, kind = getattr(facts, name.name), name.type
            assert not isinstance(kind, type) or type(value) is kind, (name.name, value)
        assert facts.few_shot is None or isinstance(facts.few_shot.answers, str)
        plain = {name: value for name, value in vars(found.config).items() if name != "rope_scaling"}
        assert all(type(value) in (int, float, str, bool, type(None)) for value in plain.values()), plain

    return fuzz.Case(what, lambda: students.find(folder, task="sciq", method="selective", seed=0), check)
