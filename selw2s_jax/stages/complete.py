"""The stage that trains a model to write answers: the weak model, the ceiling or a student (arXiv 2406.19032)."""

import dataclasses
import functools
from typing import Any

from selw2s_jax.data import batches
from selw2s_jax.hf import pretrained
from selw2s_jax.models import language_model
from selw2s_jax.stages import rows, training, workbench
from selw2s_jax.training import completion

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
    """

    rows: rows.Rows
    _: dataclasses.KW_ONLY
    mean: str = "rows"
    normalize: bool = False
    num_questions: int | None = None

    trains_lm_head = True

    @property
    def needs(self):
        return (*super().needs, *self.rows.needs)

    @property
    def detail(self):
        return f"rows of {len(self.rows.split)} questions"

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        return {
            "completion_version": _VERSION,
            **self.training_inputs(),
            "overlong": self._overlong,
            "max_length": self.model.max_length,
            "epochs": self.epochs,
            "num_questions": self.num_questions,
            "loss": {"mean": self.mean, "normalize": self.normalize},
            "role": self.role,
            "rows": self.rows.inputs,
        }

    @property
    def _overlong(self) -> str:
        overlong = self.settings.overlong
        return "drop" if overlong == "default" else overlong

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Trains, writes the weights that were trained and a summary, and leaves the model on the devices."""
        texts = self.rows.texts(bench.store)
        examples, counts = rows.encode(texts, self.model, overlong=self._overlong, label=self.label)
        num_rows = len(examples.example_ids)
        if described := rows.describe(counts, len(texts.names)):
            print(f"  {described}", flush=True)
        batch_size = self.settings.training.batch_size
        num_steps = training.count_steps(
            self.num_questions or num_rows, self.epochs, batch_size, f"{self.label}"
        )
        fitted, summary = self.train_on(
            bench,
            {batches.TASK: examples},
            {batches.TASK: batch_size},
            num_steps,
            objective=("completion", self.mean, self.normalize),
            computation=completion.completion(mean=self.mean, normalize=self.normalize),
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
