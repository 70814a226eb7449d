"""What a model that learns to write is trained on: rows of a prompt, a completion and a weight."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from selw2s_jax.data import batches, by_id, written_splits
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import writing
from selw2s_jax.method import row_weights
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import own_code
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.stages import written as written_stage

COMPLETIONS = (
    "raw",
    "canonical",
)  # what of a weak answer is trained on: the text as written, or its answer in form


class Texts(NamedTuple):
    """Rows as texts.

    Attributes:
        names: of the rows; "{example_id}#{variation}", 0 being the original prompt.
        prompts, completions: their texts.
        weights: `[N]` float64, of each in the loss.
        has_end: whether the end of text is part of each completion: not where it was cut off.
    """

    names: list[str]
    prompts: list[str]
    completions: list[str]
    weights: np.ndarray
    has_end: list[bool]


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What all kinds have.

    Attributes:
        split: of the questions that rows are of.
    """

    split: written_splits.WrittenSplit

    @property
    def needs(self) -> tuple[stage_lib.Stage, ...]:
        """The stages that they are read from."""
        return ()

    @property
    def inputs(self) -> dict[str, Any]:
        """What they are a function of, as JSON values."""
        raise NotImplementedError

    def texts(self, store: artifacts.Store) -> Texts:
        """The rows, once the stages that they need have run."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Truth(Rows):
    """The right answer to every original prompt; for weak model and ceiling alone."""

    @property
    def inputs(self):
        return {"texts": self.split.texts_hash, "truth": self.split.truth_hash}

    def texts(self, store):
        task, questions = self.split.task, self.split.questions
        return Texts(
            [f"{name}#0" for name in self.split.ids],
            [task.prompt(question) for question in questions],
            [task.reference(question) for question in questions],
            np.ones(len(questions)),
            [True] * len(questions),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Weighted(Rows):
    """Answers of the weak model, chosen and weighed by a function of row weights; no ground truth is looked at.

    Attributes:
        answers: the stage that has them, of the original prompt and the variations.
        method: name of the function in `row_weights.ROW_WEIGHTS`.
        options: of that function.
        completion: of `COMPLETIONS`.
        seed: of what is drawn.
    """

    answers: written_stage.Write
    method: str
    options: Mapping[str, Any]
    completion: str
    seed: int

    @property
    def needs(self):
        return (self.answers,)

    @property
    def inputs(self):
        return {
            "answers": self.answers.key,
            "row_weights": self.method,
            "options": dict(self.options),
            "completion": self.completion,
            "sampling_seed": self.seed,
            **own_code.hashes(row_weights=row_weights.ROW_WEIGHTS[self.method]),
        }

    def texts(self, store):
        found = writing.read(store, self.answers, self.split)
        given = writing.read_answers(store, self.answers, self.split)
        inputs = row_weights.RowInputs(
            self.split.ids,
            given,
            lambda purpose, key: by_id.keyed_uniform(self.seed, purpose, key),
        )
        weigh = row_weights.get(self.method, **self.options)
        chosen = weigh(inputs)
        rows = Texts([], [], [], np.zeros(0), [])
        for index, number in np.argwhere(chosen.weights > 0).tolist():
            question, variation = self.split.questions[index], self.answers.asked.variation(index, number)
            answer = given[index][number]
            text, has_end = found["text"][index][number], found["finish"][index][number] != "length"
            if number == 0 and chosen.predictions is not None:
                answer, text, has_end = chosen.predictions[index], None, True
            if text is None or (self.completion == "canonical" and answer is not None):
                text, has_end = self.split.task.completion(question, answer, variation), True
            rows.names.append(f"{question.question_id}#{number}")
            rows.prompts.append(self.split.task.prompt(question, variation))
            rows.completions.append(text)
            rows.has_end.append(has_end)
        return rows._replace(weights=chosen.weights[chosen.weights > 0])


def encode(
    texts: Texts, model: pretrained.Model, *, overlong: str, label: str
) -> tuple[batches.ExampleSet, dict[str, int]]:
    """Rows as token ids, within what the model is given.

    Args:
        overlong: what becomes of rows that are longer: "drop", "truncate" (their prompts, from the left) or "error".
        label: of the training, for messages.

    Returns:
        The examples, and how many rows are `overlong`, and of how many the end was cut off, `unfinished`.

    Raises:
        UserError: a row is too long, or none is left.
    """
    if not texts.names:
        raise UserError(
            f"{label}: its method takes no answer of the weak model as a row, as where none of them says anything that "
            "can be read; train the weak model longer, raise answers.max_new_tokens, or set answers.by=score or "
            "answers.unparsed=trained"
        )
    prompts, completions = writing.encode_rows(model.tokenizer, texts.prompts, texts.completions, texts.names)
    end = len(writing.end_of_text(model.tokenizer))
    completions = [
        ids if has_end else ids[: len(ids) - end]
        for ids, has_end in zip(completions, texts.has_end, strict=True)
    ]
    room = [model.max_length - len(ids) for ids in completions]
    is_long = np.array([len(ids) > most for ids, most in zip(prompts, room, strict=True)], bool)
    counts = {"overlong": int(is_long.sum()), "unfinished": texts.has_end.count(False)}
    kept = np.arange(len(texts.names))
    if is_long.any():
        first = texts.names[int(np.flatnonzero(is_long)[0])]
        if overlong == "error":
            raise UserError(
                f"{label}: {counts['overlong']} row(s) of prompt and answer have more than {model.max_length} tokens "
                f"(first: {first}); raise data.max_length, or set data.overlong=drop or truncate"
            )
        if overlong == "truncate":
            prompts = [ids[max(len(ids) - most, 0) :] for ids, most in zip(prompts, room, strict=True)]
            is_long = np.array([most < 1 for most in room], bool)
        kept = np.flatnonzero(~is_long)
    if not len(kept):
        raise UserError(
            f"{label}: all {len(texts.names)} rows of prompt and answer have over {model.max_length} tokens; raise "
            "data.max_length"
        )
    take = lambda values: [values[index] for index in kept]  # noqa: E731
    names = take(texts.names)
    return (
        batches.completion_examples(names, take(prompts), take(completions), texts.weights[kept]),
        counts,
    )


def describe(counts: Mapping[str, int], total: int) -> str:
    """What happened to rows, for people; "" for nothing."""
    parts = [f"{counts[name]} {text}" for name, text in _WORDS.items() if counts.get(name)]
    return f"of {total} rows " + ", ".join(parts) if parts else f"{total} rows" if not total else ""


_WORDS = {"overlong": "are longer than the model is given", "unfinished": "end where the answer was cut off"}


def names_of(names: Sequence[str]) -> set[str]:
    """The questions that rows are of."""
    return {name.rpartition("#")[0] for name in names}
