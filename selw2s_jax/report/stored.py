"""Runs as a workdir keeps them, finished or not: test predictions by seed and method, logs, results, what is missing.

A workdir holds one run, or those of a sweep: `sweep.json` lists its cells, `runs/<cell>` has the files of each, and
they share artifacts and logs. Neither models nor devices are needed: everything is read from manifest.json,
results.json, the ground truth of the test set, artifacts and logs.
"""

import collections
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from selw2s_jax import errors
from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.data import by_id, model_names
from selw2s_jax.errors import UserError
from selw2s_jax.method import registry
from selw2s_jax.report import curves as curves_lib
from selw2s_jax.report import evaluations, forms, p_ik_questions, results_file
from selw2s_jax.run import manifests, registrations
from selw2s_jax.runtime import artifacts, json_forms, storage

# Axes of a sweep that a run has names of its own for; the others are its settings.
_NAMED_AXES = ("task", "weak.model", "strong.model", "seeds")


@dataclasses.dataclass(frozen=True, eq=False)  # two runs are the same if they are one object
class Run:
    """What a workdir holds of one experiment.

    Attributes:
        workdir: where it was read from; of a cell of a sweep, the folder of its own files.
        manifest: as `pipeline` wrote it when the run was last started.
        methods: what each method is, the models that they are compared with first.
        truth: `[N]` bool, the labels of the test items, ordered by example_id; of a task whose answers are written,
            the right answers as text.
        predictions: by method ("weak" and "ceiling" first) and seed, the probability of class 1, `[N]`, or what was
            written as text, "" where that is no answer; of finished evaluations alone.
        curves: by method and seed, what each finished training was asked under way; empty where it was not.
        logs: by method and seed, the logged steps in order, each with "step" and "train/..." metrics.
        diagnostics: per method and seed that chose among labels, what it chose in the second half of training;
            empty until the run is finished.
        disagreement: per seed and method that chose among labels, these labels and P(IK) on the student's half, as
            results.json has them; empty until the run is finished.
        selection_frequency: per seed and method that chose among labels, how often rows were chosen, as results.json
            has it.
        calibration: per seed that has one, the calibration of weak labels and P(IK), as results.json has it.
        kernels: per seed, where the run compares embeddings of its models, as results.json has it.
        label_changes: per seed and method that chose among labels, what became of the weak labels of the student's
            half, as results.json has it.
        taught_labels: per method that an earlier student teaches, and seed, labels and their rows, as results.json has
            them; see `run.taught_labels`.
        reliability: per seed that has written labels, what `analysis.reliability` says of them, as results.json has it.
        by_frequency: right answers by how common an entity is, as results.json has them; of a generated world's run
            one entry, of several runs over seeds one each.
        continual: per method, seed and task of a sequence, right answers to its test, as results.json has them.
        steps: by method and seed, the steps of each training that is finished; of written answers alone, where the
            methods' numbers of rows differ.
        p_ik: per test of P(IK), as results.json has it; empty until the run is finished.
        p_ik_items: the questions of those tests; empty where they were not stored.
        notes: what a reader of the results has to know.
        warnings: reasons to doubt them that its data gave, each with observation and remedy.
        missing: what is planned and not there.
        settings: by dotted config key, what a sweep varied beside task and models; empty for a run of its own.
        registration: how it stands to what its workdir registered; None where nothing was.
        asked: pairs of methods that a reader asks the power of, beside those that are compared anyway.
        members: by what each of several weak models is called and seed, its predictions as above; empty where there is
            one, which "weak" is then.
        member_labels: per seed and each of several weak models, what its labels are worth, as results.json has it.
    """

    workdir: epath.Path
    manifest: dict[str, Any]
    methods: dict[str, methods_lib.Facts]
    truth: np.ndarray
    predictions: dict[str, dict[int, np.ndarray]]
    logs: dict[str, dict[int, list[dict[str, float]]]]
    diagnostics: list[dict[str, Any]]
    p_ik: list[dict[str, Any]]
    p_ik_items: dict[p_ik_questions.TestKey, p_ik_questions.Questions]
    notes: list[str]
    missing: list[str]
    warnings: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    disagreement: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    selection_frequency: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    calibration: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    kernels: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    label_changes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    taught_labels: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    reliability: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    by_frequency: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    continual: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    steps: dict[str, dict[int, int]] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    registration: registrations.Standing | None = None
    asked: Sequence[tuple[str, str]] = ()
    curves: dict[str, dict[int, curves_lib.Curve]] = dataclasses.field(default_factory=dict)
    members: dict[str, dict[int, np.ndarray]] = dataclasses.field(default_factory=dict)
    member_labels: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest["config"]

    @property
    def task(self) -> str:
        return self.config["task"]

    @property
    def weak(self) -> str | None:
        """What readers know the weak model by, or several together; None where P(IK) alone is trained."""
        manifest = self.manifest
        if "weak.task" in self.settings:  # which then says it beside the name
            manifest = manifest | {"config": self.config | {"weak": self.config["weak"] | {"task": None}}}
        return manifests.weak_name(manifest)

    @property
    def strong(self) -> str:
        return manifests.title_of(self.manifest["models"]["strong"])

    @property
    def weak_model(self) -> str | None:
        """The weak models as the config names them, which are those of the paper's tables where it is theirs."""
        return manifests.weak_name(self.manifest, lambda model: model["name"])

    @property
    def strong_model(self) -> str:
        """The strong model as the config names it."""
        return self.manifest["models"]["strong"]["name"]

    @property
    def is_papers_data(self) -> bool:
        """Whether the paper's numbers are of the same data."""
        return self.manifest["test"]["is_papers_data"]

    @property
    def has_classifiers(self) -> bool:
        """Whether any model of the run answers questions of its task; where P(IK) alone is trained, none does."""
        return bool(self.manifest["test"]["evaluations"])

    @property
    def has_probabilities(self) -> bool:
        """Whether its models answer with probabilities of two classes; else they write their answers."""
        return self.truth.dtype == bool

    @property
    def title(self) -> str:
        if self.has_classifiers:
            return f"{self.task}: {self.weak} teaches {self.strong}" + describe_settings(self.settings)
        others = {key: value for key, value in self.settings.items() if key != "p_ik.task"}
        trained = f"trained on {self.config['p_ik']['task']}, tested on {self.task}"
        return f"P(IK) of {self.strong}: {trained}" + describe_settings(others)

    def facts(self, method: str) -> methods_lib.Facts:
        """What a method is, also where the run did not list it."""
        return self.methods.get(method) or methods_lib.facts(method)

    def of_role(self, role: str) -> list[str]:
        """The methods of a role, of `registry.ROLES`, in an order that all runs have in common."""
        return methods_lib.of_role(role, self.methods)

    def probabilities(self, method: str, seed: int) -> np.ndarray | None:
        """The probability of class 1 that a method gives each item, `[N]`; None where it writes its answers."""
        return self.predictions[method][seed] if self.has_probabilities else None

    def answers(self, method: str, seed: int) -> np.ndarray:
        """What a method answers to each item, `[N]` as `truth` is."""
        predictions = self.predictions[method][seed]
        return predictions > 0.5 if self.has_probabilities else predictions

    def correct(self, method: str, seeds: Sequence[int]) -> np.ndarray:
        """Whether a method gets each item right, `[S, N]` bool."""
        return np.stack([self.answers(method, seed) for seed in seeds]) == self.truth

    def weak_performance(self, seeds: Sequence[int]) -> np.ndarray:
        """What PGR takes as the weak model's, `[S, N]`: whether it gets each item right, of several the mean share."""
        if not self.members:
            return self.correct("weak", seeds)
        each = [np.stack([of_seed[seed] for seed in seeds]) > 0.5 for of_seed in self.members.values()]
        return np.mean([answers == self.truth for answers in each], axis=0)

    def common_seeds(self, *methods: str) -> list[int]:
        """The seeds, sorted, that all of these methods are finished for; of "weak" each of several models too."""
        seeds = [set(self.predictions.get(method, {})) for method in methods]
        seeds += [set(of_seed) for of_seed in self.members.values() if "weak" in methods]
        return sorted(set.intersection(*seeds))


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a workdir holds.

    Attributes:
        runs: one, or those of the cells of a sweep that have begun, in the order of the sweep.
        waiting: a line for each cell that has not.
        damaged: a line for each cell whose run cannot be read, with the remedy.
    """

    runs: list[Run]
    waiting: list[str]
    damaged: list[str]


def names(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs by title, with the end of their workdir where several share one."""
    counts = collections.Counter(run.title for run in runs)
    shown = places(runs)
    return {run.title if counts[run.title] == 1 else f"{run.title} ({shown[run]})": run for run in runs}


