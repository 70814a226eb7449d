"""The stages of a run whose models write: weak model, its answers, students on them, ceiling, and their tests.

Reliability-Aware Alignment (arXiv 2406.19032); `selective` has those of models with a class head.
"""

from typing import Any

import ml_collections

from selw2s_jax.data import by_id, written_splits
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import base, once
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import writing
from selw2s_jax.method import completion_methods, method_options, row_weights
from selw2s_jax.stages import complete, rows, written
from selw2s_jax.stages import stage as stage_lib

SUPERVISED = ("weak", "ceiling")  # models that learn from ground truth, beside the students


class Experiment(base.Experiment):
    """Weak model, ceiling and students that write answers, the weak model's answers to variations, and evaluations."""

    def targets(self) -> list[list[stage_lib.Stage]]:
        """The stages that results are read from, by model, in the order in which they are best made."""
        # Own answers first: the model is then loaded once for all seeds.
        own = [self.own_answers(seed) for seed in self._config.seeds] if self.has_own_answers else []
        return [
            *([own] if own else []),
            # The answers are asked for beside the weak model, which is then still on the devices.
            *(
                [*([self.weak_answers(seed)] if name == "weak" else []), self.evaluation(seed, name)]
                for seed in self._config.seeds
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
        weighted = rows.Weighted(
            split,
            self.weak_answers(seed),
            name,
            method_options.of_row_weights(self._config, name),
            # What was scored is in the task's form already.
            answers.completion if answers.by == "generate" else "canonical",
            self.seed_for(seed, "sampling"),
            self.own_answers(seed) if completion_methods.find(name).uses_self_labels else None,
        )
        return self._train(
            f"{name}, seed {seed}",
            seed,
            "student",
            self.inputs.strong,
            weighted,
            normalize=weighted.options.get("normalize") == "batch",
            num_questions=len(split) if self._config.training.match_steps else None,
        )

    def _train(
        self, label: str, seed: int, role: str, model: pretrained.Model, of_rows: rows.Rows, **options: Any
    ) -> complete.Complete:
        return complete.Complete(
            label,
            self.settings,
            role,
            model,
            of_rows,
            epochs=self._config.training.epochs,
            order_seed=self.seed_for(seed, "order"),
            init_seed=self.seed_for(seed, "init"),
            pretraining=self.pretraining(model.slot),
            mean=self._config.loss.mean,
            **options,
        )

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
        return written.Write(f"{label}, seed {seed}", self.settings, reader, split, self.plan(seed), how)

    def plan(self, seed: int) -> list[tuple]:
        """The variations of the student's questions."""
        return self.inputs.plans[seed]

    @once.once
    def evaluation(self, seed: int, name: str) -> written.Write:
        """Answers to the test questions by "weak", "ceiling" or a student; greedy."""
        test = self.inputs.test
        how = writing.Answering(by=self._config.answers.by, max_new_tokens=self._max_new_tokens(test))
        return written.Write(
            f"evaluation of {name}, seed {seed}",
            self.settings,
            self.trained(seed, name),
            test,
            [()] * len(test),
            how,
        )

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
        own = made_up if completion_methods.find(name).uses_self_labels else None
        inputs = row_weights.RowInputs(ids, made_up, lambda purpose, key: 0.5, own)
        if name in SUPERVISED:
            raise UserError(
                f"the row weights {name!r} have the name of a model of every run: register another"
            )
        rows.weigh(name, method_options.of_row_weights(config, name), inputs)
