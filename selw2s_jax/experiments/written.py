"""The stages of a run whose models write: weak model, its answers, students on them, ceiling, and their tests.

Reliability-Aware Alignment (arXiv 2406.19032); `selective` has those of models with a class head.
"""

from typing import Any

import ml_collections
import numpy as np

from selw2s_jax.data import batches, by_id, variation_plans, written_splits
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import base, once
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import writing
from selw2s_jax.method import completion_methods, method_options, objectives, registry, row_weights
from selw2s_jax.stages import complete, known, predict, reword, rows, train, written
from selw2s_jax.stages import stage as stage_lib

SUPERVISED = ("weak", "ceiling")  # models that learn from ground truth, beside the students


class Experiment(base.Experiment):
    """Weak model, ceiling and students that write answers, the weak model's answers to variations, and evaluations."""

    def targets(self) -> list[list[stage_lib.Stage]]:
        """The stages that results are read from, by model, in the order in which they are best made."""
        # Those of untouched models first: a model is then loaded once for all seeds.
        seeds = self._config.seeds
        own = [self.rewording(seed) for seed in seeds] if self.has_rewording else []
        own += [self.own_answers(seed) for seed in seeds] if self.has_own_answers else []
        own += [self.known_answers(seed) for seed in seeds] if self.has_p_ik else []
        return [
            *([own] if own else []),
            *([[self.p_ik(seed) for seed in seeds]] if self.has_p_ik else []),
            # The answers are asked for beside the weak model, which is then still on the devices.
            *(
                [*([self.weak_answers(seed)] if name == "weak" else []), self.evaluation(seed, name)]
                for seed in seeds
                for name in self.classifiers()
            ),
        ]

    def classifiers(self) -> tuple[str, ...]:
        """The models that are tested on the task: weak model, ceiling and students."""
        return (*SUPERVISED, *self._config.methods)

    # Models.

    @once.once
    def weak(self, seed: int) -> complete.Complete:
        """The weak model: fine-tuned on the ground truth of its questions."""
        split = self.inputs.by_seed[seed].weak
        return self._train(f"weak, seed {seed}", seed, "weak", self.inputs.weak, rows.Truth(split))

    @once.once
    def ceiling(self, seed: int) -> complete.Complete:
        """The strong ceiling: the strong model on the ground truth of the student's questions."""
        split = self.inputs.by_seed[seed].student
        return self._train(f"ceiling, seed {seed}", seed, "ceiling", self.inputs.strong, rows.Truth(split))

    @once.once
    def student(self, seed: int, name: str) -> complete.Complete:
        """A student by the name of its method. The ground truth of its questions is not among its inputs."""
        split, answers = self.inputs.by_seed[seed].student, self._config.answers
        training, method = self._config.training, completion_methods.find(name)
        weighted = rows.Weighted(
            split,
            self.weak_answers(seed),
            name,
            method_options.of_row_weights(self._config, name),
            # What was scored is in the task's form already.
            answers.completion if answers.by == "generate" else "canonical",
            self.seed_for(seed, "sampling"),
            self.own_answers(seed) if method.uses_self_labels else None,
            self.p_ik(seed) if method.uses_p_ik else None,
        )
        return self._train(
            f"{name}, seed {seed}",
            seed,
            "student",
            self.inputs.strong,
            weighted,
            normalize=weighted.options.get("normalize") == "batch",
            num_questions=rows.num_first(training.first_share, len(split)) if training.match_steps else None,
        )

    def _train(
        self, label: str, seed: int, role: str, model: pretrained.Model, of_rows: rows.Rows, **options: Any
    ) -> complete.Complete:
        share = self._config.training.first_share
        of_rows = of_rows if share == 1 else rows.First(of_rows.split, of_rows, share)
        return complete.Complete(
            label,
            self.settings,
            role,
            model,
            of_rows,
            **self._course(seed, model),
            mean=self._config.loss.mean,
            learn_end=self._config.answers.learn_end,
            **options,
        )

    def _course(self, seed: int, model: pretrained.Model) -> dict[str, Any]:
        """How long a model is trained, from where and in which order."""
        return {
            "epochs": self._config.training.epochs,
            "order_seed": self.seed_for(seed, "order"),
            "init_seed": self.seed_for(seed, "init"),
            "pretraining": self.pretraining(model.slot),
        }

    def trained(self, seed: int, name: str) -> complete.Complete:
        """The training of "weak", "ceiling" or a student."""
        supervised = {"weak": self.weak, "ceiling": self.ceiling}
        return supervised[name](seed) if name in supervised else self.student(seed, name)

    # Answers.

    @once.once
    def weak_answers(self, seed: int) -> written.Write:
        """The weak model's answers to the student's questions, in the original prompt and all variations."""
        return self._label("weak answers", seed, self.weak(seed))

    @once.once
    def own_answers(self, seed: int) -> written.Write:
        """Likewise of the strong model, as it was pretrained."""
        return self._label(
            "own answers", seed, written.Untouched(self.inputs.strong, self.pretraining("strong"))
        )

    @property
    def has_own_answers(self) -> bool:
        """Whether a method of the run uses these."""
        return any(completion_methods.find(name).uses_self_labels for name in self._config.methods)

    # P(IK): it sees the ground truth of the weak model's questions, and of no others.

    @property
    def has_p_ik(self) -> bool:
        """Whether a method of the run uses it."""
        return completion_methods.use_p_ik(self._config.methods)

    @once.once
    def known_answers(self, seed: int) -> written.Write:
        """The strong model's answers, as it was pretrained, to the weak model's questions; greedy."""
        split = self.inputs.by_seed[seed].weak
        reader = written.Untouched(self.inputs.strong, self.pretraining("strong"))
        return self._greedy(f"own answers for P(IK), seed {seed}", reader, split)

    @once.once
    def p_ik_model(self, seed: int) -> train.Train:
        """P(IK) of these answers, trained alone on the strong model."""
        answers, model = self.known_answers(seed), self.inputs.strong
        split, is_cut = answers.split, self._config.data.overlong == "truncate"
        learnt = split if is_cut else split.only(~split.is_overlong(model))
        size = self._config.training.batch_size
        return train.Train(
            f"P(IK) alone, seed {seed}",
            self.settings,
            "p_ik",
            model,
            objectives.make_objective(self._config, registry.METHODS["p_ik_only"]),
            {batches.TASK: size, batches.P_IK: size},
            p_ik=known.Questions(learnt, {"ik_target": known.IsRight(answers)}),
            **self._course(seed, model),
        )

    @once.once
    def p_ik(self, seed: int) -> predict.Predict:
        """P(IK) of the student's questions."""
        split = self.inputs.by_seed[seed].student
        return predict.Predict(f"P(IK), seed {seed}", self.settings, self.p_ik_model(seed), split)

    def _label(self, label: str, seed: int, reader) -> written.Write:
        """A model's answers to the student's questions, in all prompts."""
        split, section = self.inputs.by_seed[seed].student, self._config.answers
        how = writing.Answering(
            by=section.by,
            max_new_tokens=self._max_new_tokens(split),
            seed=self.seed_for(seed, "sampling"),
            temperature=section.temperature,
            top_p=section.top_p,
        )
        rewording = self.rewording(seed) if self.has_rewording else None
        return written.Write(
            f"{label}, seed {seed}", self.settings, reader, split, self.plan(seed), how, rewording
        )

    def plan(self, seed: int) -> list[tuple]:
        """The variations of the student's questions; their original prompts until `rewording` has run."""
        return self.inputs.plans[seed]

    @property
    def has_rewording(self) -> bool:
        """Whether a model of the run writes the variations."""
        return self._config.variations.kind == variation_plans.MODEL

    @once.once
    def rewording(self, seed: int) -> reword.Reword:
        """The student's questions in other words, by a model as it was pretrained."""
        section, split = self._config.variations, self.inputs.by_seed[seed].student
        reader = written.Untouched(getattr(self.inputs, section.role), self.pretraining(section.role))
        how = writing.Answering(
            max_new_tokens=section.max_new_tokens,
            temperature=section.temperature,
            # Not the draws of the answers, whose samples have the same names.
            seed=int(by_id.keyed_uniform(self.seed_for(seed, "sampling"), "seed of rewordings", "") * 2**32),
        )
        return reword.make(f"rewordings, seed {seed}", self.settings, reader, split, section.count, how)

    @once.once
    def evaluation(self, seed: int, name: str) -> written.Write:
        """Answers to the test questions by "weak", "ceiling" or a student; greedy."""
        test, label = self.inputs.test, f"evaluation of {name}, seed {seed}"
        return self._greedy(label, self.trained(seed, name), test, self._config.answers.test_max_new_tokens)

    def _greedy(
        self, label: str, reader, split: written_splits.WrittenSplit, most: int | None = None
    ) -> written.Write:
        """A model's answers to questions in their original prompts alone."""
        how = writing.Answering(
            by=self._config.answers.by, max_new_tokens=most or self._max_new_tokens(split)
        )
        return written.Write(label, self.settings, reader, split, [()] * len(split), how)

    def _max_new_tokens(self, split: written_splits.WrittenSplit) -> int:
        return self._config.answers.max_new_tokens or split.task.max_new_tokens

    def draws(self, seed: int, purpose: str) -> list[float]:
        """What row weights draw for each of the student's questions."""
        sampling = self.seed_for(seed, "sampling")
        return [
            by_id.keyed_uniform(sampling, purpose, name) for name in self.inputs.by_seed[seed].student.ids
        ]


def check_methods(config: ml_collections.ConfigDict) -> None:
    """Tries the row weights of every method on a few made-up answers.

    Raises:
        UserError: they fail, give no `row_weights.Rows` of the right shape, or have the name of another model.
    """
    made_up = [[0, 0, 0, 1], [None, 1, 0, None], [2, 2, 2, 2]]
    ids = [f"question {number}" for number in range(len(made_up))]
    for name in config.methods:
        method = completion_methods.find(name)
        own = made_up if method.uses_self_labels else None
        p_ik = np.array([0.1, 0.5, 0.9], np.float32) if method.uses_p_ik else None
        inputs = row_weights.RowInputs(ids, made_up, lambda purpose, key: 0.5, own, p_ik)
        if name in SUPERVISED:
            raise UserError(
                f"the row weights {name!r} have the name of a model of every run: register another"
            )
        rows.weigh(name, method_options.of_row_weights(config, name), inputs)
