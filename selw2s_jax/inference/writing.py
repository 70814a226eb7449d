"""A model answers questions of a task whose answers are written: at length, or with the likeliest of its candidates.

Each question is asked in its original prompt, number 0, and in those of its variations, 1 to N; an answer belongs to
(example_id, variation). Models that were trained with adapters answer with them unmerged.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from selw2s_jax.data import answer_tables, lengths, variations, written_splits
from selw2s_jax.data import answers as answers_lib
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained, tokenizers
from selw2s_jax.inference import answering, candidates, classify, generate, partials
from selw2s_jax.models import decoder
from selw2s_jax.runtime import artifacts

WAYS = ("generate", "score")
# Where a model goes on with a prompt of its own: all behind it is cut off when an answer is read, so nothing changes
# but the time. Not "###" alone, with which "#### 18" begins.
STOP = ("\n### ", " ### ")
BLOCK = 256  # written answers that are kept together: what a run that is stopped has to write again

Plan = Sequence[Sequence[variations.Variation]]  # of each question, without its original prompt


@dataclasses.dataclass(frozen=True)
class Answering:
    """How questions are answered.

    Attributes:
        by: "generate", where answers are written; or "score", where each is the likeliest of the task's candidates.
        max_new_tokens: of an answer that is written.
        temperature, top_p: of the next-token distribution, as for `generate.Settings`; 0 is greedy.
        seed: of the samples.

    Raises:
        UserError: `by` is no way to answer, or a number is none that generation takes.
    """

    by: str = "generate"
    max_new_tokens: int = 50
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.by not in WAYS:
            raise UserError(f"answers.by is {self.by!r}; choose one of {', '.join(WAYS)}")
        self.sampling(())

    @property
    def is_scored(self) -> bool:
        return self.by == "score"

    @property
    def is_sampled(self) -> bool:
        return not self.is_scored and self.temperature > 0

    def sampling(self, eos_ids: tuple[int, ...]) -> generate.Settings:
        """What is generated; greedy answers have no use for `top_p` and `seed`, so all have the same."""
        settings = generate.Settings(
            self.max_new_tokens,
            self.temperature,
            top_p=self.top_p,
            stop=STOP,
            eos_ids=eos_ids,
            seed=self.seed,
        )
        return settings if self.temperature > 0 else dataclasses.replace(settings, top_p=1.0, seed=0)


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """What a model is asked: P prompts, of each question of a split the original one and then those of its variations.

    Attributes:
        plan: the variations of each question.
    """

    split: written_splits.WrittenSplit
    plan: Plan

    def __post_init__(self):
        if len(self.plan) != len(self.split):
            raise ValueError(f"variations of {len(self.plan)} questions for {len(self.split)}")

    def __len__(self) -> int:
        return sum(1 + len(own) for own in self.plan)

    @functools.cached_property
    def places(self) -> list[tuple[int, int]]:
        """Of each prompt, the index of its question and the number of its variation."""
        return [(i, number) for i, own in enumerate(self.plan) for number in range(1 + len(own))]

    def variation(self, question: int, number: int) -> variations.Variation | None:
        return self.plan[question][number - 1] if number else None

    def each(self, function) -> list:
        """`function(question, variation)` of each prompt."""
        return [function(self.split.questions[i], self.variation(i, number)) for i, number in self.places]

    @functools.cached_property
    def example_ids(self) -> list[str]:
        """Of each prompt, that of its question."""
        return [self.split.ids[i] for i, _ in self.places]

    @functools.cached_property
    def prompts(self) -> list[str]:
        return self.each(self.split.task.prompt)

    @functools.cached_property
    def candidates(self) -> list[list[str]] | None:
        """Of each prompt the completions in original order; None where the task has none."""
        found = self.each(self.split.task.candidates)
        return None if any(own is None for own in found) else found


class Answers(NamedTuple):
    """Answers to P prompts, before they are parsed.

    Attributes:
        texts: as written, before a stop string and the end of text; of scored ones the candidate.
        finish: why each ended: "eos", "stop", "length", or "scored".
        num_tokens: `[P]` int32, the one that ended it among them.
        log_probs: `[P]` float32 of the candidate, NaN where it was written.
        chosen: `[P]` int32, which candidate it is; -1 where it was written.
    """

    texts: list[str]
    finish: list[str]
    num_tokens: np.ndarray
    log_probs: np.ndarray
    chosen: np.ndarray


def check_ends(tokenizer: tokenizers.Tokenizer) -> None:
    """Raises UserError where a model that is trained to write could not learn to end."""
    if not tokenizer.eos_ids:
        raise UserError(
            f"the tokenizer of {tokenizer.files[0].parent} names no end-of-text token, so a model that learns to write "
            "answers would never end one: use the tokenizer files that came with the model, or name an eos_token in "
            "its tokenizer_config.json"
        )


def end_of_text(tokenizer: tokenizers.Tokenizer) -> list[int]:
    """The token that ends a completion; [] where the tokenizer has none.

    Of several it is the first: the end of a text, which has a lower id than that of a chat's turn in all families.
    """
    return list(tokenizer.eos_ids[:1])


def encode_rows(
    tokenizer: tokenizers.Tokenizer,
    prompts: Sequence[str],
    completions: Sequence[str],
    names: Sequence[str] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Token ids of prompts and of the completions behind them, which end with the end of text, to be trained on.

    A completion begins at the first token that is none of the prompt's own (`candidates.begin_length`).

    Args:
        prompts, completions: of N rows; a completion with its leading space.
        names: of the rows, for errors.

    Returns:
        int32 ids of each prompt, the tokenizer's BOS in front where it puts one; and of each completion.

    Raises:
        UserError: the tokenizer has no end of text, or a prompt has no tokens.
    """
    check_ends(tokenizer)
    own = tokenizer.encode_batch(prompts)
    whole = tokenizer.encode_batch([a + b for a, b in zip(prompts, completions, strict=True)])
    shared = [candidates.begin_length(ids, [both]) for ids, both in zip(own, whole, strict=True)]
    if 0 in shared:
        row = shared.index(0)
        raise UserError(
            f"the prompt of {names[row] if names else f'row {row + 1}'} has no tokens: give it text"
        )
    return (
        [np.array(both[:length], np.int32) for both, length in zip(whole, shared, strict=True)],
        [
            np.array([*both[length:], *end_of_text(tokenizer)], np.int32)
            for both, length in zip(whole, shared, strict=True)
        ],
    )


