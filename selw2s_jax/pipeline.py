"""The paper's stages in order: finished ones are found, the others made, then results are written."""

import importlib.metadata
import json
import pathlib
import platform
import shutil
import time
from typing import Any

import jax
import ml_collections
import numpy as np

import selw2s_jax
from selw2s_jax import artifacts, experiment, inputs, results
from selw2s_jax import config as config_lib
from selw2s_jax import stages as stages_lib
from selw2s_jax.analysis import diagnostics
from selw2s_jax.data import splits, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.method import registry

_LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "tokenizers",
    "tiktoken",
    "numpy",
)


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    """Runs a config in a workdir: plan, missing stages, results.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: config, data, models or workdir are not fit; nothing has been trained then.
    """
    start = time.monotonic()
    workdir = workdir.expanduser()
    config = config_lib.normalize(config)
    config_lib.validate(config, students=registry.students())
    config.task, config.p_ik.task = (tasks.canonical_name(name) for name in (config.task, config.p_ik.task))
    names = ("weak", "ceiling", *config.methods)
    with artifacts.locked_workdir(workdir):
        print("reading and checking data, models and tokenizers", flush=True)
        found = inputs.prepare(config, workdir)
        store = artifacts.Store(workdir)
        make = stages_lib.StageFactory(config, found, store, workdir)
        study = experiment.Experiment(config, found, make)
        evaluations = {seed: {name: study.evaluation(seed, name) for name in names} for seed in config.seeds}
        targets = []
        for seed in config.seeds:
            # The labels are asked for beside the weak model, which is then still on the devices.
            targets += [study.weak_labels(seed), *evaluations[seed].values()]
        stages = stages_lib.in_order(targets)
        missing = [stage for stage in stages if store.find(stage.name, stage.inputs) is None]
        devices = make.check_devices() if missing else None
        _check_space(missing, workdir)
        _print_plan(found, stages, missing, workdir)
        if missing:
            print(f"running on {devices}", flush=True)
            artifacts.write_text(
                workdir / "config.json", config.to_json_best_effort(indent=1, sort_keys=True)
            )
            _make_all(missing, store)
        report = _collect(config, found, study, evaluations, store)
        report["notes"] += _notes_on_prompts(stages, store)
        report["manifest"] = _manifest(config, found, stages)
        artifacts.write_text(workdir / "results.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
        _print_report(report, workdir, time.monotonic() - start)
    return report


def _print_report(report: dict[str, Any], workdir: pathlib.Path, seconds: float) -> None:
    print()
    print(results.format_table(report["records"], report["summary"], report["majority_class_accuracy"]))
    if report["diagnostics"]:
        print()
        print(results.format_diagnostics(report["diagnostics"]))
    print(f"\nresults in {workdir / 'results.json'}; {seconds:.0f} s")


def _check_space(missing: list[stages_lib.Stage], workdir: pathlib.Path) -> None:
    needed = sum({stage.key: stage.num_bytes for stage in missing}.values())
    free = shutil.disk_usage(workdir).free
    if free < needed:
        raise UserError(
            f"workdir {workdir} has {free / 1e9:.3f} GB free, and the weights of the stages to run need "
            f"{needed / 1e9:.3f} GB; free space or choose another --workdir"
        )


def _print_plan(found: inputs.Inputs, stages, missing, workdir: pathlib.Path) -> None:
    for note in found.notes:
        print(f"note: {note}")
    todo = {stage.key for stage in missing}
    width = max(len(stage.label) for stage in stages)
    print(f"{len(stages)} stages in {workdir}, {len(missing)} to run:")
    for stage in stages:
        state = "to run" if stage.key in todo else "done  "
        print(f"  {state}  {stage.label.ljust(width)}  {stage.key}  {stage.detail}")


def _make_all(missing: list[stages_lib.Stage], store: artifacts.Store) -> None:
    for number, stage in enumerate(missing, start=1):
        start = time.monotonic()
        print(f"[{number}/{len(missing)}] {stage.label}", flush=True)
        try:
            store.make(stage.name, stage.inputs, stage.write)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise UserError(
                f"{stage.label}: the device is out of memory; lower training.micro_batch_size or "
                "execution.score_tokens, or use more devices; finished stages are kept"
            ) from error
        print(f"  {time.monotonic() - start:.1f} s", flush=True)


def _collect(
    config,
    found: inputs.Inputs,
    study: experiment.Experiment,
    evaluations: dict[int, dict[str, stages_lib.Stage]],
    store: artifacts.Store,
) -> dict[str, Any]:
    records, selection = [], []
    for seed, by_method in evaluations.items():
        test = found.by_seed[seed].test
        correct = {}
        for name, stage in by_method.items():
            table = store.find(stage.name, stage.inputs).read_table("predictions.parquet")
            prob_1 = dict(zip(table["example_id"], table["prob_1"], strict=True))
            predicted = inputs.by_example_id(prob_1, test.ids, stage.label) > 0.5
            correct[name] = int(np.sum(predicted == test.labels.astype(bool)))
        records += results.make_records(
            task=config.task,
            weak=found.weak.name,
            strong=found.strong.name,
            seed=seed,
            total=len(test),
            correct=correct,
        )
        selection += _diagnose(config, found, study, seed, store)
    labels = found.by_seed[config.seeds[0]].test.labels
    return {
        "records": records,
        "summary": results.summarize(records, with_paper=found.is_papers_data),
        "majority_class_accuracy": splits.majority_class_accuracy(labels.tolist()),
        "diagnostics": selection,
        "notes": list(found.notes),
    }


def _notes_on_prompts(stages: list[stages_lib.Stage], store: artifacts.Store) -> list[str]:
    notes = []
    for stage in stages:
        if stage.name == "answers":
            cut = store.find(stage.name, stage.inputs).read_json("summary.json")["cut"]
            if description := stages_lib.describe_cut(cut):
                notes.append(f"{stage.label}: {description}")
    return notes


def _diagnose(
    config, found: inputs.Inputs, study: experiment.Experiment, seed: int, store
) -> list[dict[str, Any]]:
    """Label diagnostics of the students whose rule chose among labels."""
    half = found.by_seed[seed].student_half
    diagnoses = []
    for name in config.methods:
        stage = study.student(seed, name)
        artifact = store.find(stage.name, stage.inputs)
        if "trace.parquet" in artifact.files:
            weak, own = study.label_columns(seed)
            summary = diagnostics.label_diagnostics(
                artifact.read_table("trace.parquet"), half.ids, truth=half.labels, weak=weak, own=own
            )
            diagnoses.append({"method": name, "seed": seed, **summary})
    return diagnoses


def _manifest(config, found: inputs.Inputs, stages: list[stages_lib.Stage]) -> dict[str, Any]:
    return {
        "version": selw2s_jax.__version__,
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "config": json.loads(config.to_json_best_effort()),
        "models": {
            model.role: {
                "name": model.name,
                "fingerprint": model.fingerprint,
                "learning_rate": model.learning_rate,
                "max_length": model.max_length,
            }
            for model in (found.weak, found.strong)
        },
        "stages": [{"label": stage.label, "name": stage.name, "key": stage.key} for stage in stages],
    }
