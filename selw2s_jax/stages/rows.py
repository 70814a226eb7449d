"""What a model that learns to write is trained on: rows of a prompt, a completion and a weight."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from selw2s_jax import errors
from selw2s_jax.data import batches, by_id, lengths, written_splits
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import writing
from selw2s_jax.method import row_weights
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import own_code, predict
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.stages import written as written_stage

# What of a weak answer is trained on: the text as written, or its answer in the task's form.
COMPLETIONS = ("raw", "canonical")


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
    def most(self) -> int:
        """How many rows there are at most."""
        raise NotImplementedError

    @property
    def inputs(self) -> dict[str, Any]:
        """What they are a function of, as JSON values."""
        raise NotImplementedError

    def texts(self, store: artifacts.Store) -> Texts:
        """The rows, once the stages that they need have run."""
        raise NotImplementedError

    @property
    def known(self) -> Texts | None:
        """The rows, where no stage has to run for them."""
        return None

    @property
    def num_expected(self) -> int:
        """How many rows a plan counts with, before any stage has run."""
        return len(self.expected.names)

    @property
    def expected(self) -> Texts:
        """The rows that a plan packs, before any stage has run."""
        return self.known


@dataclasses.dataclass(frozen=True, eq=False)
class Truth(Rows):
    """The right answer to every original prompt; for weak model and ceiling alone."""

    @property
    def most(self):
        return len(self.split)

    @property
    def inputs(self):
        return {"texts": self.split.texts_hash, "truth": self.split.truth_hash}

    def texts(self, store):
        return self.known

    @property
    def num_expected(self):
        return self.most

    @property
    def known(self):
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
        own: the stage that has the strong model's own answers, of methods that use them.
        p_ik: the stage that has P(IK) of its answers, of methods that use it.
    """

    answers: written_stage.Write
    method: str
    options: Mapping[str, Any]
    completion: str
    seed: int
    own: written_stage.Write | None = None
    p_ik: predict.Predict | None = None

    @property
    def needs(self):
        return tuple(stage for stage in (self.answers, self.own, self.p_ik) if stage is not None)

    @property
    def most(self):
        return len(self.answers.asked)

    @property
    def inputs(self):
        # Prompts, choices and their orders are in the key of the answers.
        return {
            "answers": self.answers.key,
            "row_weights": self.method,
            "options": dict(self.options),
            "completion": self.completion,
            "sampling_seed": self.seed,
            **({} if self.own is None else {"own_answers": self.own.key}),
            **({} if self.p_ik is None else {"p_ik": self.p_ik.key}),
            **own_code.hashes(
                row_weights=row_weights.ROW_WEIGHTS[self.method], completion=type(self.split.task).completion
            ),
        }

    def texts(self, store):
        found = writing.read(store, self.answers, self.split)
        given = writing.read_answers(store, self.answers, self.split)
        inputs = row_weights.RowInputs(
            self.split.ids,
            given,
            lambda purpose, key: by_id.keyed_uniform(self.seed, purpose, key),
            None if self.own is None else writing.read_answers(store, self.own, self.split),
            None
            if self.p_ik is None
            else stage_lib.read_column(store, self.p_ik, predict.FILE, "p_ik", self.split),
        )
        chosen = weigh(self.method, self.options, inputs)
        weights = np.asarray(chosen.weights, np.float32)  # as the loss has them
        rows, asked = Texts([], [], [], weights[weights > 0], []), self.answers.read_asked(store)
        for index, number in np.argwhere(weights > 0).tolist():
            question, variation = self.split.questions[index], asked.variation(index, number)
            answer = given[index][number]
            text, has_end = found["text"][index][number], found["finish"][index][number] != "length"
            if number == 0 and chosen.predictions is not None:
                is_own = chosen.is_own is not None and chosen.is_own[index]
                # What the weak model wrote here stays where it is the weak model's answer that was chosen.
                text = text if chosen.predictions[index] == answer and not is_own else None
                answer = chosen.predictions[index]
            if text is None or (self.completion == "canonical" and answer is not None):
                text, has_end = self.split.task.completion(question, answer, variation), True
            rows.names.append(f"{question.question_id}#{number}")
            rows.prompts.append(self.split.task.prompt(question, variation))
            rows.completions.append(text)
            rows.has_end.append(has_end)
        return rows

    @property
    def num_expected(self):
        return int(np.count_nonzero(self._expected_weights))

    @property
    def expected(self):
        """Those of answers that can all be read and agree: filters then leave out the fewest.

        What was not yet written stands there as long as ground truth is; nothing else of it is used.
        """
        task, questions, asked = self.split.task, self.split.questions, self.answers.asked
        places = [tuple(place) for place in np.argwhere(self._expected_weights > 0).tolist()]
        shown = [(questions[index], asked.variation(index, number)) for index, number in places]
        return Texts(
            [f"{self.split.ids[index]}#{number}" for index, number in places],
            [task.prompt(*one) for one in shown],
            [task.reference(*one) for one in shown],
            np.ones(len(places)),
            [True] * len(places),
        )

    @functools.cached_property
    def _expected_weights(self) -> np.ndarray:
        """`[Q, 1 + N]` of the method, of the same answer in every prompt."""
        given = [[0] * (1 + len(own)) for own in self.answers.plan]
        inputs = row_weights.RowInputs(
            self.split.ids,
            given,
            lambda purpose, key: by_id.keyed_uniform(self.seed, purpose, key),
            None if self.own is None else given,
            None if self.p_ik is None else np.ones(len(given), np.float32),
        )
        return np.asarray(weigh(self.method, self.options, inputs).weights)