# Checks before any device work.


def check(model: pretrained.Model, asked: Asked, how: Answering) -> None:
    """Checks that a model can be asked.

    Raises:
        UserError: the task has no candidates to score, or a prompt leaves no room for its answer.
    """
    context = model.config.max_seq_len
    for place, (of_prompt, of_answer) in _long(model, asked, how).items():
        question, number = asked.places[place]
        raise UserError(
            f"prompt {number} of {asked.split.ids[question]} has {of_prompt} tokens, its answer may have {of_answer}, "
            f"and the context of {model.name} holds {context}: set data.overlong=drop to leave out what does not fit"
            f"{'' if how.is_scored else ', lower answers.max_new_tokens'}, or choose a model with a longer context"
        )


def too_long(
    model: pretrained.Model, split: written_splits.WrittenSplit, plan: Plan, how: Answering
) -> np.ndarray:
    """Which questions have a prompt that leaves no room in the model's context for its answer, `[Q]` bool.

    Raises:
        UserError: the task has no candidates to score.
    """
    asked = Asked(split, plan)
    found = np.zeros(len(split), bool)
    found[[asked.places[place][0] for place in _long(model, asked, how)]] = True
    return found


def _long(model: pretrained.Model, asked: Asked, how: Answering) -> dict[int, tuple[int, int]]:
    """The prompts that do not fit, with the tokens of each and of its answer."""
    if how.is_scored and asked.candidates is None:
        raise UserError(
            f"answers.by='score' needs candidates, and {asked.split.task.name} has none, as its answers are numbers: "
            "set answers.by=generate"
        )
    context, tokenizer = model.config.max_seq_len, model.tokenizer
    if tokenizer is None:
        return {}  # of a plan, where it is not known; a run has one
    if not how.is_scored:
        room = context - how.max_new_tokens
        unsure = [i for i, text in enumerate(asked.prompts) if lengths.most_tokens(text) > room]
        encoded = tokenizer.encode_batch([asked.prompts[i] for i in unsure])
        return {
            i: (len(ids), how.max_new_tokens)
            for i, ids in zip(unsure, encoded, strict=True)
            if len(ids) > room
        }
    unsure = [
        i
        for i, (text, own) in enumerate(zip(asked.prompts, asked.candidates, strict=True))
        if any(lengths.most_tokens(text + one) >= context for one in own)
    ]
    own, found = candidates.encode_batch(
        tokenizer,
        *([column[i] for i in unsure] for column in (asked.prompts, asked.candidates, asked.example_ids)),
    )
    ends = len(end_of_text(tokenizer))
    sizes = [(len(ids), max(map(len, texts)) + ends) for ids, texts in zip(own, found, strict=True)]
    return {i: size for i, size in zip(unsure, sizes, strict=True) if sum(size) > context}


