"""What `results.json` says, read from the finished stages of a run."""

from typing import Any, NamedTuple

import ml_collections
import numpy as np
from etils import epath

from selw2s_jax.analysis import diagnostics, members, methods, metrics, results
from selw2s_jax.analysis import p_ik as p_ik_lib
from selw2s_jax.data import by_id, item_predictions, splits
from selw2s_jax.experiments import selective
from selw2s_jax.inference import answering
from selw2s_jax.run import kernels, manifests, student_labels, taught_labels
from selw2s_jax.runtime import artifacts, distributed, storage
from selw2s_jax.stages import answer, calibration, predict
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.worlds import toy_world, world


def truth(test: splits.Split) -> dict[str, list]:
    """The ground truth of the test set by example_id, so that predictions can be judged without the data."""
    columns = {"example_id": test.ids, "label": test.labels.tolist()}
    if test.task.is_generated:
        columns["solution"] = [example.solution for example in test.examples]
    return columns


def describe_test(experiment: selective.Experiment) -> dict[str, Any]:
    """The test set and the predictions on it, finished or not, as the manifest has them."""
    test = experiment.inputs.test
    of_members = [
        {
            "method": experiment.name_of(number),
            "seed": seed,
            "key": experiment.member_evaluation(seed, number).key,
        }
        for seed in experiment.inputs.by_seed
        for number in experiment.members
    ]
    p_ik = [
        {
            "method": name,
            "seed": seed,
            "distribution": distribution,
            "key": stage.key,
            "answers": experiment.answers(seed, split_name).key,
        }
        for seed, name, distribution in experiment.p_ik_tests()
        for split_name, stage in [experiment.p_ik_test(seed, name, distribution)]
    ]
    few_shot = [
        {"method": methods.FEW_SHOT, "seed": seed, "key": experiment.answers(seed, split_name).key}
        for seed in experiment.inputs.by_seed
        for split_name in _answered(experiment)
    ]
    return {
        **({"members": of_members} if of_members else {}),
        **({"p_ik": p_ik} if p_ik else {}),
        **({"few_shot": few_shot} if few_shot else {}),
        "n": len(test),
        "labels_hash": test.labels_hash,
        "is_papers_data": experiment.inputs.is_papers_data,
        "evaluations": [
            {"method": name, "seed": seed, "key": experiment.evaluation(seed, name).key}
            for seed in experiment.inputs.by_seed
            for name in experiment.classifiers()
        ],
    }


def _answered(experiment: selective.Experiment) -> list[str]:
    """The splits of test questions that the untouched strong model answers too: of students, and of P(IK)."""
    tested = {experiment.p_ik_test(*test)[0] for test in experiment.p_ik_tests()}
    if experiment.has_answers("test"):
        tested.add("test")
    return [name for name in ("test", "p_ik_test") if name in tested]


class PIKItems(NamedTuple):
    """P(IK) of questions, joined by example_id.

    Attributes:
        train_task, test_task: what it was trained on, and what the questions are of.
        example_id: `[N]`.
        text: `[N]` the questions as the P(IK) head reads them.
        known: `[N]` bool, whether the few-shot answer is right.
        confidence: `[N]` float32 probability of the few-shot answer given, NaN where it is written at length.
        p_ik: `[N]` float32.
    """

    train_task: str
    test_task: str
    example_id: list[str]
    text: list[str]
    known: np.ndarray
    confidence: np.ndarray
    p_ik: np.ndarray