@dataclasses.dataclass(frozen=True, eq=False)
class First(Rows):
    """The first part of other rows, in their order: question by question as in the split, of one by its variations.

    Attributes:
        rows: those.
        share: of them, as `num_first` counts.
    """

    rows: Rows
    share: float

    @property
    def needs(self):
        return self.rows.needs

    @property
    def most(self):
        return num_first(self.share, self.rows.most)

    @property
    def inputs(self):
        return {"first_share": self.share, "rows": self.rows.inputs}

    def texts(self, store):
        return self._cut(self.rows.texts(store))

    @property
    def known(self):
        return None if self.rows.known is None else self._cut(self.rows.known)

    @property
    def num_expected(self):
        return num_first(self.share, self.rows.num_expected)

    @property
    def expected(self):
        return self._cut(self.rows.expected)

    def _cut(self, texts: Texts) -> Texts:
        return Texts(*(column[: num_first(self.share, len(texts.names))] for column in texts))


def num_first(share: float, total: int) -> int:
    """How many of so many are the first share: int(share * total) in float64, but one at least where there are any."""
    return min(total, max(1, int(share * total)))


def weigh(method: str, options: Mapping[str, Any], inputs: row_weights.RowInputs) -> row_weights.Rows:
    """What the row weights of that name give.

    Raises:
        UserError: they fail, or it is not as `row_weights.check_rows` wants it.
    """
    try:
        found = row_weights.get(method, **options)(inputs)
        row_weights.check_rows(found, list(map(len, inputs.answers)))
    except Exception as error:
        raise UserError(
            f"method {method!r}: its row weights fail: {errors.one_line(error, with_type=True)}"
        ) from error
    return found


class _Ids(NamedTuple):
    """Token ids of rows, before what is too long is settled.

    Attributes:
        prompts, completions: of each; the end of text among the latter where it is part of them.
        is_long: `[N]` bool: longer than the model is given.
        is_lost: `[N]` bool: left out.
    """

    prompts: list[np.ndarray]
    completions: list[np.ndarray]
    is_long: np.ndarray
    is_lost: np.ndarray


def encode(
    texts: Texts, model: pretrained.Model, *, overlong: str, label: str, learn_end: bool = True
) -> tuple[batches.ExampleSet, dict[str, int]]:
    """Rows as token ids, within what the model is given.

    Args:
        overlong: what becomes of rows that are longer: "drop", "truncate" (their prompts, from the left, a BOS token in
            front stays; where the answer leaves no room they are dropped) or "error".
        label: of the training, for messages.
        learn_end: False leaves the end of text out of every completion.

    Returns:
        The examples, and of the rows how many are `overlong`, `left_out`, and `unfinished`: their ends were cut off.

    Raises:
        UserError: a row is too long, or none is left.
    """
    if not texts.names:
        raise UserError(
            f"{label}: its method takes no answer of the weak model as a row, as where none of them says anything that "
            "can be read; train the weak model longer, raise answers.max_new_tokens, or set answers.by=score, "
            "answers.reading=rules (where it is first) or answers.unparsed=trained"
        )
    prompts, completions, is_long, is_lost = _tokenize(_ended(texts, learn_end), model, overlong)
    _refuse(texts.names, is_long, is_lost, model, overlong=overlong, label=label)
    num_front, most = _num_front(model), model.max_length
    kept = np.flatnonzero(~is_lost)
    prompts = [
        np.array(lengths.truncated(prompts[i], most - len(completions[i]), num_front), np.int32) for i in kept
    ]
    counts = {
        "overlong": int(is_long.sum()),
        "left_out": int(is_lost.sum()),
        "unfinished": texts.has_end.count(False),
    }
    take = lambda values: [values[index] for index in kept]  # noqa: E731
    examples = batches.completion_examples(take(texts.names), prompts, take(completions), texts.weights[kept])
    return examples, counts


