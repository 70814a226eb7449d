"""The stages of the paper's experiment, by seed and name: asking for one makes those that it needs."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import numpy as np

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches, by_id, splits
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import answering, fewshot, generate
from selw2s_jax.method import objectives, registry
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import stage as stages_lib


@dataclasses.dataclass(frozen=True)
class _Column:
    """A field of a student's examples: what it is a function of, and how it is read."""

    inputs: Any
    needs: tuple[stages_lib.Stage, ...]
    read: Callable[[], np.ndarray]
    by_step: bool = False  # [num_steps, N] rather than [N]


def _made_once(make_stage: Callable[..., stages_lib.Stage]) -> Callable[..., stages_lib.Stage]:
    """A method of `Experiment` whose stage is made when it is first asked for, and is the same one afterwards."""

    @functools.wraps(make_stage)
    def ask(self, *name):
        key = make_stage.__name__, *name
        if key not in self._made:
            self._made[key] = make_stage(self, *name)
        return self._made[key]

    return ask


class Experiment:
    """Weak model, ceiling, students, their labels and their evaluations.

    Args:
        config: the validated config.
        found: its inputs.
        make: the factory of stages.
    """

    def __init__(
        self, config: ml_collections.ConfigDict, found: stages_lib.Inputs, make: stages_lib.StageFactory
    ):
        self._config, self._found, self._make = config, found, make
        self._made: dict[tuple, stages_lib.Stage] = {}

    def targets(self) -> list[list[stages_lib.Stage]]:
        """The stages that results are read from, by model, in the order in which they are best made."""
        # All answers first: the language model is then loaded once.
        chosen = [
            [
                self.answers(seed, split_name)
                for seed in self._config.seeds
                for split_name in ("student_half", "p_ik", "test", "p_ik_test")
                if self.has_answers(split_name)
            ]
        ]
        for seed in self._config.seeds:
            for name in self.classifiers():
                # The labels are asked for beside the weak model, which is then still on the devices.
                of_model = [self.weak_labels(seed)] if name == "weak" else []
                chosen.append([*of_model, self.evaluation(seed, name), *self._p_ik_scores_of(seed, name)])
            chosen += [
                [self.p_ik_model(seed), *self._p_ik_scores_of(seed, name)]
                for name in self._config.methods
                if registry.METHODS[name].task_weight == 0
            ]
        return [of_model for of_model in chosen if of_model]

    def classifiers(self) -> tuple[str, ...]:
        """The models that are tested on the task: weak model, ceiling, and students with a class head.

        None in a run of P(IK) alone.
        """
        if self._found.weak is None:
            return ()
        methods = [name for name in self._config.methods if registry.METHODS[name].task_weight > 0]
        return ("weak", "ceiling", *methods)

    def has_answers(self, split_name: str) -> bool:
        """Whether the run has the strong model's few-shot answers on a split of `splits.SeedData`."""
        data = self._found.by_seed[self._config.seeds[0]]
        if split_name == "student_half":
            own = any(registry.METHODS[name].uses_self_labels for name in self._config.methods)
            return own and self._config.self_label.source == "fewshot"
        if split_name == "p_ik":
            return data.p_ik is not None
        return any(
            split_name == tested
            for name in self._config.methods
            for tested, _ in self._p_ik_tests_of(self._config.seeds[0], name).values()
        )

    def p_ik_tests(self) -> list[tuple[int, str, str]]:
        """The tests of P(IK): seed, method, and "in" or "out" of the distribution it was trained on."""
        return [
            (seed, name, distribution)
            for seed in self._config.seeds
            for name in self._config.methods
            for distribution in self._p_ik_tests_of(seed, name)
        ]

    def p_ik_test(self, seed: int, name: str, distribution: str) -> tuple[str, stages_lib.Stage]:
        """The split that P(IK) of a student is tested on, and its scores there."""
        return self._p_ik_tests_of(seed, name)[distribution]

    def _p_ik_scores_of(self, seed: int, name: str) -> list[stages_lib.Stage]:
        return [stage for _, stage in self._p_ik_tests_of(seed, name).values()]

    def _p_ik_tests_of(self, seed: int, name: str) -> dict[str, tuple[str, stages_lib.Stage]]:
        data, method = self._found.by_seed[seed], registry.METHODS.get(name)
        is_alone = self._found.weak is None
        if method is None or method.mask_of is not None or not objectives.trains_p_ik(self._config, method):
            return {}
        tests = {}
        if data.p_ik_test is not None:
            label = f"P(IK) test of {name}, seed {seed}"
            student, model = self.student(seed, name), self._found.strong
            tests["in"] = ("p_ik_test", self._make.predictions(student, model, data.p_ik_test, label))
        if is_alone or tests:
            # Without students P(IK) may be trained on the very task that is tested; with them, it is refused.
            tests["in" if objectives.is_own_task(self._config) else "out"] = (
                "test",
                self.evaluation(seed, name),
            )
        return tests

    # Models.

    @_made_once
    def weak(self, seed: int) -> stages_lib.Stage:
        """The weak model: fine-tuned on the ground truth of its half."""
        return self._supervised("weak", seed, self._found.weak, self._found.by_seed[seed].weak_half)

    @_made_once
    def ceiling(self, seed: int) -> stages_lib.Stage:
        """The strong ceiling: the strong model on ground truth."""
        data = self._found.by_seed[seed]
        both = [*data.weak_half.examples, *data.student_half.examples]
        chosen = {
            "student": data.student_half,
            "weak": data.weak_half,
            "both": dataclasses.replace(data.student_half, examples=both),
        }
        return self._supervised("ceiling", seed, self._found.strong, chosen[self._config.ceiling.split])

    def _supervised(
        self, name: str, seed: int, model: pretrained.Model, split: splits.Split
    ) -> stages_lib.Stage:
        def read_sets() -> dict[int, batches.ExampleSet]:
            truth = np.eye(2, dtype=np.float32)[split.labels]
            tokens = split.tokens(model)
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

    @_made_once
    def p_ik_model(self, seed: int) -> stages_lib.Stage:
        """P(IK) trained alone, for p_ik.stage other than joint and for frozen scores."""
        answers = self.answers(seed, "p_ik")
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

    @_made_once
    def student(self, seed: int, name: str) -> stages_lib.Stage:
        """A student by the name of its method. The ground truth of its half is not among its inputs."""
        method, model = registry.METHODS[name], self._found.strong
        if method.task_weight == 0:
            return self.p_ik_model(seed)
        split = self._found.by_seed[seed].student_half
        columns = {"weak_probs": self._weak_column(seed)}
        if method.uses_self_labels:
            columns["self_labels"] = self._self_column(seed)
        if method.mask_of is not None:
            columns["given_p_ik"] = self._shuffled_masks_column(seed, name)
        elif method.uses_p_ik and self._config.p_ik.mask != "online":
            columns["given_p_ik"] = self._scores_column(seed)
        trains_p_ik = objectives.trains_p_ik(self._config, method)
        starts_from = None
        if trains_p_ik and self._config.p_ik.stage == "pretrain_then_joint":
            starts_from = self.p_ik_model(seed)
        needs = [stage for column in columns.values() for stage in column.needs]
        needs += [self.answers(seed, "p_ik")] if trains_p_ik else []

        def read_sets() -> dict[int, batches.ExampleSet]:
            values = {field: column.read() for field, column in columns.items() if not column.by_step}
            by_step = {field: column.read() for field, column in columns.items() if column.by_step}
            tokens = split.tokens(model)
            sets = {batches.TASK: batches.ExampleSet(split.ids, tokens, values, by_step)}
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

    @_made_once
    def weak_labels(self, seed: int) -> stages_lib.Stage:
        """The weak model's soft labels on the student's half."""
        split = self._found.by_seed[seed].student_half
        return self._make.predictions(self.weak(seed), self._found.weak, split, f"weak labels, seed {seed}")

    @_made_once
    def p_ik_scores(self, seed: int) -> stages_lib.Stage:
        """P(IK) of the student's half by the model that was trained on P(IK) alone."""
        split = self._found.by_seed[seed].student_half
        return self._make.predictions(
            self.p_ik_model(seed), self._found.strong, split, f"P(IK) scores, seed {seed}"
        )

    @_made_once
    def evaluation(self, seed: int, name: str) -> stages_lib.Stage:
        """Predictions on the test split of "weak", "ceiling" or a student."""
        supervised = {"weak": self.weak, "ceiling": self.ceiling}
        trained = supervised[name](seed) if name in supervised else self.student(seed, name)
        model = self._found.weak if name == "weak" else self._found.strong
        label = f"evaluation of {name}, seed {seed}"
        has_classes = name in supervised or registry.METHODS[name].task_weight > 0
        return self._make.predictions(
            trained, model, self._found.by_seed[seed].test, label, show_accuracy=has_classes
        )

    @_made_once
    def answers(self, seed: int, split_name: str) -> stages_lib.Stage:
        """Few-shot answers on a split, by its name in `splits.SeedData`.

        Those that are written at length are sampled where P(IK) is trained on them, and greedy where it is tested.
        """
        split, section = getattr(self._found.by_seed[seed], split_name), self._config.p_ik
        of_split = {"student_half": "student's half", "p_ik": "P(IK)", "p_ik_test": "P(IK) test"}
        sampling = None
        if split.task.is_generated:
            temperature = section.temperature if split_name == "p_ik" else 0.0
            sampling = generate.Settings(
                max_new_tokens=self._config.generation.max_new_tokens,
                num_samples=section.num_samples if temperature else 1,
                temperature=temperature,
                top_p=self._config.generation.top_p if temperature else 1.0,
                seed=config_lib.seed_for(self._config, seed, "sampling") if temperature else 0,
            )
        return self._make.answers(
            split,
            f"few-shot answers on {split.task.name} ({of_split.get(split_name, split_name)}), seed {seed}",
            sampling,
        )

    def are_right(self, seed: int, split_name: str) -> np.ndarray:
        """Whether the few-shot answers on a split are right, `[N]` bool, once they are there."""
        stage, split = self.answers(seed, split_name), getattr(self._found.by_seed[seed], split_name)
        if split.task.is_generated:
            return self._make.table(stage, answering.FILE, "right", split) > 0.5
        return (self._make.table(stage, answering.FILE, "prob_1", split) > 0.5) == split.labels.astype(bool)

    # What a student's examples carry.

    def _weak_column(self, seed: int) -> _Column:
        stage = self.weak_labels(seed)
        split, noise = self._found.by_seed[seed].student_half, self._config.weak.label_noise
        noise_seed = config_lib.seed_for(self._config, seed, "sampling")

        def read() -> np.ndarray:
            columns = [
                self._make.table(stage, "predictions.parquet", name, split) for name in ("prob_0", "prob_1")
            ]
            return turn_labels(np.stack(columns, axis=-1), split.ids, noise, seed=noise_seed)

        key = {"labels": stage.key, "noise": noise, "seed": noise_seed} if noise else stage.key
        return _Column(key, (stage,), read)

    def _self_column(self, seed: int) -> _Column:
        section, split = self._config.self_label, self._found.by_seed[seed].student_half
        if section.source == "file":
            return self._file_column(section.file, "label", split, hard=not section.soft)
        if section.source == "class_head":
            return _Column(None, (), lambda: np.zeros(len(split), np.float32))
        if section.source == "fewshot":
            stage, file = self.answers(seed, "student_half"), answering.FILE
        else:
            sampling_seed = config_lib.seed_for(self._config, seed, "sampling")
            label = f"labels by {section.source}, seed {seed}"
            stage, file = self._make.labels(section.source, split, sampling_seed, label), "labels.parquet"

        def read() -> np.ndarray:
            probs = self._make.table(stage, file, "prob_1", split)
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

    def _shuffled_masks_column(self, seed: int, name: str) -> _Column:
        """IK masks of another student, each step's shuffled among the examples of its batch."""
        other, split = (
            self.student(seed, registry.METHODS[name].mask_of),
            self._found.by_seed[seed].student_half,
        )
        shuffle_seed = config_lib.seed_for(self._config, seed, "sampling")

        def read() -> np.ndarray:
            trace = self._make.artifact(other).read_table("trace.parquet")
            return shuffled_masks(trace, split.ids, seed=shuffle_seed)

        return _Column({"masks_of": other.key, "seed": shuffle_seed}, (other,), read, by_step=True)

    def _file_column(self, path: str, field: str, split: splits.Split, hard: bool = False) -> _Column:
        values = by_id.join(by_id.read_values(path, field, 0, 1), split.ids, path)
        values = (values > 0.5).astype(np.float32) if hard else values
        return _Column(artifacts.content_hash(values.tolist()), (), lambda: values)

    def _p_ik_inputs(self, seed: int) -> dict[str, Any]:
        split, section = self._found.by_seed[seed].p_ik, self._config.p_ik
        named = {
            "p_ik_texts": split.texts_hash,
            "p_ik_labels": split.labels_hash,
            "p_ik_answers": self.answers(seed, "p_ik").key,
            "p_ik_batch_size": self._make.p_ik_batch_size(),
        }
        if split.task.is_generated:
            return named  # the answers are samples already
        return named | {
            "num_samples": section.num_samples,
            "temperature": section.temperature,
            "sampling_seed": config_lib.seed_for(self._config, seed, "sampling")
            if section.temperature
            else None,
        }

    def _p_ik_examples(self, seed: int) -> batches.ExampleSet:
        split, section, stage = self._found.by_seed[seed].p_ik, self._config.p_ik, self.answers(seed, "p_ik")
        if split.task.is_generated:
            targets = self._make.table(stage, answering.FILE, "right", split)
        else:
            targets = fewshot.sampled_accuracy(
                self._make.table(stage, answering.FILE, "log_odds", split),
                split.labels,
                split.ids,
                seed=config_lib.seed_for(self._config, seed, "sampling"),
                num_samples=section.num_samples,
                temperature=section.temperature,
            )
        print(f"  the sampled answers are right on {100 * targets.mean():.1f} % of the P(IK) examples")
        return batches.ExampleSet(split.ids, split.tokens(self._found.strong), {"ik_target": targets})

    # What results are read from.

    def label_columns(self, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Weak labels and self labels on the student's half, as probabilities of class 1 `[N]`.

        The self labels are None where the student made them as it went, or no student used any.
        """
        weak = self._weak_column(seed).read()[:, 1]
        used = any(registry.METHODS[name].uses_self_labels for name in self._config.methods)
        there = used and self._config.self_label.source != "class_head"
        return weak, self._self_column(seed).read() if there else None


def turn_labels(probs: np.ndarray, ids: Sequence[str], share: float, *, seed: int) -> np.ndarray:
    """Soft labels `[N, 2]` with the classes of about a share of the rows exchanged.

    Which rows depends on their ids alone; those of a smaller share are among those of a larger one.
    """
    turned = np.array([by_id.keyed_uniform(seed, "label noise", name) < share for name in ids])
    return np.where(turned[:, None], probs[:, ::-1], probs)


def shuffled_masks(trace: dict[str, np.ndarray], ids: Sequence[str], *, seed: int) -> np.ndarray:
    """The IK masks of a trace, each step's shuffled among the examples of its batch.

    Args:
        trace: `step`, `example_id` and `ik_mask`, an entry per task example and step.
        ids: `[N]` example_ids.

    Returns:
        `[num_steps, N]` float32 of 0 and 1; 0 for the examples that are not in a step's batch.
    """
    place = {example_id: index for index, example_id in enumerate(ids)}
    masks = np.zeros((int(trace["step"].max()) + 1, len(ids)), np.float32)
    for step in range(len(masks)):
        members = np.flatnonzero(trace["step"] == step)
        members = members[np.argsort(trace["example_id"][members])]
        shuffled = np.random.default_rng([seed, step]).permutation(trace["ik_mask"][members])
        masks[step, [place[example_id] for example_id in trace["example_id"][members]]] = shuffled
    return masks
