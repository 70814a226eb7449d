"""The stages of the paper's experiment, by seed and name: asking for one makes those that it needs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np

from selw2s_jax import artifacts, inputs, stages
from selw2s_jax.data import batches
from selw2s_jax.inference import fewshot
from selw2s_jax.method import registry


@dataclasses.dataclass(frozen=True)
class _Column:
    """A field of a student's examples: what it is a function of, and how it is read."""

    inputs: Any
    needs: tuple[stages.Stage, ...]
    read: Callable[[], np.ndarray]


class Experiment:
    """Weak model, ceiling, students, their labels and their evaluations.

    Args:
        config: the validated config.
        found: its inputs.
        make: the factory of stages.
    """

    def __init__(self, config: ml_collections.ConfigDict, found: inputs.Inputs, make: stages.StageFactory):
        self._config, self._found, self._make = config, found, make

    # Models.

    def weak(self, seed: int) -> stages.Stage:
        """The weak model: fine-tuned on the ground truth of its half."""
        return self._supervised("weak", seed, self._found.weak, self._found.by_seed[seed].weak_half)

    def ceiling(self, seed: int) -> stages.Stage:
        """The strong ceiling: the strong model on ground truth."""
        data = self._found.by_seed[seed]
        both = [*data.weak_half.examples, *data.student_half.examples]
        chosen = {
            "student": data.student_half,
            "weak": data.weak_half,
            "both": dataclasses.replace(data.student_half, examples=both),
        }
        return self._supervised("ceiling", seed, self._found.strong, chosen[self._config.ceiling.split])

    def _supervised(self, name: str, seed: int, model: inputs.Model, split: inputs.Split) -> stages.Stage:
        def read_sets() -> dict[int, batches.ExampleSet]:
            truth = np.eye(2, dtype=np.float32)[split.labels]
            tokens = inputs.encode(split.texts, model)
            return {batches.TASK: batches.ExampleSet(split.ids, tokens, {"weak_probs": truth})}

        return self._make.training(
            f"{name}, seed {seed}",
            seed,
            model,
            "supervised",
            num_examples=len(split),
            data_inputs={"role": name, "texts": split.texts_hash, "labels": split.labels_hash},
            read_sets=read_sets,
        )

    def p_ik_model(self, seed: int) -> stages.Stage:
        """P(IK) trained alone, for p_ik.stage other than joint and for frozen scores."""
        answers = self.p_ik_answers(seed)
        return self._make.training(
            f"P(IK) alone, seed {seed}",
            seed,
            self._found.strong,
            "p_ik_only",
            num_examples=len(self._found.by_seed[seed].p_ik),
            data_inputs={"role": "p_ik", **self._p_ik_inputs(seed)},
            read_sets=lambda: {batches.P_IK: self._p_ik_examples(seed)},
            needs=(answers,),
        )

    def student(self, seed: int, name: str) -> stages.Stage:
        """A student by the name of its method. The ground truth of its half is not among its inputs."""
        method, model = registry.METHODS[name], self._found.strong
        split = self._found.by_seed[seed].student_half
        columns = {"weak_probs": self._weak_column(seed)}
        if method.uses_self_labels:
            columns["self_labels"] = self._self_column(seed)
        if method.uses_p_ik and self._config.p_ik.mask != "online":
            columns["given_p_ik"] = self._scores_column(seed)
        trains_p_ik = inputs.trains_p_ik(self._config, method)
        starts_from = None
        if trains_p_ik and self._config.p_ik.stage == "pretrain_then_joint":
            starts_from = self.p_ik_model(seed)
        needs = [stage for column in columns.values() for stage in column.needs]
        needs += [self.p_ik_answers(seed)] if trains_p_ik else []

        def read_sets() -> dict[int, batches.ExampleSet]:
            values = {field: column.read() for field, column in columns.items()}
            sets = {batches.TASK: batches.ExampleSet(split.ids, inputs.encode(split.texts, model), values)}
            if trains_p_ik:
                sets[batches.P_IK] = self._p_ik_examples(seed)
            return sets

        return self._make.training(
            f"{name}, seed {seed}",
            seed,
            model,
            name,
            num_examples=len(split),
            data_inputs={
                "role": "student",
                "texts": split.texts_hash,
                "p_ik": self._p_ik_inputs(seed) if trains_p_ik else None,
                **{field: column.inputs for field, column in columns.items()},
            },
            read_sets=read_sets,
            needs=tuple(needs),
            starts_from=starts_from,
        )

    # Labels and predictions.

    def weak_labels(self, seed: int) -> stages.Stage:
        """The weak model's soft labels on the student's half."""
        split = self._found.by_seed[seed].student_half
        return self._make.predictions(self.weak(seed), self._found.weak, split, f"weak labels, seed {seed}")

    def p_ik_scores(self, seed: int) -> stages.Stage:
        """P(IK) of the student's half by the model that was trained on P(IK) alone."""
        split = self._found.by_seed[seed].student_half
        return self._make.predictions(
            self.p_ik_model(seed), self._found.strong, split, f"P(IK) scores, seed {seed}"
        )

    def evaluation(self, seed: int, name: str) -> stages.Stage:
        """Predictions on the test split of "weak", "ceiling" or a student."""
        supervised = {"weak": self.weak, "ceiling": self.ceiling}
        trained = supervised[name](seed) if name in supervised else self.student(seed, name)
        model = self._found.weak if name == "weak" else self._found.strong
        label = f"evaluation of {name}, seed {seed}"
        return self._make.predictions(
            trained, model, self._found.by_seed[seed].test, label, show_accuracy=True
        )

    def self_answers(self, seed: int) -> stages.Stage:
        """Few-shot answers on the student's half."""
        split = self._found.by_seed[seed].student_half
        return self._make.answers(
            split, f"few-shot answers on {self._config.task} (student's half), seed {seed}"
        )

    def p_ik_answers(self, seed: int) -> stages.Stage:
        """Few-shot answers on the P(IK) examples."""
        split = self._found.by_seed[seed].p_ik
        return self._make.answers(split, f"few-shot answers on {self._config.p_ik.task} (P(IK)), seed {seed}")

    # What a student's examples carry.

    def _weak_column(self, seed: int) -> _Column:
        stage = self.weak_labels(seed)
        split = self._found.by_seed[seed].student_half

        def read() -> np.ndarray:
            columns = [
                self._make.table(stage, "predictions.parquet", name, split) for name in ("prob_0", "prob_1")
            ]
            return np.stack(columns, axis=-1)

        return _Column(stage.key, (stage,), read)

    def _self_column(self, seed: int) -> _Column:
        section, split = self._config.self_label, self._found.by_seed[seed].student_half
        if section.source == "file":
            return self._file_column(section.file, "label", split, hard=not section.soft)
        if section.source == "class_head":
            return _Column(None, (), lambda: np.zeros(len(split), np.float32))
        stage = self.self_answers(seed)

        def read() -> np.ndarray:
            probs = self._make.table(stage, "answers.parquet", "prob_1", split)
            return probs if section.soft else (probs > 0.5).astype(np.float32)

        return _Column([stage.key, section.soft], (stage,), read)

    def _scores_column(self, seed: int) -> _Column:
        section, split = self._config.p_ik, self._found.by_seed[seed].student_half
        if section.mask == "file":
            return self._file_column(section.scores_file, "p_ik", split)
        stage = self.p_ik_scores(seed)
        return _Column(
            stage.key, (stage,), lambda: self._make.table(stage, "predictions.parquet", "p_ik", split)
        )

    def _file_column(self, path: str, field: str, split: inputs.Split, hard: bool = False) -> _Column:
        values = inputs.by_example_id(inputs.read_values_file(path, field, 0, 1), split.ids, path)
        values = (values > 0.5).astype(np.float32) if hard else values
        return _Column(artifacts.content_hash(values.tolist()), (), lambda: values)

    def _p_ik_inputs(self, seed: int) -> dict[str, Any]:
        split, section = self._found.by_seed[seed].p_ik, self._config.p_ik
        return {
            "p_ik_texts": split.texts_hash,
            "p_ik_labels": split.labels_hash,
            "p_ik_answers": self.p_ik_answers(seed).key,
            "p_ik_batch_size": self._make.p_ik_batch_size(),
            "num_samples": section.num_samples,
            "temperature": section.temperature,
            "sampling_seed": inputs.seed_for(self._config, seed, "sampling") if section.temperature else None,
        }

    def _p_ik_examples(self, seed: int) -> batches.ExampleSet:
        split, section = self._found.by_seed[seed].p_ik, self._config.p_ik
        targets = fewshot.sampled_accuracy(
            self._make.table(self.p_ik_answers(seed), "answers.parquet", "prob_1", split),
            split.labels,
            split.ids,
            seed=inputs.seed_for(self._config, seed, "sampling"),
            num_samples=section.num_samples,
            temperature=section.temperature,
        )
        print(f"  the sampled answers are right on {100 * targets.mean():.1f} % of the P(IK) examples")
        return batches.ExampleSet(
            split.ids, inputs.encode(split.texts, self._found.strong), {"ik_target": targets}
        )

    # What results are read from.

    def label_columns(self, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Weak labels and self labels on the student's half, as probabilities of class 1 `[N]`.

        The self labels are None where the student made them as it went.
        """
        weak = self._weak_column(seed).read()[:, 1]
        by_student = self._config.self_label.source == "class_head"
        return weak, None if by_student else self._self_column(seed).read()