def places(runs: Sequence[Run]) -> dict[Run, str]:
    """The folder of each run, as many of its last parts as tell them apart."""
    shown = model_names.distinct((str(run.workdir), None) for run in runs)
    return {run: shown[str(run.workdir), None] for run in runs}


def with_distinct_models(runs: Sequence[Run]) -> list[Run]:
    """The runs, with models that are called otherwise where another run has a different one of the same name."""
    named = [model_names.as_given(model) for run in runs for model in run.manifest["models"].values()]
    titles = model_names.distinct(named)
    found = []
    for run in runs:
        models = {
            slot: model | {"title": titles[model_names.as_given(model)]}
            for slot, model in run.manifest["models"].items()
        }
        found.append(dataclasses.replace(run, manifest=run.manifest | {"models": models}))
    return found


def describe_settings(settings: Mapping[str, Any]) -> str:
    """`, p_ik.task=arc, data.num_train=1000`; empty without settings."""
    return "".join(f", {key}={setting_text(value)}" for key, value in settings.items())


def setting_text(value: Any) -> str:
    """A value of the config, as it is written on a command line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read(workdir: epath.PathLike) -> Contents:
    """The run in a workdir, or all of a sweep; a damaged one of a sweep is named beside the others.

    Raises:
        UserError: there is none, or a file that all depend on is damaged.
    """
    workdir = epath.Path(workdir).expanduser()
    cells = manifests.read_cells(workdir)
    if cells is None:
        return Contents([read_run(workdir)], [], [])
    stored = _Stored(workdir)
    contents = Contents([], [], [])
    for cell in cells:
        name, axes = cell["name"], list(cell["axes"])
        folder = workdir / manifests.RUNS_FOLDER / name
        if not any((folder / file).exists() for file in (manifests.MANIFEST_FILE, manifests.RESULTS_FILE)):
            contents.waiting.append(f"{name}: not begun")
            continue
        try:
            contents.runs.append(_read_folder(folder, stored, axes))
        except UserError as error:
            contents.damaged.append(f"{name}: {error}")
    return dataclasses.replace(contents, runs=_join_seeds(contents.runs))


def _join_seeds(runs: Sequence[Run]) -> list[Run]:
    """Runs of a sweep over single seeds as one run each of all their seeds."""
    by_axes: dict[str, list[Run]] = {}
    for run in runs:
        axes = [_value(run.config, key) for key in ("task", "weak.model", "strong.model")]
        by_axes.setdefault(json.dumps([axes, run.settings]), []).append(run)
    return [_join(members) if len(members) > 1 else members[0] for members in by_axes.values()]


def _join(runs: Sequence[Run]) -> Run:
    """Runs of different seeds on the same test items as one."""
    seeds = [seed for run in runs for seed in run.config["seeds"]]
    if len(set(seeds)) < len(seeds) or not all(np.array_equal(runs[0].truth, run.truth) for run in runs):
        raise UserError(
            f"the runs of {runs[0].title} share a seed or differ in their test items: run the sweep again in a new "
            "--workdir"
        )

    def by_method(name: str) -> dict[str, dict[int, Any]]:
        methods = dict.fromkeys(method for run in runs for method in getattr(run, name))
        return {
            method: {
                seed: value for run in runs for seed, value in getattr(run, name).get(method, {}).items()
            }
            for method in methods
        }

    lists = {
        name: [value for run in runs for value in getattr(run, name)]
        for name in ("diagnostics", *results_file.LISTS, "p_ik", "missing")
    }
    manifest = runs[0].manifest | {"config": runs[0].config | {"seeds": seeds}}
    for name in ("students", "stages"):
        manifest[name] = [entry for run in runs for entry in run.manifest[name]]
    tests = [run.manifest["test"] for run in runs]
    manifest["test"] = tests[0] | {
        name: [entry for test in tests for entry in test.get(name, [])]
        for name, value in tests[0].items()
        if isinstance(value, list)  # evaluations, and tests of other kinds
    }
    return dataclasses.replace(
        runs[0],
        manifest=manifest,
        predictions=by_method("predictions"),
        members=by_method("members"),
        logs=by_method("logs"),
        steps=by_method("steps"),
        curves=by_method("curves"),
        p_ik_items={key: questions for run in runs for key, questions in run.p_ik_items.items()},
        notes=list(dict.fromkeys(note for run in runs for note in run.notes)),
        warnings=list(dict.fromkeys(warning for run in runs for warning in run.warnings)),
        **lists,
    )


def read_run(workdir: epath.PathLike) -> Run:
    """The run in a workdir without a sweep.

    Raises:
        UserError: there is none, or a file of it is damaged.
    """
    workdir = epath.Path(workdir).expanduser()
    return _read_folder(workdir, _Stored(workdir), [])


def _read_folder(folder: epath.Path, stored: "_Stored", axes: Sequence[str]) -> Run:
    """A run.

    Args:
        folder: of its own files.
        stored: the artifacts of its workdir.
        axes: dotted config keys that its sweep varies.
    """
    manifest = manifests.read(folder)
    path = folder / manifests.MANIFEST_FILE
    if "test" not in manifest:
        raise UserError(f"{path} says nothing of predictions; run the same config again to add it")
    return results_file.checked(path, stored.workdir, lambda: _read(folder, manifest, stored, axes))


def _read(folder: epath.Path, manifest: dict[str, Any], stored: "_Stored", axes: Sequence[str]) -> Run:
    json_forms.check(manifest, forms.MANIFEST)
    forms.check_seeds(manifest)
    ids, truth = _read_truth(folder, manifest["test"])
    manifests.weak_name(manifest)  # that it can be told
    predictions = _read_predictions(manifest["test"]["evaluations"], ids, stored)
    missing = [
        stage["label"]
        for stage in manifest["stages"]
        if stored.store.find_by_key(stage["name"], stage["key"]) is None
    ]
    results, reasons = results_file.read(folder, manifest, stored.workdir, stored.texts)
    references = registry.REFERENCES if manifest["test"]["evaluations"] else ()
    return Run(
        workdir=folder,
        manifest=manifest,
        methods=methods_lib.from_json(
            (*references, *manifest["config"]["methods"]), manifest.get("methods", {})
        ),
        truth=truth,
        predictions=predictions,
        members=_read_predictions(manifest["test"].get("members", []), ids, stored),
        logs=_read_logs(stored.workdir, manifest["students"]),
        steps={} if truth.dtype == bool else _read_steps(stored.store, manifest),
        curves=curves_lib.read_all(stored.store, manifest, ids),
        **results,
        missing=missing + reasons,
        settings={key: _value(manifest["config"], key) for key in axes if key not in _NAMED_AXES},
        registration=_standing(stored.workdir, manifest),
    )


def _standing(workdir: epath.Path, manifest: Mapping[str, Any]) -> registrations.Standing | None:
    standing = registrations.Standing(registrations.read(workdir), registrations.entry_of(manifest))
    return None if standing == (None, None) else standing


def _read_predictions(
    entries: Sequence[Mapping[str, Any]], ids: Sequence[str], stored: "_Stored"
) -> dict[str, dict[int, np.ndarray]]:
    """By method and seed the predictions of those evaluations that are finished, in the order of the ids."""
    predictions: dict[str, dict[int, np.ndarray]] = {}
    for entry in entries:
        stage = evaluations.stage_of(entry)
        values = stored.read(stage, entry["key"])
        if values is not None:
            join = by_id.join if stage == evaluations.CLASSES else by_id.join_texts
            of_method = predictions.setdefault(entry["method"], {})
            of_method[entry["seed"]] = join(values, ids, f"artifact {stage}/{entry['key']}")
    return predictions


def _value(config: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def _read_truth(workdir: epath.Path, test: Mapping[str, Any]) -> tuple[list[str], np.ndarray]:
    """Sorted example_ids of the test set, and the truth of each; nothing where no model is tested on them."""
    path = workdir / manifests.TRUTH_FILE
    stages = {evaluations.stage_of(entry) for entry in test["evaluations"]}
    if not stages:
        return [], np.zeros(0, bool)
    (stage,) = stages  # all models of a run answer alike

    def parse() -> tuple[list[str], list[Any], np.ndarray]:
        return evaluations.parse_truth(errors.parse_json(path.read_text(encoding="utf-8")), stage)

    ids, written, truth = results_file.checked(path, workdir, parse)
    if artifacts.content_hash([ids, written]) != test["labels_hash"]:
        raise UserError(f"{path} is not the file that was written; run the same config in {workdir} again")
    order = np.argsort(ids)
    return [ids[index] for index in order], truth[order]


class _Stored:
    """The artifacts of a workdir; what several runs share is read once."""

    def __init__(self, workdir: epath.Path):
        self.workdir = workdir
        self.store = artifacts.Store(workdir)
        self._read: dict[tuple[str, str], dict[str, Any] | None] = {}
        self.texts: dict[str, str] = {}

    def read(self, stage: str, key: str) -> dict[str, Any] | None:
        """As of `evaluations.read`."""
        if (stage, key) not in self._read:
            self._read[stage, key] = evaluations.read(self.store, stage, key)
        return self._read[stage, key]


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


def _read_steps(store: artifacts.Store, manifest: Mapping[str, Any]) -> dict[str, dict[int, int]]:
    """By method and seed, the steps of each training that is finished, as its summary has them."""
    names = {stage["key"]: stage["name"] for stage in manifest["stages"]}
    steps: dict[str, dict[int, int]] = {}
    for entry in manifest["students"]:
        artifact = store.find_by_key(names[entry["key"]], entry["key"]) if entry["key"] in names else None
        if artifact is not None:
            number = int(artifact.read_json("summary.json")["num_steps"])
            steps.setdefault(entry["method"], {})[entry["seed"]] = number
    return steps


def _read_log(path: epath.Path) -> list[dict[str, float]]:
    steps = []
    for line in (storage.read_bytes(path) or b"").splitlines():
        try:
            record = errors.parse_json(line)
            numbers = {name: float(value) for name, value in record.items() if value is not None}
        except (ValueError, TypeError, AttributeError):
            break  # half a line of a training that is under way or was killed
        if math.isfinite(numbers.get("step", math.nan)):
            steps.append(numbers)
    return steps
