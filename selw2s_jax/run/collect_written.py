"""What `results.json` and the manifest say of a run whose models write, read from its finished stages."""

from typing import Any

import ml_collections
import numpy as np
from etils import epath

from selw2s_jax.analysis import reliability, results, weak_errors
from selw2s_jax.data import answers, doubts, item_predictions, paraphrasing, written_splits
from selw2s_jax.experiments import written
from selw2s_jax.inference import writing
from selw2s_jax.run import written_facts
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import predict
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.worlds import world, written_world

_LEAST_REWORDED = 0.5  # of the variations that a model is to write; below, a report warns


def truth(test: written_splits.WrittenSplit) -> dict[str, list]:
    """The right answers to the test questions by example_id, as `answers.to_text` has them."""
    return {"example_id": test.ids, "answer": [answers.to_text(answer) for answer in test.truths]}


def describe_test(experiment: written.Experiment) -> dict[str, Any]:
    """The test set and the answers to it, finished or not, as the manifest has them."""
    test = experiment.inputs.test
    return {
        "n": len(test),
        "labels_hash": artifacts.content_hash(list(truth(test).values())),
        "is_papers_data": experiment.inputs.is_papers_data,
        "evaluations": [
            {
                "method": name,
                "seed": seed,
                "key": experiment.evaluation(seed, name).key,
                "stage": experiment.evaluation(seed, name).name,
            }
            for seed in experiment.inputs.by_seed
            for name in experiment.classifiers()
        ],
    }


def list_students(config: ml_collections.ConfigDict, experiment: written.Experiment) -> list[dict[str, Any]]:
    """The trained models, finished or not, as the manifest lists them."""
    return [
        {
            "task": config.task,
            "method": name,
            "seed": seed,
            "key": experiment.trained(seed, name).key,
            "role": "weak" if name == "weak" else "strong",
            "has_class_head": False,
            "supervision": "completion",
            "written": _facts(experiment, seed, name).to_json(),
            "prompt": "",
            "instruction": "",
            "shots": [],
        }
        for seed in config.seeds
        for name in experiment.classifiers()
    ]


def _facts(experiment: written.Experiment, seed: int, name: str) -> written_facts.Written:
    """How a model is asked: as it is tested."""
    stage = experiment.evaluation(seed, name)
    return written_facts.Written.of(stage.split.task, stage.how)


def preview(experiment: written.Experiment) -> list[dict[str, str]]:
    """A question as models read it, and a variation of one: each with "task", "reader" and "text"."""
    seed, data = next(iter(experiment.inputs.by_seed.items()))
    task, first = data.test.task, data.test.questions[0]
    shown = [{"task": task.name, "reader": "all models", "text": task.prompt(first) + task.reference(first)}]
    if experiment.has_rewording:
        asked = experiment.rewording(seed)
        reader = f"{asked.model.role} model, which rewords a question"
        return [*shown, {"task": task.name, "reader": reader, "text": asked.asked.prompts[0]}]
    for variation in experiment.plan(seed)[0][:1]:
        text = task.prompt(data.student.questions[0], variation)
        shown.append({"task": task.name, "reader": "weak model, a variation", "text": text})
    return shown


