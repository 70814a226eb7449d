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
from selw2s_jax import artifacts, inputs, results
from selw2s_jax import config as config_lib
from selw2s_jax import stages as stages_lib
from selw2s_jax.analysis import diagnostics
from selw2s_jax.data import splits
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


class SeedPlan:
    """The stages of one seed, in order, and those that results are read from."""

    def __init__(
        self, config: ml_collections.ConfigDict, found: inputs.Inputs, make: stages_lib.Stages, seed: int
    ):
        self.seed, self.data = seed, found.by_seed[seed]
        self.stages: list[stages_lib.Stage] = []
        self.students: dict[str, stages_lib.Stage] = {}
        self.evaluations: dict[str, stages_lib.Stage] = {}
        methods = {name: registry.METHODS[name] for name in config.methods}
        weak = self._add(make.weak(seed))
        self.weak_labels = self._add(
            make.predictions(weak, found.weak, self.data.student_half, f"weak labels, seed {seed}")
        )
        self._evaluate(make, "weak", weak, found.weak)

        uses_p_ik = any(method.uses_p_ik for method in methods.values())
        uses_answers = config.self_label.source == "fewshot"
        self.self_labels = p_ik_answers = p_ik_model = p_ik_scores = None
        if uses_answers and any(method.uses_self_labels for method in methods.values()):
            self.self_labels = self._add(
                make.answers(seed, self.data.student_half, f"{config.task} (student's half)")
            )
        if uses_p_ik and needs_p_ik_data(config):
            p_ik_answers = self._add(make.answers(seed, self.data.p_ik, f"{config.p_ik.task} (P(IK))"))
            if config.p_ik.stage != "joint" or config.p_ik.mask == "frozen_scores":
                p_ik_model = self._add(make.p_ik_model(seed, p_ik_answers))
            if config.p_ik.mask == "frozen_scores":
                label = f"P(IK) scores, seed {seed}"
                p_ik_scores = self._add(
                    make.predictions(p_ik_model, found.strong, self.data.student_half, label)
                )

        self._evaluate(make, "ceiling", self._add(make.ceiling(seed)), found.strong)
        for name in methods:
            student = make.student(
                seed, name, self.weak_labels, self.self_labels, p_ik_answers, p_ik_model, p_ik_scores
            )
            self.students[name] = self._add(student)
            self._evaluate(make, name, student, found.strong)

    def _add(self, stage: stages_lib.Stage) -> stages_lib.Stage:
        self.stages.append(stage)
        return stage

    def _evaluate(self, make, name: str, trained: stages_lib.Stage, model: inputs.Model) -> None:
        label = f"evaluation of {name}, seed {self.seed}"
        self.evaluations[name] = self._add(make.predictions(trained, model, self.data.test, label))


def needs_p_ik_data(config: ml_collections.ConfigDict) -> bool:
    """Whether any stage trains P(IK), rather than reading its scores from a file."""
    return not (config.p_ik.stage == "frozen" and config.p_ik.mask == "file")


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
    config_lib.validate(config, students=registry.STUDENTS)
    with artifacts.locked_workdir(workdir):
        uses_p_ik = any(registry.METHODS[name].uses_p_ik for name in config.methods)
        found = inputs.prepare(config, workdir, needs_p_ik=uses_p_ik)
        store = artifacts.Store(workdir)
        make = stages_lib.Stages(config, found, store, workdir)
        plans = [SeedPlan(config, found, make, seed) for seed in config.seeds]
        stages = [stage for plan in plans for stage in plan.stages]
        missing = [stage for stage in stages if store.find(stage.name, stage.inputs) is None]
        if missing:
            make.check_devices()
            _check_space(missing, workdir)
        _print_plan(found, stages, missing, workdir)
        if missing:
            artifacts.write_text(
                workdir / "config.json", config.to_json_best_effort(indent=1, sort_keys=True)
            )
            _make_all(missing, store)
        report = _collect(config, found, plans, store)
        artifacts.write_text(workdir / "results.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
        print()
        print(results.format_table(report["records"], report["majority_class_accuracy"]))
        if report["diagnostics"]:
            print(results.format_diagnostics(report["diagnostics"]))
        print(f"results in {workdir / 'results.json'}; {time.monotonic() - start:.0f} s")
    return report


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
    todo = {id(stage) for stage in missing}
    width = max(len(stage.label) for stage in stages)
    print(f"{len(stages)} stages in {workdir}, {len(missing)} to run:")
    for stage in stages:
        state = "to run" if id(stage) in todo else "done  "
        print(f"  {state}  {stage.label.ljust(width)}  {stage.key}  {stage.detail}")


def _make_all(missing: list[stages_lib.Stage], store: artifacts.Store) -> None:
    for number, stage in enumerate(missing, start=1):
        start = time.monotonic()
        print(f"[{number}/{len(missing)}] {stage.label}", flush=True)
        # Two stages of one plan can be the same computation; the first made it.
        if store.find(stage.name, stage.inputs) is None:
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


def _by_id(artifact: artifacts.Artifact, file: str, column: str) -> dict[str, float]:
    table = artifact.read_table(file)
    return dict(zip(table["example_id"].tolist(), table[column].tolist(), strict=True))


def _collect(config, found: inputs.Inputs, plans: list[SeedPlan], store: artifacts.Store) -> dict[str, Any]:
    records, selection = [], []
    for plan in plans:
        test = plan.data.test
        correct = {}
        for name, stage in plan.evaluations.items():
            prob_1 = _by_id(store.find(stage.name, stage.inputs), "predictions.parquet", "prob_1")
            predicted = inputs.by_example_id(prob_1, test.ids, f"evaluation of {name}") > 0.5
            correct[name] = int(np.sum(predicted == test.labels.astype(bool)))
        records += results.make_records(
            task=config.task,
            weak=found.weak.name,
            strong=found.strong.name,
            seed=plan.seed,
            total=len(test),
            correct=correct,
        )
        selection += _diagnose(plan, store)
    labels = plans[0].data.test.labels
    return {
        "records": records,
        "summary": results.summarize(records),
        "majority_class_accuracy": splits.majority_class_accuracy(labels.tolist()),
        "diagnostics": selection,
        "notes": list(found.notes),
        "manifest": _manifest(config, found, plans),
    }


def _diagnose(plan: SeedPlan, store: artifacts.Store) -> list[dict[str, Any]]:
    """Label diagnostics of the students whose rule chose among labels."""
    if plan.self_labels is None:
        return []
    answers = _by_id(store.find(plan.self_labels.name, plan.self_labels.inputs), "answers.parquet", "prob_1")
    weak = _by_id(store.find(plan.weak_labels.name, plan.weak_labels.inputs), "predictions.parquet", "prob_1")
    half = plan.data.student_half
    truth = dict(zip(half.ids, half.labels.tolist(), strict=True))
    found = []
    for name, stage in plan.students.items():
        artifact = store.find(stage.name, stage.inputs)
        if "trace.parquet" in artifact.files:
            summary = diagnostics.label_diagnostics(
                artifact.read_table("trace.parquet"), weak, answers, truth
            )
            found.append({"method": name, "seed": plan.seed, **summary})
    return found


def _manifest(config, found: inputs.Inputs, plans: list[SeedPlan]) -> dict[str, Any]:
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
        "stages": [{"label": s.label, "name": s.name, "key": s.key} for plan in plans for s in plan.stages],
    }
