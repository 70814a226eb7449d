"""What a trained student, its weak model and its language model say of questions, and which label training would use.

The models are loaded one after another: no two of them have to fit at once.
"""

import dataclasses
import gc
import os
import pathlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from selw2s_jax import config as config_lib
from selw2s_jax.data import doubts, question_files, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader, pretrained, tokenizers
from selw2s_jax.inference import answering, classify, fewshot, generate
from selw2s_jax.method import combinations, label_sources
from selw2s_jax.predict import classifiers, label_choice, tables
from selw2s_jax.run import student_models, students
from selw2s_jax.training import layouts


@dataclasses.dataclass(frozen=True)
class _LanguageModel:
    """The untouched language model with its prompts for N questions.

    Attributes:
        folder: of the model.
        generation: how answers are written, None where they are 0 or 1.
    """

    folder: pathlib.Path
    prompts: answering.Prompts
    generation: generate.Settings | None


class Asked(NamedTuple):
    """A student with all that it and the models around it read of N questions, before any device work.

    Attributes:
        labels: of the questions, 0 or 1, None where the file says nothing.
        notes: what a reader of the answers has to know.
    """

    student: students.Student
    config: ml_collections.ConfigDict
    examples: list[tasks.Example]
    labels: list[int | None]
    reader: classifiers.Reader
    weak: list[classifiers.Reader]
    language_model: _LanguageModel | None
    notes: list[str]


def prepare(
    student: students.Student,
    input_path: os.PathLike | str,
    *,
    base: os.PathLike | str | None = None,
    tokenizer: os.PathLike | str | None = None,
    weak_base: os.PathLike | str | None = None,
    weak_tokenizer: os.PathLike | str | None = None,
) -> Asked:
    """Reads questions, and checks the models that are asked.

    Args:
        student: any trained model of a run but the weak one.
        input_path: questions as `data.question_files.read` takes them.
        base, tokenizer: folders of the pretrained strong model and its tokenizer's files; default where the run found
            them.
        weak_base, weak_tokenizer: likewise of the weak model; the former is needed where only a part was trained.

    Raises:
        UserError: a file, a folder, a model or a question is not fit.
    """
    facts = student.facts
    if facts.role == "weak":
        raise UserError(
            f"--method={facts.method} is the weak model, which every student's output has labels of: name a student"
        )
    config, found = classifiers.read_config(student), doubts.Found()
    examples, labels = question_files.read_with_labels(
        input_path, classifiers.find_task(facts, config), found=found
    )
    reader = classifiers.prepare(
        "student", student, examples, tokenizer, base, flags=("--tokenizer", "--base")
    )
    notes = found.notes + reader.notes
    weak = [
        classifiers.prepare(
            "weak", one, examples, weak_tokenizer, weak_base, flags=("--weak_tokenizer", "--weak_base")
        )
        for one in students.find_weak(student)
    ]
    if weak:
        notes += [note for one in weak for note in one.notes]
        if config.weak.context_file is not None:
            notes.append(
                "weak labels are of questions without the texts that weak.context_file had behind its own"
            )
    language_model, of_prompts = _prepare_prompts(student, config, examples, reader.tokenizer, base)
    return Asked(student, config, examples, labels, reader, weak, language_model, notes + of_prompts)


def answer(asked: Asked, known: dict[Hashable, Any] | None = None) -> list[dict[str, Any]]:
    """What is known of each question.

    Args:
        known: what models around earlier students of the same questions said; grows.

    Returns:
        A record of each question: example_id, text, p_ik, class, prob_1, few_shot, weak, smoothed, used and target, as
        docs/running.md describes them.

    Raises:
        UserError: a trained model is damaged, or says what is no finite number.
    """
    known = {} if known is None else known
    student, config, facts = asked.student, asked.config, asked.student.facts
    ids = [example.example_id for example in asked.examples]
    with classify.naming("the predictions of the weak model", ids, classifiers.NOT_FINITE):
        key = ("weak", *(one.student.artifact.key for one in asked.weak))
        of_members = _once(known, key, lambda: [_score_weak(one, config) for one in asked.weak])
        weak_probs = _together(of_members, config)
    with classify.naming(f"the predictions of {facts.method}", ids, classifiers.NOT_FINITE):
        scores = _score(asked.reader, config)
    few_shot = None
    if (model := asked.language_model) is not None:
        few_shot = _once(
            known,
            ("few-shot", model.folder, facts.few_shot),
            lambda: _answer(model, student, config, asked.reader.tokenizer, asked.examples),
        )
    own = _own_labels(config, facts, few_shot, asked.examples, asked.reader.texts)
    return _make_records(config, facts, asked.examples, scores, weak_probs, few_shot, own)


def _once(known: dict[Hashable, Any], key: Hashable, make: Callable[[], Any]) -> Any:
    if key not in known:
        known[key] = make()
    return known[key]


def _together(of_members: list[np.ndarray], config: ml_collections.ConfigDict) -> np.ndarray | None:
    """Labels `[N, 2]` of the weak models as one, as training has them; None without any."""
    if len(of_members) < 2:
        return of_members[0] if of_members else None
    try:
        return combinations.combine(config.weak.combine, np.stack(of_members, axis=1))
    except ValueError as error:
        raise UserError(str(error)) from error


def columns_of(records: Sequence[dict[str, Any]]) -> tables.Columns:
    """Of a table of records."""
    answers = [(record["few_shot"] or {}).get("answer") for record in records]
    is_written = any(isinstance(answer, str) for answer in answers)
    return tables.Columns(
        {
            **dict.fromkeys(("example_id", "text", "used"), "string"),
            "class": "int64",
            "few_shot_answer": "string" if is_written else "int64",
        },
        nested={"few_shot": ("prob_1", "answer"), "weak": ("prob_1",), "smoothed": ("prob_1",)},
    )


