"""The stage that trains a model to write answers: the weak model, the ceiling or a student (arXiv 2406.19032)."""

import dataclasses
import functools
from typing import Any

from selw2s_jax.data import batches
from selw2s_jax.hf import pretrained
from selw2s_jax.models import language_model
from selw2s_jax.stages import rows, training, workbench
from selw2s_jax.training import completion, step

# Raised when the code changes what it computes, so that older artifacts are no longer found.
_VERSION = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Complete(training.Training):
    """Training of a language model on rows, each a prompt and its answer, by Eq. 5.

    How many rows there are, and so steps, may be known only once the weak model has answered.

    Attributes:
        rows: that it is trained on.
        mean, normalize: of the loss, as `losses.loss_of_sums` has them.
        num_questions: whose number fixes the steps, None where that of the rows does.
        learn_end: whether the end of text behind an answer is learnt.
    """

    rows: rows.Rows
    _: dataclasses.KW_ONLY
    mean: str = "rows"
    normalize: bool = False
    num_questions: int | None = None
    learn_end: bool = True

    trains_lm_head = True

    @property
    def needs(self):
        return (*super().needs, *self.rows.needs)

    @property
    def detail(self):
        return f"rows of {len(self.rows.split)} questions"

    def check(self):
        super().check()
        most = self.rows.most
        if (known := self.rows.known) is not None:
            most = rows.check(known, self.model, **self._encoding)
        self._count_steps(most)

    @property
    def computation(self) -> step.Computation:
        """What its train step computes."""
        return completion.completion(mean=self.mean, normalize=self.normalize)

    @property
    def batch_sizes(self):
        return {batches.TASK: self.settings.training.batch_size}

    @property
    def num_steps(self) -> int:
        """With as many rows as a plan counts with; raises a UserError where there is none."""
        return self._count_steps(self.rows.num_expected)

    @property
    def num_expected(self):
        return {batches.TASK: self.rows.num_expected}

    def expected_sets(self):
        examples, _ = rows.encode(self.rows.expected, self.model, **self._encoding)
        return {batches.TASK: examples}

    def _count_steps(self, num_rows: int) -> int:
        """Steps of so many rows; raises a UserError where there is none, or the warm-up takes them all."""
        training_settings = self.settings.training
        num_steps = training.count_steps(
            self.num_questions or num_rows, self.epochs, training_settings.batch_size, self.label
        )
        training.check_warmup(training_settings.warmup_steps, num_steps, self.label)
        return num_steps

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        return {
            "completion_version": _VERSION,
            **self.training_inputs(),
            "overlong": self._overlong,
            # With "error" no row reaches the limit.
            "max_length": None if self._overlong == "error" else self.model.max_length,
            "epochs": self.epochs,
            "num_questions": self.num_questions,
            "loss": {"mean": self.mean, "normalize": self.normalize},
            # By default it is not named, so that older artifacts are still found.
            **({} if self.learn_end else {"learn_end": False}),
            "role": self.role,
            "rows": self.rows.inputs,
        }

    @property
    def _encoding(self) -> dict[str, Any]:
        return {"overlong": self._overlong, "label": self.label, "learn_end": self.learn_end}

    @property
    def _overlong(self) -> str:
        overlong = self.settings.overlong
        return "drop" if overlong == "default" else overlong

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Trains, writes the weights that were trained and a summary, and leaves the model on the devices."""
        texts = self.rows.texts(bench.store)
        examples, counts = rows.encode(texts, self.model, **self._encoding)
        num_rows = len(examples.example_ids)
        if described := rows.describe(counts, len(texts.names)):
            print(f"  {described}", flush=True)
        num_steps = self._count_steps(num_rows)
        fitted, summary = self.train_on(
            bench,
            {batches.TASK: examples},
            self.batch_sizes,
            num_steps,
            objective=("completion", self.mean, self.normalize),
            computation=self.computation,
        )
        of_rows = {
            "num_rows": num_rows,
            "num_questions": len(rows.names_of(examples.example_ids)),
            "mean_weight": float(examples.columns["example_weight"].mean()),
            **counts,
        }
        self.keep(folder, bench, fitted, summary | {"rows": of_rows})

    def built(self, mesh, *, seed: int = 0) -> pretrained.LanguageModelSettings:
        return self.settings.language_model(self.model, mesh, seed=seed)

    def abstract_of(self, built: pretrained.LanguageModelSettings) -> language_model.LanguageModel:
        return pretrained.abstract_trainable(self.model.config, built)

    def untrained(self, built: pretrained.LanguageModelSettings) -> language_model.LanguageModel:
        return pretrained.load_trainable(self.model.folder, built)