def _names(split: written_splits.WrittenSplit) -> list[str] | None:
    """Of the answers 0 and 1 of a task of two words, which may be others of some questions; None of another."""
    if split.task.kind != "words":
        return None
    shown = list(dict.fromkeys(question.choices for question in split.questions))
    return [" / ".join(dict.fromkeys(words)) for words in zip(*shown, strict=True)]


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
        experiment: written.Experiment,
        store: artifacts.Store,
    ):
        self._config, self._experiment, self._store = config, experiment, store
        self._inputs = experiment.inputs
        self._given: dict[tuple[int, str], list[answers.Answer | None]] = {}

    def report(self) -> dict[str, Any]:
        """Records, summary, reliability of the weak answers, rows of the students, notes and warnings."""
        config, inputs, test = self._config, self._inputs, self._inputs.test
        records = []
        for seed in config.seeds:
            correct = {
                name: int(self._is_correct(seed, name).sum()) for name in self._experiment.classifiers()
            }
            records += results.make_records(
                task=config.task,
                weak=inputs.weak.title,
                strong=inputs.strong.title,
                seed=seed,
                total=len(test),
                correct=correct,
            )
        is_ranked = config.data.source == world.NAME and config.task in written_world.PROPERTIES
        return {
            **({"by_frequency": self._by_frequency()} if is_ranked else {}),
            "records": records,
            "summary": self._summarize(records),
            "majority_class_accuracy": None,
            "reliability": [{"seed": seed, **self._reliability(seed)} for seed in config.seeds],
            "rows": [
                self._rows(seed, name) for seed in config.seeds for name in self._experiment.classifiers()
            ],
            **dict.fromkeys(
                ("diagnostics", "disagreement", "selection_frequency", "p_ik", "calibration"), ()
            ),
            "notes": [*inputs.notes, *self._notes()],
            "warnings": [warning._asdict() for warning in (*inputs.warnings, *self._doubts())],
        }

    def _by_frequency(self) -> dict[str, Any]:
        """Right answers to the test questions by how common the entity of the right choice is."""
        ranks = written_world.WrittenWorld(world.world_config(self._config)).test_ranks(self._config.task)
        correct = {
            name: [self._is_correct(seed, name) for seed in self._config.seeds]
            for name in self._experiment.classifiers()
        }
        test = self._inputs.test
        chance = float(np.mean([1 / len(question.choices) for question in test.questions]))
        return results.by_frequency([ranks[name] for name in test.ids], correct) | {"chance": chance}

    def _summarize(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        inputs = self._inputs
        of_paper = (inputs.weak.name, inputs.strong.name) if inputs.is_papers_data else None
        rows = results.summarize(records, of_paper=of_paper)
        correct = {
            name: np.stack([self._is_correct(seed, name) for seed in sorted(self._config.seeds)])
            for name in self._experiment.classifiers()
        }
        return results.with_pgr_intervals(rows, correct, correct["weak"])

    def write_p_ik_items(self, folder: epath.Path) -> None:
        """There are none: models that write have no P(IK) head."""

    def predictions(self) -> list[item_predictions.Predicted]:
        """What every model answers to every test question."""
        test = self._inputs.test
        right = [answers.to_text(truth) for truth in test.truths]
        items = item_predictions.Test(test.task.name, test.ids, right, test.prompts)
        parts = []
        for seed in self._config.seeds:
            for name in self._experiment.classifiers():
                given, correct = self._answers(seed, name), self._is_correct(seed, name)
                texts = list(map(answers.to_text, given))
                parts.append(item_predictions.Predicted(items, name, seed, correct, answers=texts))
        return parts

    def _is_correct(self, seed: int, name: str) -> np.ndarray:
        """Whether a model's answers are right, `[N]` bool over the test split; one that says nothing is not."""
        return np.array(
            [
                given == right
                for given, right in zip(self._answers(seed, name), self._inputs.test.truths, strict=True)
            ]
        )

    def _answers(self, seed: int, name: str) -> list[answers.Answer | None]:
        """What a model answers to the test questions, `[N]`; None where it says nothing."""
        if (seed, name) not in self._given:
            stage = self._experiment.evaluation(seed, name)
            found = writing.read_answers(self._store, stage, self._inputs.test)
            self._given[seed, name] = [own[0] for own in found]
        return self._given[seed, name]

    def _reliability(self, seed: int) -> dict[str, Any]:
        """What the weak model's answers say of themselves, and what ground truth says of that."""
        split, config = self._inputs.by_seed[seed].student, self._config
        stage = self._experiment.weak_answers(seed)
        found = writing.read(self._store, stage, split)
        answers = writing.read_answers(self._store, stage, split)
        described = reliability.describe(
            answers,
            split.truths,
            letters=self._letters(seed, found["letter"]),
            conflicts=found["conflicts"],
            kind=split.task.kind,
            names=_names(split),
            draws=self._experiment.draws(seed, "tied entropies"),
            percentile=config.reliability.percentile,
            ties=config.reliability.ties,
            temperature=config.reliability.temperature,
            unparsed=config.answers.unparsed,
        )
        own = None
        if self._experiment.has_own_answers:
            own = writing.read_answers(self._store, self._experiment.own_answers(seed), split)
        p_ik = None
        if self._experiment.has_p_ik:
            p_ik = stage_lib.read_column(
                self._store, self._experiment.p_ik(seed), predict.FILE, "p_ik", split
            )
        described["auroc"] += weak_errors.areas(
            answers,
            split.truths,
            log_probs=[given[0] for given in found["log_prob"]],
            own=own,
            p_ik=p_ik,
            unparsed=config.answers.unparsed,
        )
        return described

    def _letters(self, seed: int, chosen: list[list[int]]) -> reliability.Letters | None:
        """Where the answers stood, and the right ones; None where there are no choices."""
        split, asked = self._inputs.by_seed[seed].student, self._experiment.weak_answers(seed).asked
        if split.task.kind != "choice":
            return None
        right: list[list[int]] = [[] for _ in split.questions]
        for question, number in asked.places:
            variation, truth = asked.variation(question, number), split.truths[question]
            is_moved = variation is not None and variation.order is not None
            right[question].append(variation.order.index(truth) if is_moved else truth)
        return reliability.Letters(chosen, right, [len(question.choices) for question in split.questions])

    def _rows(self, seed: int, name: str) -> dict[str, Any]:
        """What a model was trained on."""
        summary = stage_lib.find(self._store, self._experiment.trained(seed, name)).read_json("summary.json")
        return {"method": name, "seed": seed, "num_steps": summary["num_steps"], **summary["rows"]}

    def _notes(self) -> list[str]:
        """Of variations that a model wrote, and of rows that were too long."""
        notes = [self._reworded(seed)[1] for seed in self._config.seeds if self._experiment.has_rewording]
        for seed in self._config.seeds:
            for name in self._experiment.classifiers():
                found = self._rows(seed, name)
                if found["overlong"]:
                    notes.append(
                        f"{name}, seed {seed}: {found['overlong']} rows were longer than data.max_length or the "
                        f"context, {found['left_out']} were left out"
                    )
        return notes

    def _doubts(self) -> list[doubts.Doubt]:
        """That most variations are the original prompt, whose answers say nothing of the wording."""
        seeds = self._config.seeds if self._experiment.has_rewording else ()
        found = [said for share, said in map(self._reworded, seeds) if share < _LEAST_REWORDED]
        remedy = (
            "name the other model in variations.role, or take variations.kind=rules or a file of paraphrases"
        )
        return [doubts.Doubt(said, remedy) for said in found]

    def _reworded(self, seed: int) -> tuple[float, str]:
        """The share of variations that are in a model's own words, and what became of the others."""
        stage, asking = self._experiment.rewording(seed), self._experiment.weak_answers(seed)
        counts = stage_lib.find(self._store, stage).read_json("summary.json")
        varied = [one for own in asking.read_asked(self._store).plan for one in own]
        kept = sum(one.text is not None for one in varied)
        no_room = stage.left_out * stage.count + counts[paraphrasing.KEPT] - kept
        reasons = [paraphrasing.describe(counts), f"{no_room} leave no room in the context" * (no_room > 0)]
        others = (
            f"; others are the original prompt ({', '.join(filter(None, reasons))})"
            if kept < len(varied)
            else ""
        )
        said = f"{stage.label}: {kept} of {len(varied)} variations are in the words of the {stage.model.role} model"
        return kept / len(varied), said + others