def _make_records(
    config: ml_collections.ConfigDict,
    facts: students.Facts,
    examples: Sequence[tasks.Example],
    scores: classifiers.Scores,
    weak_probs: np.ndarray | None,
    few_shot: list[dict[str, Any]] | None,
    own: np.ndarray | None,
) -> list[dict[str, Any]]:
    chosen = label_choice.choose(
        config,
        classifiers.method_name(facts),
        class_logits=scores.class_logits,
        p_ik=scores.p_ik,
        embeddings=scores.embeddings,
        weak_probs=weak_probs,
        own=own,
    )
    return [
        {
            "example_id": example.example_id,
            "text": example.text,
            "p_ik": None if scores.p_ik is None else float(scores.p_ik[i]),
            "class": int(scores.probs[i, 1] > 0.5) if facts.has_class_head else None,
            "prob_1": float(scores.probs[i, 1]) if facts.has_class_head else None,
            "few_shot": None if few_shot is None else few_shot[i],
            "weak": None if weak_probs is None else {"prob_1": float(weak_probs[i, 1])},
            "smoothed": None if chosen.smoothed[i] is None else {"prob_1": chosen.smoothed[i]},
            "used": chosen.used[i],
            "target": chosen.target[i],
        }
        for i, example in enumerate(examples)
    ]


def _prepare_prompts(
    student: students.Student,
    config: ml_collections.ConfigDict,
    examples: Sequence[tasks.Example],
    tokenizer: tokenizers.Tokenizer,
    base: os.PathLike | str | None,
) -> tuple[_LanguageModel | None, list[str]]:
    """Checks the language model's files and encodes its prompts; None where the run did not keep their form.

    Returns:
        The model with its prompts, and notes of what a reader has to know of them.
    """
    few_shot, max_length = student.facts.few_shot, student.config.max_seq_len
    if few_shot is None:
        note = (
            "few_shot is null: the run is of an earlier version, which did not list its few-shot prompt; run the same "
            "config there again to have it listed"
        )
        return None, [note]
    notes = []
    if not few_shot.shots:
        notes.append("the language model is asked without shots, as the run asked it nothing of this task")
    folder = student_models.find_base(student, base, use="whose few-shot answers are asked for")
    loader.check_checkpoint(folder, lm_head=True)
    generation = None
    if few_shot.is_generated:
        generation = generate.Settings(
            max_new_tokens=config.generation.max_new_tokens,
            temperature=0.0,
            stop=few_shot.stop,
            eos_ids=tokenizer.eos_ids,
        )
        max_length -= generation.max_new_tokens
    prompts = answering.make_prompts(tokenizer, few_shot, examples, max_length=max_length)
    if described := answering.describe_cut(prompts.cut):
        notes.append(described)
    return _LanguageModel(folder, prompts, generation), notes


def _score_weak(weak: classifiers.Reader, config: ml_collections.ConfigDict) -> np.ndarray:
    """The weak model's soft labels, `[N, 2]`."""
    probs = classifiers.weak_labels(classifiers.load(weak), weak, config)
    gc.collect()  # nnx.merge leaves reference cycles, which would keep the arrays on the devices
    return probs


def _score(reader: classifiers.Reader, config: ml_collections.ConfigDict) -> classifiers.Scores:
    """What a student says."""
    scores = classifiers.say(classifiers.load(reader), reader, config)
    gc.collect()
    return scores


def _answer(
    asked: _LanguageModel,
    student: students.Student,
    config: ml_collections.ConfigDict,
    tokenizer: tokenizers.Tokenizer,
    examples: Sequence[tasks.Example],
) -> list[dict[str, Any]]:
    """The untouched language model's answers: `prob_1`, null where they are generated, and `answer`."""
    mesh = layouts.reading_mesh_here(student.config)
    dtype = student.facts.compute_dtype
    language_model = pretrained.load_language_model(asked.folder, dtype=dtype, mesh=mesh)
    common = {"batch_tokens": config.execution.score_tokens, "label": "few-shot answers"}
    ids = [example.example_id for example in examples]
    with answering.naming(student.facts.strong, ids, language_model):
        if asked.generation is None:
            log_odds = answering.judge(language_model, asked.prompts, **common)
            return [{"prob_1": float(prob), "answer": int(prob > 0.5)} for prob in fewshot.to_probs(log_odds)]
        found = generate.generate(
            language_model, tokenizer, asked.prompts.tokens, ids, asked.generation, **common
        )
    return [{"prob_1": None, "answer": completions[0].text} for completions in found]


def _own_labels(
    config: ml_collections.ConfigDict,
    facts: students.Facts,
    few_shot: list[dict[str, Any]] | None,
    examples: Sequence[tasks.Example],
    texts: Sequence[str],
) -> np.ndarray | None:
    """The strong model's own labels as training has them, probabilities of class 1 `[N]`; None where none are known.

    Labels of a file are of other questions: those of few-shot answers stand for them.
    """
    section = config.self_label
    if section.source in label_sources.LABEL_SOURCES:
        ids = [example.example_id for example in examples]
        seed = config_lib.seed_for(config, facts.seed, "sampling")
        try:
            probs = label_sources.read(section.source, ids, texts, seed)
        except ValueError as error:
            raise UserError(str(error)) from error
    elif few_shot is None or few_shot[0]["prob_1"] is None:
        return None
    else:
        probs = np.array([answer["prob_1"] for answer in few_shot], np.float32)
    return probs if section.soft else (probs > 0.5).astype(np.float32)
