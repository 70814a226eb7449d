"""What a trained model that writes answers to questions, and how reliable that is: whether it answers variations alike.

Reliability-Aware Alignment (arXiv 2406.19032) asks the weak model so; here any trained model is asked.
"""

import os
import pathlib
import string
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np
from etils import epath

from selw2s_jax import config as config_lib
from selw2s_jax.data import (
    answer_tables,
    answers,
    doubts,
    tasks,
    variation_plans,
    written_files,
    written_tasks,
)
from selw2s_jax.data import written_splits as splits_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import plugins
from selw2s_jax.hf import tokenizers
from selw2s_jax.inference import answering, partials, writing
from selw2s_jax.method import reliability
from selw2s_jax.models import registry
from selw2s_jax.predict import tables
from selw2s_jax.run import run_config, student_models, students
from selw2s_jax.runtime import compilation_cache
from selw2s_jax.training import layouts

COLUMNS = tables.Columns(
    {
        **dict.fromkeys(
            ("example_id", "question", "text", "answer", "letter", "finish", "majority"), "string"
        ),
        "conflicts": "bool",
        **dict.fromkeys(("agreeing", "variations"), "int64"),
    }
)
_TOO_LONG = "too_long"  # how an answer ended that was not asked for


class _Model(NamedTuple):
    """What the check of lengths reads of a `pretrained.Model`."""

    name: str
    config: registry.ModelConfig
    tokenizer: tokenizers.Tokenizer


class Asked(NamedTuple):
    """A model with the prompts of N questions, before any device work.

    Attributes:
        model: what reads them.
        base: folder of the pretrained model, None where all was trained.
        split: the questions, those that do not fit too.
        asked: those that do, with their variations.
        how: the original prompts are answered: as in the run's tests.
        varied: variations are: as in the run.
        labels: of each question, which here has none.
        notes: what a reader of the answers has to know.
    """

    student: students.Student
    config: ml_collections.ConfigDict
    model: _Model
    base: pathlib.Path | None
    split: splits_lib.WrittenSplit
    asked: writing.Asked
    how: writing.Answering
    varied: writing.Answering
    labels: list[None]
    notes: list[str]


def prepare(
    student: students.Student,
    input_path: os.PathLike | str,
    *,
    base: os.PathLike | str | None = None,
    tokenizer: os.PathLike | str | None = None,
    variations: int | None = None,
) -> Asked:
    """Reads questions, and checks the model that is asked.

    Args:
        student: any trained model of a run whose models write, the weak one too.
        input_path: questions as `data.written_files.read` takes them.
        base, tokenizer: folders of the pretrained model, which is needed where only a part was trained, and of its
            tokenizer's files; default where the run found them.
        variations: N, of each question; 0 for none; default that of the run.

    Raises:
        UserError: a file, a folder, a model or a question is not fit.
    """
    task, found = _task(student), doubts.Found()
    return _prepare(
        student,
        written_files.read(input_path, task, found=found),
        found,
        base=base,
        tokenizer=tokenizer,
        variations=variations,
    )


