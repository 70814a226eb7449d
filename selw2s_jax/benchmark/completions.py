"""What is measured of models that write: the train step on prompts with answers, and answers of the untouched model."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections
import numpy as np
from flax import nnx

from selw2s_jax.benchmark import example_texts, workloads
from selw2s_jax.data import answer_tokens, batches
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import written
from selw2s_jax.hf import pretrained
from selw2s_jax.plan import programs, written_workload
from selw2s_jax.training import completion, step

_LEAST_MEAN = 2  # tokens of an example: a prompt has one at least, and an answer too


class Rows(NamedTuple):
    """Rows that students are trained on, as far as they are known without a weak model.

    Attributes:
        described: what they are, for people.
        of: method -> its rows.
        prompts: () -> what is asked, as token ids.
    """

    described: str
    of: Callable[[str], batches.ExampleSet]
    prompts: Callable[[], example_texts.Tokens]


def synthetic(
    config: ml_collections.ConfigDict, model: pretrained.Model, mean_length: int | None = None
) -> Rows:
    """Random tokens in prompts and answers of log-normal lengths, the same in every process and for all methods.

    Raises:
        UserError: a mean that the model cannot be given.
    """
    (usual,), limit = written_workload.default_sizes(config), model.max_length
    mean = usual.length if mean_length is None else mean_length
    if not _LEAST_MEAN <= mean <= limit:
        raise UserError(
            f"--lengths={mean} must be between {_LEAST_MEAN} and the {limit} tokens that the model is given: change "
            "it, or config.data.max_length"
        )
    sizes = usual._replace(length=mean).of_completion

    def examples() -> batches.ExampleSet:
        generator = np.random.default_rng(0)
        lengths = np.maximum(example_texts.draw_lengths(generator, mean, limit), _LEAST_MEAN)
        counts = np.minimum(example_texts.draw_lengths(generator, sizes["num_answer"], limit), lengths - 1)
        tokens = [generator.integers(1, model.config.vocab_size, length, np.int32) for length in lengths]
        parts = [np.split(ids, [len(ids) - count]) for ids, count in zip(tokens, counts, strict=True)]
        return batches.completion_examples([""] * len(parts), *zip(*parts, strict=True), np.ones(len(parts)))

    described = f"synthetic, {mean} tokens a row on average, {sizes['num_answer']} of them the answer"
    return Rows(described, lambda name: examples(), lambda: _prompts(examples()))


def real(config: ml_collections.ConfigDict, model: pretrained.Model, workdir) -> Rows:
    """The rows of a config's task for a model with its tokenizer.

    Raises:
        UserError: the task is not at hand.
    """
    # No weak model is asked, so that of its tokens nothing is needed.
    models = {"weak": dataclasses.replace(model, role="weak"), "strong": model}
    inputs = written_workload.COMPLETIONS.read(config, models, workdir)
    experiment, seed = written.Experiment(config, inputs), config.seeds[0]

    def rows(name: str) -> batches.ExampleSet:
        return experiment.student(seed, name).expected_sets()[batches.TASK]

    described = f"rows of {inputs.test.task.name}, right answers in the place of weak ones"
    return Rows(described, rows, lambda: _prompts(experiment.ceiling(seed).expected_sets()[batches.TASK]))


def _prompts(rows: batches.ExampleSet) -> example_texts.Tokens:
    counts = rows.columns[answer_tokens.COLUMN].astype(int)
    return [ids[: len(ids) - count] for ids, count in zip(rows.tokens, counts, strict=True)]


class Completions(workloads.Workloads):
    """The workloads of a config whose models write; `found` are `Rows`."""

    def check(self, name: str) -> None:
        del name  # all write

    def computation(self, name: str) -> step.Computation:
        del name
        return completion.completion(mean=self._config.loss.mean)

    def trained_settings(self) -> Any:
        return self.settings.language_model(self._model, self._mesh)

    def _keeps_trace(self, name: str) -> bool:
        return False

    def _step_of(self, made, name: str, sets) -> programs.Program:
        rows = sets[batches.TASK]
        num_answer = max(int(np.mean(rows.columns[answer_tokens.COLUMN])), 1)
        length = max(int(np.mean(rows.lengths)), num_answer + 1)
        return made.completion_step(self._model, length, num_answer, computation=self.computation(name))

    def _build_trained(self, sets) -> Callable[[], nnx.Module]:
        settings = self.trained_settings()
        return lambda: pretrained.random_trainable(self._model.config, settings)

    def _training_sets(self, name: str) -> tuple[dict[int, batches.ExampleSet], dict[int, int]]:
        return {batches.TASK: self._found.of(name)}, {batches.TASK: self._config.training.batch_size}