def check(texts: Texts, model: pretrained.Model, *, overlong: str, label: str, learn_end: bool = True) -> int:
    """How many rows `encode` gives, at less work: only what may be too long is made into tokens.

    Raises:
        UserError: as `encode`.
    """
    is_long, is_lost = np.zeros((2, len(texts.names)), bool)
    both = zip(texts.prompts, texts.completions, strict=True)
    unsure = [i for i, (a, b) in enumerate(both) if lengths.most_tokens(a + b) >= model.max_length]
    if unsure:
        columns = (texts.names, texts.prompts, texts.completions, texts.has_end)
        names, prompts, completions, has_end = ([column[i] for i in unsure] for column in columns)
        some = Texts(names, prompts, completions, texts.weights[unsure], has_end)
        some = _tokenize(_ended(some, learn_end), model, overlong)
        is_long[unsure], is_lost[unsure] = some.is_long, some.is_lost
    _refuse(texts.names, is_long, is_lost, model, overlong=overlong, label=label)
    return int((~is_lost).sum())


def _ended(texts: Texts, learn_end: bool) -> Texts:
    return texts if learn_end else texts._replace(has_end=[False] * len(texts.has_end))


def _num_front(model: pretrained.Model) -> int:
    return int(model.tokenizer.bos_id is not None)


def _tokenize(texts: Texts, model: pretrained.Model, overlong: str) -> _Ids:
    prompts, completions = writing.encode_rows(model.tokenizer, texts.prompts, texts.completions, texts.names)
    end = len(writing.end_of_text(model.tokenizer))
    completions = [
        ids if has_end else ids[: len(ids) - end]
        for ids, has_end in zip(completions, texts.has_end, strict=True)
    ]
    sizes, room = (np.array(list(map(len, ids))) for ids in (prompts, completions))
    room = model.max_length - room
    is_long = sizes > room
    # An answer that was cut off before it had any text has nothing to learn.
    is_empty = np.array([not len(ids) for ids in completions])
    is_lost = (room <= _num_front(model) if overlong == "truncate" else True) & is_long
    return _Ids(prompts, completions, is_long, is_lost | is_empty)


def _refuse(
    names: Sequence[str],
    is_long: np.ndarray,
    is_lost: np.ndarray,
    model: pretrained.Model,
    *,
    overlong,
    label,
) -> None:
    """Raises a UserError where a row is too long, or none is left."""
    if overlong == "error" and is_long.any():
        raise UserError(
            f"{label}: {is_long.sum()} of {len(names)} rows of prompt and answer have more than {model.max_length} "
            f"tokens (first: {names[int(np.argmax(is_long))]}); raise data.max_length, or set data.overlong=drop or "
            "truncate"
        )
    if is_lost.all():
        num_empty = int((is_lost & ~is_long).sum())
        empty = (
            f"; {num_empty} were cut off before they had any text: raise answers.max_new_tokens"
            if num_empty
            else ""
        )
        raise UserError(
            f"{label}: none of the {len(names)} rows of prompt and answer is left, as {is_long.sum()} have more than "
            f"{model.max_length} tokens; raise data.max_length{empty}"
        )


def describe(counts: Mapping[str, int], total: int) -> str:
    """What happened to rows, for people; "" for nothing."""
    parts = [f"{counts[name]} {text}" for name, text in _WORDS.items() if counts[name]]
    return f"of {total} rows {', '.join(parts)}" if parts else ""


_WORDS = {
    "overlong": "are longer than data.max_length or the context",
    "left_out": "are left out",
    "unfinished": "end where the answer was cut off",
}


def names_of(names: Sequence[str]) -> set[str]:
    """The questions that rows are of."""
    return {name.rpartition("#")[0] for name in names}