class Collector:
    """Reads the results of an experiment whose stages are finished.

    Args:
        config: the validated config.
        experiment: its stages and inputs.
        store: their artifacts.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        experiment: selective.Experiment,
        store: artifacts.Store,
    ):
        self._config, self._experiment, self._store = config, experiment, store
        self._inputs = experiment.inputs
        self._labels = student_labels.StudentLabels(config, experiment, store)
        self._tables: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        self._tests: dict[tuple[str, str], item_predictions.Test] = {}

    def report(self) -> dict[str, Any]:
        """What `results.json` holds: records, summary, analyses, notes and warnings; of some worlds `by_frequency`."""
        config, inputs = self._config, self._inputs
        records, selection, differing, changes, frequency, taught = [], [], [], [], [], []
        of_members = [entry for seed in config.seeds for entry in self._members(seed)]
        for seed in config.seeds:
            test = inputs.by_seed[seed].test
            correct = {
                name: int(self._is_correct(seed, name).sum()) for name in self._experiment.classifiers()
            }
            records += results.make_records(
                task=config.task,
                weak=self._experiment.weak_name,
                strong=inputs.strong.title,
                seed=seed,
                total=len(test),
                correct=correct,
                members=[entry["test_correct"] for entry in of_members if entry["seed"] == seed],
                aurocs={name: self._auroc(seed, name) for name in correct},
            )
            selection += self._diagnose(seed)
            differing += self._labels.disagreement(seed)
            changes += self._labels.changes(seed)
            frequency += self._labels.selection_frequency(seed)
            learnt = self._experiment.classifiers()  # without P(IK) alone, which is taught no label
            for name in (name for name in config.methods if name in learnt):
                taught += taught_labels.describe(self._experiment, self._store, seed, name)
        test = inputs.test
        majority = None if test.task.is_generated else metrics.majority_class_accuracy(test.labels.tolist())
        report = {
            "records": records,
            "summary": self._summarize(records),
            "majority_class_accuracy": majority,
            "diagnostics": selection,
            "disagreement": differing,
            "label_changes": changes,
            "selection_frequency": frequency,
            "p_ik": [self._p_ik_test(*test) for test in self._experiment.p_ik_tests()],
            "calibration": self._calibrations(),
            "kernels": kernels.describe(config, self._experiment, self._store),
            **({"members": of_members} if of_members else {}),
            "taught_labels": taught,
            "notes": list(inputs.notes),
            "warnings": [warning._asdict() for warning in inputs.warnings],
        }
        if config.data.source == world.NAME and config.task in toy_world.PROPERTIES:
            report["by_frequency"] = self._by_frequency()
        return report

    def _summarize(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows = results.summarize(records, of_paper=self._of_paper())
        seeds = sorted(self._config.seeds)
        correct = {
            name: np.stack([self._is_correct(seed, name) for seed in seeds])
            for name in self._experiment.classifiers()
        }
        weak = correct.get("weak")
        if self._experiment.members:
            weak = np.stack([self._members_correct(seed).mean(axis=0) for seed in seeds])
        return results.with_pgr_intervals(rows, correct, weak)

    def _members_correct(self, seed: int) -> np.ndarray:
        """Whether each of several weak models is right, `[M, N]` bool over the test split."""
        test = self._inputs.by_seed[seed].test
        stages = [self._experiment.member_evaluation(seed, number) for number in self._experiment.members]
        probs = np.stack([self._table(stage, predict.FILE, "prob_1", test) for stage in stages])
        return (probs > 0.5) == test.labels.astype(bool)

    def _of_paper(self) -> tuple[str, str] | None:
        """The models as the paper's tables may have them, where they are of the same data."""
        if not self._inputs.is_papers_data or len(self._inputs.weak) != 1:
            return None
        return self._inputs.weak[0].name, self._inputs.strong.name

    def _table(self, stage: stage_lib.Stage, file: str, column: str, split: splits.Split) -> np.ndarray:
        if (stage.key, file) not in self._tables:  # several numbers are of the same predictions
            self._tables[stage.key, file] = stage_lib.find(self._store, stage).read_table(file)
        table = self._tables[stage.key, file]
        values = dict(zip(table["example_id"], table[column], strict=True))
        return by_id.join(values, split.ids, stage.label)

    def _is_correct(self, seed: int, name: str) -> np.ndarray:
        """Whether a model is right, `[N]` bool over the test split."""
        prob_1, labels = self._tested(seed, name)
        return (prob_1 > 0.5) == labels.astype(bool)

    def _auroc(self, seed: int, name: str) -> float | None:
        """Of a model's probability of class 1 over the test split; None where that has one class."""
        return metrics.auroc(*self._tested(seed, name))

    def _tested(self, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A model's probability of class 1 and the label, `[N]` each, over the test split."""
        test = self._inputs.by_seed[seed].test
        return self._table(self._experiment.evaluation(seed, name), predict.FILE, "prob_1", test), test.labels

    def predictions(self) -> list[item_predictions.Predicted]:
        """What every model says of every test item: tested models, each of several weak ones, few-shot answers."""
        parts = []
        for seed in self._config.seeds:
            test = self._inputs.by_seed[seed].test
            for number in self._experiment.members:
                stage = self._experiment.member_evaluation(seed, number)
                parts.append(self._predicted(self._experiment.name_of(number), seed, stage, test))
            for name in self._experiment.classifiers():
                parts.append(self._predicted(name, seed, self._experiment.evaluation(seed, name), test))
            parts += self._few_shot(seed)
        return parts

    def _predicted(
        self, name: str, seed: int, stage: stage_lib.Stage, test: splits.Split
    ) -> item_predictions.Predicted:
        prob_1 = self._table(stage, predict.FILE, "prob_1", test)
        return item_predictions.judged(self._items(test), name, seed, prob_1)

    def _few_shot(self, seed: int) -> list[item_predictions.Predicted]:
        """The strong model's answers to the questions that students, or P(IK), are tested on."""
        parts = []
        for split_name in _answered(self._experiment):
            split = getattr(self._inputs.by_seed[seed], split_name)
            right, prob_1 = self._are_right(seed, split_name), None
            if not split.task.is_generated:
                prob_1 = self._table(
                    self._experiment.answers(seed, split_name), answering.FILE, "prob_1", split
                )
            parts.append(
                item_predictions.Predicted(self._items(split), methods.FEW_SHOT, seed, right, prob_1)
            )
        return parts

    def _items(self, split: splits.Split) -> item_predictions.Test:
        """The questions of a split, as one object for all seeds that share them."""
        same = (split.task.name, split.labels_hash)
        if same not in self._tests:
            labels = None if split.task.is_generated else split.labels
            texts = [example.text for example in split.examples]
            self._tests[same] = item_predictions.Test(split.task.name, split.ids, labels, texts)
        return self._tests[same]

    def p_ik_items(self, seed: int, name: str, distribution: str) -> "PIKItems":
        """What a student's P(IK) says of the questions that it is tested on.

        Args:
            distribution: "in", the held-out questions of the P(IK) task, or "out", the student's test set.
        """
        split_name, stage = self._experiment.p_ik_test(seed, name, distribution)
        data = self._inputs.by_seed[seed]
        split = getattr(data, split_name)
        answers = self._experiment.answers(seed, split_name)
        known = self._are_right(seed, split_name)
        if split.task.is_generated:
            confidence = np.full(len(split), np.nan, np.float32)
        else:
            prob_1 = self._table(answers, answering.FILE, "prob_1", split)
            confidence = np.maximum(prob_1, 1 - prob_1)
        scores = self._table(stage, predict.FILE, "p_ik", split)
        return PIKItems(
            data.p_ik.task.name, split.task.name, split.ids, split.texts, known, confidence, scores
        )

    def write_p_ik_items(self, folder: epath.Path) -> None:
        """Writes P(IK) of every question that it was tested on, where it was."""
        columns: dict[str, list] = {}
        for seed, name, distribution in self._experiment.p_ik_tests():
            items = self.p_ik_items(seed, name, distribution)
            same = {
                "method": name,
                "seed": seed,
                "train_task": items.train_task,
                "test_task": items.test_task,
                "distribution": distribution,
            }
            for column, value in same.items():
                columns.setdefault(column, []).extend([value] * len(items.known))
            for column in ("example_id", "text", "known", "confidence", "p_ik"):
                columns.setdefault(column, []).extend(getattr(items, column))
        path = folder / manifests.P_IK_ITEMS_FILE
        if columns:
            artifacts.write_table(path, columns)
        else:
            distributed.main_only(lambda: storage.remove_file(path))  # of an earlier run here

    def _p_ik_test(self, seed: int, name: str, distribution: str) -> dict[str, Any]:
        items = self.p_ik_items(seed, name, distribution)
        scores, known = items.p_ik, items.known
        interval = metrics.auroc_interval(scores, known)
        selected = scores > np.float32(self._config.p_ik.gamma)
        return {
            "method": name,
            "seed": seed,
            "train_task": items.train_task,
            "test_task": items.test_task,
            "distribution": distribution,
            "n": len(known),
            "known": int(known.sum()),
            "auroc": metrics.auroc(scores, known),
            "auroc_low": None if interval is None else interval[0],
            "auroc_high": None if interval is None else interval[1],
            "brier": metrics.brier_score(scores, known),
            "ece": metrics.expected_calibration_error(scores, known),
            "ik_rate": float(selected.mean()),
            "ik_precision": float(known[selected].mean()) if selected.any() else None,
            "bands": p_ik_lib.difficulty_bands(items.confidence, scores, known),
        }

    def _members(self, seed: int) -> list[dict[str, Any]]:
        """Of several weak models each: its labels of the student's half, and its answers to the test."""
        experiment, data = self._experiment, self._inputs.by_seed[seed]
        if not experiment.members:
            return []
        half, test = data.student_half, data.test
        labels = experiment.weak_each(seed).read(half, self._store)[..., 1]
        together = int(self._is_correct(seed, "weak").sum())
        right = self._members_correct(seed).sum(axis=1)
        entries = []
        for number, described in enumerate(members.describe(labels, half.labels)):
            learnt = experiment.weak(seed, number).task.split
            entries.append(
                {
                    "seed": seed,
                    "member": experiment.name_of(number),
                    "model": self._inputs.weak[number].title,
                    "task": learnt.task.name,
                    "rows": len(learnt),
                    "n": len(half),
                    **described,
                    "test_n": len(test),
                    "test_correct": int(right[number]),
                    "together_correct": together,
                }
            )
        return entries

    def _calibrations(self) -> list[dict[str, Any]]:
        """What labels are weighed by, by seed; none where no method of the run weighs them."""
        if not self._experiment.is_calibrated:
            return []
        return [
            {"seed": seed, **calibration.read(self._store, self._experiment.calibration(seed))[1]}
            for seed in self._config.seeds
        ]

    def _diagnose(self, seed: int) -> list[dict[str, Any]]:
        """Label diagnostics of the students whose rule chose among labels."""
        half = self._inputs.by_seed[seed].student_half
        diagnoses = []
        for name in self._config.methods:
            if (trace := self._labels.trace(seed, name)) is not None:
                weak, own = self._labels.columns(seed, name)
                summary = diagnostics.label_diagnostics(
                    trace, half.ids, truth=half.labels, weak=weak, own=own
                )
                artifact = stage_lib.find(self._store, self._experiment.student(seed, name))
                means = artifact.read_json("summary.json")["mean_over_steps"]
                graph = {key: means.get(key) for key in ("self_weight", "effective_neighbours")}
                diagnoses.append({"method": name, "seed": seed, **summary, **graph})
        return diagnoses

    def _are_right(self, seed: int, split_name: str) -> np.ndarray:
        """Whether the few-shot answers on a split are right, `[N]` bool."""
        stage, split = (
            self._experiment.answers(seed, split_name),
            getattr(self._inputs.by_seed[seed], split_name),
        )
        if split.task.is_generated:
            return self._table(stage, answering.FILE, "right", split) > 0.5
        return (self._table(stage, answering.FILE, "prob_1", split) > 0.5) == split.labels.astype(bool)

    def _by_frequency(self) -> dict[str, Any]:
        """Right answers on the test split, the same for every seed, by how common their entities are."""
        ranks = toy_world.World(world.world_config(self._config)).test_ranks(self._config.task)
        ids = self._inputs.by_seed[self._config.seeds[0]].test.ids
        seeds = self._config.seeds
        correct = {
            name: [self._is_correct(seed, name) for seed in seeds] for name in self._experiment.classifiers()
        }
        if self._experiment.has_answers("test"):
            correct[methods.FEW_SHOT] = [self._are_right(seed, "test") for seed in seeds]
        return results.by_frequency([ranks[name] for name in ids], correct)


def notes_on_prompts(planned: list[stage_lib.Stage], store: artifacts.Store) -> list[str]:
    """What had to be left out of few-shot prompts."""
    notes = []
    for stage in planned:
        if isinstance(stage, answer.Answer):
            cut = stage_lib.find(store, stage).read_json("summary.json")["cut"]
            if description := answering.describe_cut(cut):
                notes.append(f"{stage.label}: {description}")
    return notes