# Answers.


def answer(
    language_model: decoder.Decoder,
    tokenizer: tokenizers.Tokenizer,
    asked: Asked,
    how: Answering,
    *,
    batch_tokens: int,
    label: str,
    partial: partials.Partial,
) -> Answers:
    """Answers to all prompts; those that are asked alike are answered once, but for samples.

    Args:
        language_model: with its language-model head; a `language_model.LanguageModel` too.
        batch_tokens: tokens in one batch, or slots of the KV cache.
        label: name in progress lines.
        partial: what is done already, and where it is kept.

    Raises:
        NotFiniteError: the model gives no finite numbers for a prompt (`classify.NotFiniteError`).
        Preempted: the run was told to stop.
    """
    options = {"batch_tokens": batch_tokens, "label": label, "partial": partial}
    alike: dict[Any, list[int]] = {}
    for place, text in enumerate(asked.prompts):
        same = (text, *asked.candidates[place]) if how.is_scored else place if how.is_sampled else text
        alike.setdefault(same, []).append(place)
    chosen = [places[0] for places in alike.values()]
    ask = _score if how.is_scored else _write
    try:
        found = ask(language_model, tokenizer, asked, chosen, how, **options)
    except classify.NotFiniteError as error:
        raise classify.NotFiniteError(chosen[error.index]) from error
    row = np.empty(len(asked), np.int64)
    for number, places in enumerate(alike.values()):
        row[places] = number
    return Answers(
        *([column[i] for i in row] if isinstance(column, list) else column[row] for column in found)
    )


def _write(language_model, tokenizer, asked, chosen, how, *, batch_tokens, label, partial) -> Answers:
    """Written answers to chosen prompts, block by block: like lengths together, the longest first.

    So a cache has few sizes, and memory runs out at once or never. A block is one file of what is done.
    """
    tokens = [np.array(ids, np.int32) for ids in tokenizer.encode_batch([asked.prompts[i] for i in chosen])]
    # The sample of an answer is a function of this name and the seed alone.
    names = [f"{asked.example_ids[i]}/variation/{asked.places[i][1]}" for i in chosen]
    order = np.argsort([-len(ids) for ids in tokens], kind="stable")
    settings = how.sampling(tokenizer.eos_ids)
    columns = [[], [], []]
    for first in range(0, len(order), BLOCK):
        block = order[first : first + BLOCK]
        own = partial.part(f"{first + 1}_of_{len(order)}")
        index, stored = own.load()
        if not np.array_equal(index, block):
            stored = _write_block(
                language_model,
                tokenizer,
                block,
                tokens,
                names,
                settings,
                batch_tokens=batch_tokens,
                label=f"{label}, from answer {first + 1} of {len(order)}",
            )
            own.save(block, stored)
            own.settle()
        for column, part in zip(columns, stored, strict=True):
            column.append(part)
    back = np.argsort(order)
    texts, finish, num_tokens = (np.concatenate(column)[back] for column in columns)
    size = len(chosen)
    return Answers(
        texts.tolist(),
        finish.tolist(),
        num_tokens,
        np.full(size, np.nan, np.float32),
        np.full(size, -1, np.int32),
    )


def _write_block(language_model, tokenizer, block, tokens, names, settings, **options) -> list[np.ndarray]:
    """Texts, why they ended and their numbers of tokens, of the prompts of a block."""
    try:
        written = generate.generate(
            language_model,
            tokenizer,
            [tokens[i] for i in block],
            [names[i] for i in block],
            settings,
            **options,
        )
    except classify.NotFiniteError as error:
        raise classify.NotFiniteError(int(block[error.index])) from error
    found = [own for (own,) in written]
    texts = [continuation(tokenizer, tokens[i], own) for i, own in zip(block, found, strict=True)]
    num_tokens = np.array([len(own.tokens) for own in found], np.int32)
    return [np.array(texts), np.array([own.finish for own in found]), num_tokens]


def continuation(tokenizer: tokenizers.Tokenizer, prompt: np.ndarray, completion: generate.Completion) -> str:
    """The text of a completion as it goes on behind its prompt.

    What SentencePiece makes of tokens alone lacks the space of the first word.
    """
    before = tokenizer.decode(prompt[-1:].tolist())
    both = tokenizer.decode([*prompt[-1:].tolist(), *completion.tokens.tolist()])
    is_bare = completion.text and both.startswith(f"{before} {completion.text}")
    return f" {completion.text}" if is_bare else completion.text


