"""The stages of Selective W2SG's experiment, by seed and name: asking for one makes those that it needs."""

import functools
from collections.abc import Collection, Sequence

import numpy as np

from selw2s_jax.data import batches, members, splits
from selw2s_jax.experiments import (
    calibrated,
    columns,
    curves,
    neighbours,
    once,
    reading,
    teachers,
    weak_rows,
)
from selw2s_jax.experiments import inputs as inputs_lib
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import answering
from selw2s_jax.method import method_options, objectives, registry
from selw2s_jax.stages import (
    calibration,
    chosen_rows,
    column,
    combine,
    curve,
    examples,
    label,
    predict,
    probe,
    train,
)
from selw2s_jax.stages import stage as stage_lib

_HELD_OUT = " of what is held out"
_P_IK_ALONE = "p_ik_only"  # the method whose model methods with frozen P(IK) have their scores from


class Experiment(reading.Reading):
    """Weak model, ceiling, students, their labels and their evaluations."""

    def targets(self) -> list[list[stage_lib.Stage]]:
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
        chosen.append(
            [self.embeddings_by_name(name, s) for name in self.named_embeddings() for s in self._config.seeds]
        )
        for seed in self._config.seeds:
            # The labels are asked for beside each weak model, which is then still on the devices.
            chosen += [
                [
                    *(self.member_labels(seed, number, half) for half in self._labelled(seed)),
                    self.member_evaluation(seed, number),
                ]
                for number in self.members
            ]
            for name in self.classifiers():
                of_model = (
                    [self.weak_labels(seed, half) for half in self._labelled(seed)] if name == "weak" else []
                )
                chosen.append([*of_model, *self.tests(seed, name), *self._p_ik_scores_of(seed, name)])
            chosen += [
                [self.p_ik_model(seed), *self._p_ik_scores_of(seed, name)]
                for name in self._with_p_ik
                if registry.METHODS[name].task_weight == 0
            ]
        return [of_model for of_model in chosen if of_model]

    def tests(self, seed: int, name: str) -> list[stage_lib.Stage]:
        """What tests "weak", "ceiling" or a student."""
        return [self.evaluation(seed, name)]

    def classifiers(self) -> tuple[str, ...]:
        """The models that are tested on the task: weak model, ceiling, and students with a class head.

        None in a run of P(IK) alone.
        """
        if not self.inputs.weak:
            return ()
        methods = [name for name in self._config.methods if registry.METHODS[name].task_weight > 0]
        return ("weak", "ceiling", *methods)

    @property
    def members(self) -> range:
        """The numbers of several weak models; none where there is one alone, which "weak" is then."""
        return range(len(self.inputs.weak) if len(self.inputs.weak) > 1 else 0)

    def has_answers(self, split_name: str) -> bool:
        """Whether the run has the strong model's few-shot answers on a split of `splits.SeedData`."""
        of_seed = self.inputs.by_seed[self._config.seeds[0]]
        return split_name in inputs_lib.answered_splits(self._config, of_seed)

    def p_ik_tests(self) -> list[tuple[int, str, str]]:
        """The tests of P(IK): seed, method, and "in" or "out" of the distribution it was trained on."""
        return [
            (seed, name, distribution)
            for seed in self._config.seeds
            for name in self._with_p_ik
            for distribution in self._p_ik_tests_of(seed, name)
        ]

    def p_ik_test(self, seed: int, name: str, distribution: str) -> tuple[str, stage_lib.Stage]:
        """The split that P(IK) of a student is tested on, and its scores there."""
        return self._p_ik_tests_of(seed, name)[distribution]

    @property
    def _with_p_ik(self) -> tuple[str, ...]:
        """The methods of the run, and P(IK) alone where these have their scores from it."""
        methods = tuple(self._config.methods)
        is_scored_first = any(
            objectives.is_scored_first(self._config, registry.METHODS[name]) for name in methods
        )
        return tuple(dict.fromkeys((*methods, _P_IK_ALONE))) if is_scored_first else methods

    def _p_ik_scores_of(self, seed: int, name: str) -> list[stage_lib.Stage]:
        return [stage for _, stage in self._p_ik_tests_of(seed, name).values()]

    def _p_ik_tests_of(self, seed: int, name: str) -> dict[str, tuple[str, stage_lib.Stage]]:
        data, method = self.inputs.by_seed[seed], registry.METHODS.get(name)
        is_alone = not self.inputs.weak
        if method is None or method.mask_of is not None or not objectives.trains_p_ik(self._config, method):
            return {}
        tests = {}
        if data.p_ik_test is not None:
            tests["in"] = ("p_ik_test", self._scores_in_distribution(seed, name))
        # Of one that is not listed nothing is asked that takes answers to the test.
        if is_alone or (tests and name in self._config.methods):
            # Without students P(IK) may be trained on the very task that is tested; with them, it is refused.
            tests["in" if objectives.is_own_task(self._config) else "out"] = (
                "test",
                self.evaluation(seed, name),
            )
        return tests

    @once.once
    def _scores_in_distribution(self, seed: int, name: str) -> predict.Predict:
        return self._predict(
            f"P(IK) test of {name}, seed {seed}", self.student(seed, name), seed, "p_ik_test"
        )

    # Models.

    def weak(self, seed: int, number: int = 0) -> train.Train:
        """A weak model by its number: fine-tuned on the ground truth of its rows."""
        return self._weak(seed, number)

    @once.once
    def _weak(self, seed: int, number: int) -> train.Train:
        return self._member(seed, number, f"{self.name_of(number)}, seed {seed}")

    @property
    def weak_halves(self) -> list[str]:
        """The split that each weak model learns from, by its name in `splits.SeedData.named`."""
        return [member.half for member in members.of(self._config)]

    @property
    def weak_name(self) -> str:
        """The weak models together, for people; empty in a run of P(IK) alone."""
        names = [model.title for model in self.inputs.weak]
        return members.describe(names, members.of(self._config)) if names else ""

    def name_of(self, number: int) -> str:
        """What a weak model is called: weak, or of several weak-0, weak-1 and so on."""
        return "weak" if len(self.inputs.weak) == 1 else f"weak-{number}"

    def _member(self, seed: int, number: int, label: str, held_out: Collection[str] = ()) -> train.Train:
        """A weak model trained on its rows but those of the questions that are held out."""
        model, name = self.inputs.weak[number], self.weak_halves[number]
        which = "sampling" if self._config.weak.rows == "bootstrap" else "split"
        half = self.split(model, seed, name)
        learnt = weak_rows.rows(self._config, number, half, self.seed_for(seed, which)).without(held_out)
        columns = {"weak_probs": examples.Truth(learnt.split)} | learnt.columns
        task = examples.Examples(learnt.split, columns | self.embedded(model, seed, name))
        asked = None if held_out else self._curve(seed, model)  # of folds no curve is asked
        return self._train(label, seed, "weak", model, "supervised", task=task, asked=asked)

    @once.once
    def ceiling(self, seed: int) -> train.Train:
        """The strong ceiling: the strong model on ground truth."""
        halves = {
            "student": ("student_half",),
            "weak": ("weak_half",),
            "both": ("student_half", "weak_half"),
        }
        model, names = self.inputs.strong, halves[self._config.ceiling.split]
        split = functools.reduce(splits.Split.joined, [self.split(model, seed, half) for half in names])
        columns = {"weak_probs": examples.Truth(split)} | self.embedded(model, seed, *names)
        kinds = {
            "task": examples.Examples(split, columns),
            "starts_from": self.start(seed, "ceiling"),
            "asked": self._curve(seed, model),
        }
        return self._train(f"ceiling, seed {seed}", seed, "ceiling", model, "supervised", **kinds)

    def start(self, seed: int, name: str) -> train.Train | None:
        """The trained model that the ceiling or a student starts from; None: the pretrained one."""
        method = registry.METHODS.get(name)
        if method is None or self._config.p_ik.stage != "pretrain_then_joint":
            return None
        return self.p_ik_model(seed) if objectives.trains_p_ik(self._config, method) else None

    @once.once
    def p_ik_model(self, seed: int) -> train.Train:
        """P(IK) trained alone, for p_ik.stage other than joint and for frozen scores."""
        return self._train(
            f"P(IK) alone, seed {seed}",
            seed,
            "p_ik",
            self.inputs.strong,
            _P_IK_ALONE,
            p_ik=self._p_ik_examples(seed),
        )

    @once.once
    def student(self, seed: int, name: str) -> train.Train:
        """A student by the name of its method. The ground truth of its half is not among its inputs."""
        method = method_options.applied(self._config, name)
        if method.task_weight == 0:
            return self.p_ik_model(seed)
        trains_p_ik = objectives.trains_p_ik(self._config, method)
        return self._train(
            f"{name}, seed {seed}",
            seed,
            "student",
            self.inputs.strong,
            name,
            task=chosen_rows.carrying(
                self.inputs.by_seed[seed].student_half,
                self._student_columns(seed, name, method)
                | self.embedded(self.inputs.strong, seed, "student_half"),
                self.lesson(seed, name).rows,
            ),
            p_ik=self._p_ik_examples(seed) if trains_p_ik else None,
            starts_from=self.start(seed, name),
            asked=self._curve(seed, self.inputs.strong, is_student=True),
        )

    def _curve(self, seed: int, model: pretrained.Model, *, is_student: bool = False) -> curve.Curve | None:
        return curves.of(self._config.evaluation, self, seed, model, is_student=is_student)

    @once.once
    def lesson(self, seed: int, name: str) -> teachers.Lesson:
        """What a student is taught, by the name of its method."""
        return teachers.TEACHERS[registry.METHODS[name].teacher].make(self, seed, name)

    def earlier_student(
        self,
        label: str,
        seed: int,
        model: pretrained.Model,
        labels: examples.Column,
        rows: chosen_rows.Rows | None = None,
    ) -> train.Train:
        """A model on labels `[N, 2]` of the student's half as they are, to be a teacher of others.

        Args:
            label: of the stage; another for each model, seed and labels.
            rows: of the half, that it is trained on; None for all.
        """
        half = self.split(model, seed, "student_half")
        columns = {"weak_probs": labels} | self.embedded(model, seed, "student_half")
        task = chosen_rows.carrying(half, columns, rows)
        return self._train(label, seed, "student", model, registry.BASELINE, task=task)

    def _train(self, label: str, seed: int, role: str, model: pretrained.Model, name: str, **kinds):
        """A training by the method of that name; `kinds` of examples as `train.Train` has them."""
        method = method_options.applied(self._config, name)
        is_p_ik_alone = method.task_weight == 0
        kind_of_stage = probe.Probe if self.settings.is_probe(model) else train.Train
        return kind_of_stage(
            label,
            self.settings,
            role,
            model,
            objectives.make_objective(self._config, method),
            batch_sizes={
                batches.TASK: self._config.training.batch_size,
                batches.P_IK: self._config.p_ik.batch_size or self._config.training.batch_size,
            },
            epochs=self._config.p_ik.epochs if is_p_ik_alone else self._config.training.epochs,
            order_seed=weak_rows.seed_of(self.seed_for(seed, "order"), model),
            init_seed=weak_rows.seed_of(self.seed_for(seed, "init"), model),
            pretraining=self.pretraining(model.slot),
            **kinds,
        )

    # Labels and predictions.

    @once.once
    def member_labels(self, seed: int, number: int, split_name: str = "student_half") -> predict.Predict:
        """A weak model's soft labels on the student's half, or on what is held out of it."""
        name, suffix = self.name_of(number), _HELD_OUT if split_name == "held_out" else ""
        label = "weak labels" if name == "weak" else f"labels of {name}"
        return self._predict(f"{label}{suffix}, seed {seed}", self.weak(seed, number), seed, split_name)

    @once.once
    def weak_labels(self, seed: int, split_name: str = "student_half") -> predict.Predict | combine.Combine:
        """The soft labels of such a split: those of the weak model, or of several together."""
        numbers = range(len(self.inputs.weak))
        of_members = [self.member_labels(seed, number, split_name) for number in numbers]
        suffix = _HELD_OUT if split_name == "held_out" else ""
        split = self.inputs.by_seed[seed].named(split_name)
        return self._together(f"weak labels{suffix}, seed {seed}", of_members, split)

    def _labelled(self, seed: int) -> tuple[str, ...]:
        """The splits that weak labels are asked of."""
        holds_out = self.inputs.by_seed[seed].held_out is not None and self._config.evaluation.every_steps
        return ("student_half", "held_out") if holds_out else ("student_half",)

    def _together(
        self, label: str, of_members: Sequence[predict.Predict], split: splits.Split, **options: bool
    ) -> predict.Predict | combine.Combine:
        """Predictions of the weak models as one; of a single one, its own."""
        if len(of_members) == 1:
            return of_members[0]
        return combine.Combine(label, tuple(of_members), self._config.weak.combine, split, **options)

    def labels_by(self, label: str, trained: train.Train, seed: int) -> examples.WeakLabels:
        """Soft labels `[N, 2]` of the whole student's half by a model that is trained before.

        Args:
            label: of the stage, as of `earlier_student`.
        """
        return examples.WeakLabels(self._predict(label, trained, seed, "student_half"))

    @once.once
    def p_ik_scores(self, seed: int) -> predict.Predict:
        """P(IK) of the student's half by the model that was trained on P(IK) alone."""
        return self._predict(f"P(IK) scores, seed {seed}", self.p_ik_model(seed), seed, "student_half")

    @property
    def is_calibrated(self) -> bool:
        """Whether a method of the run weighs labels by a calibration."""
        return any(
            columns.is_calibrated(self._config, method_options.applied(self._config, name))
            for name in self._config.methods
        )

    @once.once
    def calibration(self, seed: int) -> calibration.Calibrate:
        """What weak labels and own labels are weighed by."""
        data, section = self.inputs.by_seed[seed], self._config.calibration
        half, folds = data.named(self.weak_halves[0]), ()
        if section.weak == "crossfit":
            fold = splits.folds(half.examples, section.folds, seed=self.seed_for(seed, "split"))
            folds = tuple(self._fold_labels(seed, number, fold) for number in range(section.folds))
        return calibration.Calibrate(
            f"calibration, seed {seed}",
            half,
            folds,
            self._config.weak.label_noise,
            self.seed_for(seed, "sampling"),
            self._scores_in_distribution(seed, _P_IK_ALONE),
            self.answers(seed, "p_ik_test"),
            data.p_ik_test,
        )

    def _fold_labels(self, seed: int, number: int, fold: np.ndarray) -> predict.Predict | combine.Combine:
        """Labels of one of the folds `[N]` of the weak half by weak models that were trained on the others."""
        name = self.weak_halves[0]  # that of all
        half = self.inputs.by_seed[seed].named(name)
        held_out = half.only(fold == number)
        groups = {example.group for example in held_out.examples}
        which = f"fold {number + 1} of {self._config.calibration.folds}, seed {seed}"
        of_members = []
        for place, model in enumerate(self.inputs.weak):
            label = f"{self.name_of(place)} {which}"
            trained = self._member(seed, place, label, groups)
            as_read = self.split(model, seed, name).only(fold == number)
            of_members.append(self._predict(f"labels of {label}", trained, seed, name, as_read))
        return self._together(f"labels of weak {which}", of_members, held_out)

    def trained(self, seed: int, name: str) -> train.Train:
        """The training of a weak model by what it is called, of "ceiling" or a student."""
        if name == "ceiling":
            return self.ceiling(seed)
        numbers = {self.name_of(number): number for number in range(len(self.inputs.weak))}
        return self.weak(seed, numbers[name]) if name in numbers else self.student(seed, name)

    @once.once
    def member_evaluation(self, seed: int, number: int) -> predict.Predict:
        """A weak model's predictions on the test split."""
        label = f"evaluation of {self.name_of(number)}, seed {seed}"
        return self._predict(label, self.weak(seed, number), seed, "test", shows_accuracy=True)

    @once.once
    def evaluation(self, seed: int, name: str) -> predict.Predict:
        """Predictions on the test split of "weak", which several weak models are together, "ceiling" or a student."""
        if name == "weak":
            of_members = [self.member_evaluation(seed, number) for number in range(len(self.inputs.weak))]
            label, test = f"evaluation of weak, seed {seed}", self.inputs.by_seed[seed].test
            return self._together(label, of_members, test, shows_accuracy=True)
        return self._predict(
            f"evaluation of {name}, seed {seed}",
            self.trained(seed, name),
            seed,
            "test",
            shows_accuracy=name not in registry.METHODS or registry.METHODS[name].task_weight > 0,
        )

    def _predict(
        self,
        label: str,
        trained: train.Train,
        seed: int,
        split_name: str,
        part: splits.Split | None = None,
        **options: bool,
    ) -> predict.Predict:
        """Predictions on a split, or on a part of it alone."""
        is_probe = self.settings.is_probe(trained.model)
        embedded = self.embeddings(trained.model.slot, seed, split_name) if is_probe else None
        split = self.split(trained.model, seed, split_name) if part is None else part
        return predict.Predict(label, self.settings, trained, split, embedded, **options)

    # What examples carry.

    def _student_columns(self, seed: int, name: str, method: registry.Method) -> dict[str, examples.Column]:
        named = {"weak_probs": self.lesson(seed, name).labels}
        if method.uses_self_labels:
            named["self_labels"] = self.self_column(seed)
        if method.mask_of is not None:
            shuffle_seed = self.seed_for(seed, "sampling")
            named["given_p_ik"] = examples.ShuffledMasks(self.student(seed, method.mask_of), shuffle_seed)
        elif objectives.takes_given_scores(self._config, method):
            named["given_p_ik"] = self._scores_column(seed)
        named |= calibrated.weighing(self, seed, method)
        for column_name in columns.carried(self._config, method)[batches.TASK]:
            if column_name in calibrated.MAKERS:
                named[column_name] = calibrated.MAKERS[column_name](self, seed)
            elif column_name not in (*named, columns.NEIGHBOURS):
                named[column_name] = examples.Made(self._made_column(seed, column_name))
        if columns.NEIGHBOURS in columns.carried(self._config, method)[batches.TASK]:
            half = self.inputs.by_seed[seed].student_half
            embedded = self.embeddings("strong", seed, "student_half")
            named[columns.NEIGHBOURS] = neighbours.column(self._config, seed, name, half, named, embedded)
        return named

    @once.once
    def _made_column(self, seed: int, name: str) -> column.Column:
        return columns.stage(name, self.inputs.by_seed[seed].student_half, self.seed_for(seed, "sampling"))

    def weak_column(self, seed: int, split_name: str = "student_half") -> examples.WeakLabels:
        """The weak labels of the student's half, or of what is held out of it, with their noise."""
        noise_seed, labels = self.seed_for(seed, "sampling"), self.weak_labels(seed, split_name)
        return examples.WeakLabels(labels, self._config.weak.label_noise, noise_seed)

    def weak_each(self, seed: int) -> examples.WeakEach:
        """The weak labels of the student's half by each weak model, with their noise."""
        labels = tuple(self.member_labels(seed, number) for number in range(len(self.inputs.weak)))
        return examples.WeakEach(labels, self._config.weak.label_noise, self.seed_for(seed, "sampling"))

    def self_column(self, seed: int) -> examples.Column:
        """The strong model's own labels of the student's half."""
        section, split = self._config.self_label, self.inputs.by_seed[seed].student_half
        if section.source == "file":
            return examples.FileValues.of(section.file, "label", split, hard=not section.soft)
        if section.source == "class_head":
            return examples.MadeInTraining()
        if section.source == "fewshot":
            return examples.OwnLabels(self.answers(seed, "student_half"), answering.FILE, section.soft)
        return examples.OwnLabels(self._labels_of_source(seed), label.FILE, section.soft)

    @once.once
    def _labels_of_source(self, seed: int) -> label.Label:
        source, split = self._config.self_label.source, self.inputs.by_seed[seed].student_half
        sampling_seed = self.seed_for(seed, "sampling")
        return label.Label(f"labels by {source}, seed {seed}", source, split, sampling_seed)

    def _scores_column(self, seed: int) -> examples.Column:
        section = self._config.p_ik
        if section.mask == "file":
            return examples.FileValues.of(section.scores_file, "p_ik", self.inputs.by_seed[seed].student_half)
        return examples.Scores(self.p_ik_scores(seed))

    def _p_ik_examples(self, seed: int) -> examples.PIKExamples:
        split, section, answers = (
            self.inputs.by_seed[seed].p_ik,
            self._config.p_ik,
            self.answers(seed, "p_ik"),
        )
        targets = examples.SampledAccuracy(answers)
        if not split.task.is_generated:
            sampling_seed = self.seed_for(seed, "sampling")
            targets = examples.SampledAccuracy(
                answers, section.num_samples, section.temperature, sampling_seed
            )
        return examples.PIKExamples(
            split, {"ik_target": targets} | self.embedded(self.inputs.strong, seed, "p_ik")
        )