def asker(
    student: students.Student, **options: Any
) -> Callable[[Sequence[str | Mapping[str, Any]]], list[dict[str, Any]]]:
    """A model that is asked questions of a script: questions alone, or the fields of lines as `written_files` has them.

    It is loaded each time.

    Args:
        options: as `prepare` takes them.

    Returns:
        Questions -> the records of `answer`.

    Raises:
        UserError: its task asks and reads answers by code that is not kept.
    """
    task = _task(student)

    def ask(questions: Sequence[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
        found = doubts.Found()
        given = written_files.from_script(questions, task, found=found)
        if not given:
            return []
        asked = _prepare(student, given, found, **options)
        for note in asked.notes:
            print(f"note: {note}", flush=True)
        compilation_cache.enable()
        return answer(asked)

    return ask


def _task(student: students.Student) -> written_tasks.WrittenTask:
    """By which a model is asked.

    Raises:
        UserError: code that is not kept does so.
    """
    facts = student.facts
    if facts.written is None or facts.written.has_own_code:
        raise UserError(
            f"the task {facts.task} asks and reads answers by code of its own, which the model is kept without: ask it "
            "in a script that imports the task's module"
        )
    return facts.written.task


def _prepare(
    student: students.Student,
    questions: Sequence[tasks.Question],
    found: doubts.Found,
    *,
    base: os.PathLike | str | None = None,
    tokenizer: os.PathLike | str | None = None,
    variations: int | None = None,
) -> Asked:
    facts, config = student.facts, run_config.read(student)
    if student.config.family not in registry.FAMILIES:  # one of the user's own
        plugins.load(config)
    split = splits_lib.WrittenSplit(facts.written.task, questions)
    plan = _plan(split, config, facts.seed, variations, found)
    model = _Model(facts.base, student.config, student_models.load_tokenizer(student, tokenizer))
    folder = None if facts.trained == "all" else student_models.find_base(student, base)
    how = writing.Answering(by=facts.written.by, max_new_tokens=facts.written.max_new_tokens)
    varied = _how_varied(facts, config)
    fits = _fits(model, split, plan, max(how, varied, key=lambda one: one.max_new_tokens), found)
    asked = writing.Asked(split.only(fits), [plan[i] for i in np.flatnonzero(fits)])
    return Asked(student, config, model, folder, split, asked, how, varied, [None] * len(split), found.notes)


def answer(given: Asked, known: Any = None) -> list[dict[str, Any]]:
    """What is answered to each question.

    Returns:
        A record of each question: example_id, question, text, answer, letter, conflicts, finish, log_prob, entropy,
        s_prob, agreeing, variations and majority, as docs/reliability.md describes them.

    Raises:
        UserError: the trained model is damaged.
    """
    del known  # no other model is asked
    asked, config = given.asked, given.config
    of_each = _ask(given)
    answered = _answer_all(asked.split, of_each, config)
    not_asked = dict.fromkeys(next(iter(answered.values()))) | {"finish": _TOO_LONG}
    return [
        {"example_id": question.question_id, "question": question.text}
        | answered.get(question.question_id, not_asked)
        for question in given.split.questions
    ]


def columns_of(records: Sequence[dict[str, Any]]) -> tables.Columns:
    """Of a table of records."""
    del records  # the same of all
    return COLUMNS


def _plan(
    split: splits_lib.WrittenSplit,
    config: ml_collections.ConfigDict,
    seed: int,
    count: int | None,
    found: doubts.Found,
) -> writing.Plan:
    """The variations of each question, drawn as the run of that seed draws them."""
    section = config.variations
    if count == 0:
        return [()] * len(split)
    kind = section.kind
    if kind not in (variation_plans.AUTO, *_OF_ANY_QUESTION) or section.file is not None:
        found.note(
            f"the run's variations of questions, {section.file or kind}, are of its own; these here are varied as by "
            "variations.kind=auto"
        )
        kind = variation_plans.AUTO
    settings = variation_plans.Plan(
        kind=kind,
        count=section.count if count is None else count,
        seed=config_lib.seed_for(config, seed, "sampling"),
        cyclic=section.cyclic,
    )
    return variation_plans.plan(split, settings)


_OF_ANY_QUESTION = ("permutation", "words", "rules", "sampling")  # kinds that need no more than the question


def _how_varied(facts: students.Facts, config: ml_collections.ConfigDict) -> writing.Answering:
    """How the run asked its variations, whose answers may be sampled, and longer than those to tests."""
    return writing.Answering(
        by=facts.written.by,
        max_new_tokens=config.answers.max_new_tokens or facts.written.task.max_new_tokens,
        temperature=config.answers.temperature,
        top_p=config.answers.top_p,
        seed=config_lib.seed_for(config, facts.seed, "sampling"),
    )


def _fits(
    model: _Model,
    split: splits_lib.WrittenSplit,
    plan: writing.Plan,
    how: writing.Answering,
    found: doubts.Found,
) -> np.ndarray:
    """The questions whose prompts leave room for an answer, `[Q]` bool."""
    is_long = writing.too_long(model, split, plan, how)
    if is_long.any():
        first = split.ids[int(np.flatnonzero(is_long)[0])]
        what = (
            f"{is_long.sum()} of {len(split)} questions leave no room for an answer in the {model.config.max_seq_len} "
            f"tokens of {model.name} (first: {first})"
        )
        if is_long.all():
            raise UserError(f"{what}; shorten them")
        found.note(f"{what}: they are not asked")
    return ~is_long


def _ask(given: Asked) -> list[dict[str, list]]:
    """Of each question, columns of `answer_tables.FILE`: the answer to the original prompt, then to its variations.

    As in the run, the answer itself is greedy, and as long as in tests; those to variations are sampled where the run
    samples.
    """
    student, model, asked = given.student, given.model, given.asked
    mesh = layouts.reading_mesh_here(student.config)
    language_model = student_models.load(student, base=given.base, mesh=mesh)

    def ask(asked: writing.Asked, how: writing.Answering, label: str) -> dict[str, list[list]]:
        with (
            tempfile.TemporaryDirectory() as scratch,
            answering.naming(model.name, asked.example_ids, language_model),
        ):
            found = writing.answer(
                language_model,
                model.tokenizer,
                asked,
                how,
                batch_tokens=given.config.execution.score_tokens,
                label=label,
                partial=partials.Partial(epath.Path(scratch) / "answers.npz"),
            )
        table = writing.make_table(asked, found)
        print(
            f"{label}: {answer_tables.describe(answer_tables.summarize(table, len(asked.split)))}", flush=True
        )
        columns = {name: np.asarray(values) for name, values in table.items()}
        return answer_tables.by_question(columns, asked.split.ids)

    by_column = ask(asked, given.varied, "answers")
    if not given.how.is_scored and given.varied.sampling(()) != given.how.sampling(()):
        alone = writing.Asked(asked.split, [()] * len(asked.split))
        originals = ask(alone, given.how, "answers to the originals")
        for name, values in by_column.items():
            by_column[name] = [[*first, *own[1:]] for first, own in zip(originals[name], values, strict=True)]
    by_column["prediction"] = [[answers.from_text(one) for one in own] for own in by_column["prediction"]]
    return [{name: values[row] for name, values in by_column.items()} for row in range(len(asked.split))]


def _answer_all(
    split: splits_lib.WrittenSplit, given: list[dict[str, list]], config: ml_collections.ConfigDict
) -> dict[str, dict[str, Any]]:
    """By example_id what was answered, and its reliability."""
    assessed = reliability.assess(
        [of_one["prediction"][1:] for of_one in given],
        temperature=config.reliability.temperature,
        unparsed=config.answers.unparsed,
    )
    return {
        question.question_id: _describe(split.task, question, of_one, entropy, scores)
        for question, of_one, entropy, scores in zip(
            split.questions, given, assessed.entropies, assessed.scores, strict=True
        )
    }


def _describe(
    task: written_tasks.WrittenTask,
    question: tasks.Question,
    given: dict[str, list],
    entropy: float,
    scores: np.ndarray,
) -> dict[str, Any]:
    """What was answered to a question, by the fields of a record.

    Args:
        entropy, scores: of its variations, as in `reliability.Assessment`.
    """
    answer, *others = given["prediction"]
    log_prob = given["log_prob"][0]
    parsed = [one for one in others if one is not None]
    has_letter = task.kind == "choice" and answer is not None
    return {
        "text": given["text"][0],
        "answer": _shown(task, question, answer),
        "letter": string.ascii_uppercase[answer] if has_letter else None,
        "conflicts": given["conflicts"][0],
        "finish": given["finish"][0],
        "log_prob": None if np.isnan(log_prob) else log_prob,
        "entropy": None if np.isnan(entropy) else float(entropy),
        "s_prob": _s_prob(answer, others, scores),
        "agreeing": others.count(answer) if others and answer is not None else None,
        "variations": len(others),
        "majority": _shown(task, question, reliability.majority(parsed)) if parsed else None,
    }


def _shown(
    task: written_tasks.WrittenTask, question: tasks.Question, answer: answers.Answer | None
) -> str | None:
    """An answer for people: the text of a choice, a word, a number."""
    if answer is None:
        return None
    return question.choices[answer] if question.choices else task.completion(question, answer).strip()


def _s_prob(
    answer: answers.Answer | None, others: Sequence[answers.Answer | None], scores: np.ndarray
) -> float | None:
    """S_prob (Eq. 4) of an answer; None where no variation has it, as it is then none of the predictions."""
    if answer is None or answer not in others:
        return None
    score = float(scores[others.index(answer)])
    return None if np.isnan(score) else score