def _score(language_model, tokenizer, asked, chosen, how, *, batch_tokens, label, partial) -> Answers:
    """The likeliest candidate of each chosen prompt, with the end of text, as answers are learnt; the first of equals.

    With the end none gains by being the beginning of another.
    """
    del how
    texts, names = [asked.candidates[i] for i in chosen], [asked.example_ids[i] for i in chosen]
    own, found = candidates.encode_batch(tokenizer, [asked.prompts[i] for i in chosen], texts, names)
    ends = np.array(end_of_text(tokenizer), np.int32)
    found = [[np.concatenate([ids, ends]) for ids in of_one] for of_one in found]
    log_probs = candidates.log_probs(
        language_model,
        own,
        found,
        names,
        mesh=language_model.mesh,
        batch_tokens=batch_tokens,
        label=label,
        partial=partial,
    )
    best = [int(np.argmax(of_one)) for of_one in log_probs]

    def pick(columns: Sequence[Sequence]) -> list:
        return [of_one[i] for of_one, i in zip(columns, best, strict=True)]

    num_tokens = np.array([len(ids) for ids in pick(found)], np.int32)
    likeliest = np.array(pick(log_probs), np.float32)
    return Answers(pick(texts), ["scored"] * len(best), num_tokens, likeliest, np.array(best, np.int32))


# Tables of answers.


def answer_split(
    folder: pathlib.Path,
    language_model: decoder.Decoder,
    model: pretrained.Model,
    asked: Asked,
    how: Answering,
    *,
    batch_tokens: int,
    label: str,
    partial: partials.Partial,
) -> None:
    """Writes `answer_tables.FILE`, the parsed answers by example_id and variation, and a summary.

    Args:
        folder: of the artifact that is being made.
        language_model, batch_tokens, label, partial: as `answer`.

    Raises:
        UserError: the model gives no finite numbers.
        Preempted: the run was told to stop.
    """
    options = {"batch_tokens": batch_tokens, "label": label, "partial": partial}
    with answering.naming(model.name, asked.example_ids, language_model):
        found = answer(language_model, model.tokenizer, asked, how, **options)
    columns = make_table(asked, found)
    artifacts.write_table(folder / answer_tables.FILE, columns)
    summary = answer_tables.summarize(columns, len(asked.split))
    artifacts.write_text(folder / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
    print(f"  {answer_tables.describe(summary)}")


def make_table(asked: Asked, found: Answers) -> dict[str, Any]:
    """Columns of `answer_tables.FILE`, a row for each prompt.

    `prediction` is the answer as text, a choice by its index in the original order; `letter` the place at which that
    choice was shown, -1 for none.
    """
    task, rows = asked.split.task, []
    for place, (question, number) in enumerate(asked.places):
        variation = asked.variation(question, number)
        if found.chosen[place] >= 0:
            parsed = answers_lib.Parsed(int(found.chosen[place]), "scored")
        else:
            parsed = task.parse(asked.split.questions[question], found.texts[place], variation)
        letter = _shown_at(parsed.answer, variation) if task.kind == "choice" else -1
        rows.append((answers_lib.to_text(parsed.answer), letter, parsed.rule or "", parsed.conflicts))
    prediction, letter, rule, conflicts = (list(column) for column in zip(*rows, strict=True))
    return {
        "example_id": asked.example_ids,
        "variation": np.array([number for _, number in asked.places], np.int32),
        "text": found.texts,
        "prediction": prediction,
        "letter": np.array(letter, np.int32),
        "rule": rule,
        "conflicts": np.array(conflicts, bool),
        "finish": found.finish,
        "log_prob": found.log_probs,
        "num_tokens": found.num_tokens,
    }


def _shown_at(choice: int | None, variation: variations.Variation | None) -> int:
    if choice is None:
        return -1
    return choice if variation is None or variation.order is None else variation.order.index(choice)


def read(store: artifacts.Store, stage: Any, split: written_splits.WrittenSplit) -> dict[str, list[list]]:
    """`answer_tables.by_question` of a finished `stages.written.Write`, in the order of a split."""
    table = store.find(stage.name, stage.inputs).read_table(answer_tables.FILE)
    return answer_tables.by_question(table, split.ids, f"artifact {stage.name}/{stage.key}")


def read_answers(
    store: artifacts.Store, stage: Any, split: written_splits.WrittenSplit
) -> list[list[answers_lib.Answer | None]]:
    """Parsed answers `[Q][1 + N]` of a finished `stages.written.Write`, in the order of a split; None for none."""
    return [[answers_lib.from_text(text) for text in own] for own in read(store, stage, split)["prediction"]]
