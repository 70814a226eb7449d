"""What a trained student, its weak model and its language model say of questions, and which label training would use.

The models are loaded one after another: no two of them have to fit at once.
"""

import dataclasses
import gc
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from flax import nnx

from selw2s_jax import config as config_lib
from selw2s_jax import sharding
from selw2s_jax.data import batches, doubts, lengths, question_files, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import plugins
from selw2s_jax.hf import loader, pretrained, tokenizers
from selw2s_jax.inference import answering, classify, fewshot, generate
from selw2s_jax.method import combinations, label_sources, registry
from selw2s_jax.models import heads
from selw2s_jax.predict import label_choice, tables
from selw2s_jax.run import run_config, student_models, students
from selw2s_jax.runtime import compilation_cache


@dataclasses.dataclass(frozen=True)
class _Reader:
    """A trained model with what it reads of N questions.

    Attributes:
        role: "weak" or "student".
        base: folder of the pretrained model, where it is needed.
        texts, tokens: of each question.
        num_truncated: questions that it does not read whole.
    """

    role: str
    student: students.Student
    tokenizer: tokenizers.Tokenizer
    base: pathlib.Path | None
    texts: list[str]
    tokens: list[np.ndarray]
    num_truncated: int

    @property
    def notes(self) -> list[str]:
        if not self.num_truncated:
            return []
        return [
            f"{self.num_truncated} of {len(self.texts)} questions truncated from the left to "
            f"{self.student.facts.max_length} tokens for the {'weak model' if self.role == 'weak' else self.role}"
        ]


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


class _Scores(NamedTuple):
    """What a student says of N questions, float32."""

    class_logits: Any  # [N, 2]
    probs: Any  # [N, 2]
    p_ik: Any  # [N], None without that head
    embeddings: Any  # [N, D]


_Loaded = tuple[heads.Classifier, jax.sharding.Mesh]  # with where it is

_NOT_FINITE = "leave the question out, or train the model again with a lower learning rate or in float32"


def write(
    student: students.Student,
    input_path: os.PathLike | str,
    output_path: os.PathLike | str,
    *,
    base: os.PathLike | str | None = None,
    tokenizer: os.PathLike | str | None = None,
    weak_base: os.PathLike | str | None = None,
    weak_tokenizer: os.PathLike | str | None = None,
) -> list[dict[str, Any]]:
    """Writes what is known of each question of a file, in their order: all of them, or nothing.

    Args:
        student: any trained model of a run but the weak one.
        input_path: questions as `data.question_files.read` takes them.
        output_path: in a folder that is there; a file of that name is replaced. JSON lines, or a table by its name,
            as `tables` writes them.
        base, tokenizer: folders of the pretrained strong model and its tokenizer's files; default where the run found
            them.
        weak_base, weak_tokenizer: likewise of the weak model; the former is needed where only a part was trained.

    Returns:
        A record of each question: example_id, text, p_ik, class, prob_1, few_shot, weak, smoothed, used and target, as
        docs/running.md describes them.

    Raises:
        UserError: a file, a folder, a model or a question is not fit, before any device work; or a trained model is
            damaged.
    """
    facts = student.facts
    if facts.role == "weak":
        raise UserError(
            f"--method={facts.method} is the weak model, which every student's output has labels of: name a student"
        )
    suffix = tables.check_output(input_path, output_path)
    config, found = _read_config(student), doubts.Found()
    examples = question_files.read(input_path, _find_task(facts, config), found=found)
    reader = _prepare("student", student, examples, tokenizer, base, flags=("--tokenizer", "--base"))
    notes = found.notes + reader.notes
    weak = [
        _prepare("weak", one, examples, weak_tokenizer, weak_base, flags=("--weak_tokenizer", "--weak_base"))
        for one in students.find_weak(student)
    ]
    if weak:
        notes += [note for one in weak for note in one.notes]
        if config.weak.context_file is not None:
            notes.append(
                "weak labels are of questions without the texts that weak.context_file had behind its own"
            )
    asked, notes_of_prompts = _prepare_prompts(student, config, examples, reader.tokenizer, base)
    for note in notes + notes_of_prompts:
        print(f"note: {note}", flush=True)

    compilation_cache.enable()
    ids = [example.example_id for example in examples]
    with classify.naming("the predictions of the weak model", ids, _NOT_FINITE):
        weak_probs = _together([_score_weak(one, config) for one in weak], config)
    with classify.naming(f"the predictions of {facts.method}", ids, _NOT_FINITE):
        scores = _score(reader, config)
    few_shot = None if asked is None else _answer(asked, student, config, reader.tokenizer, examples)
    own = _own_labels(config, facts, few_shot, examples, reader.texts)
    records = _make_records(config, facts, examples, scores, weak_probs, few_shot, own)
    tables.write(output_path, records, suffix, columns_of(records))
    return records


class Asker:
    """A trained model by itself: what `write` has of it, bit for bit, of questions that a script gives.

    It is loaded when it is first asked, and kept.

    Args:
        student: any trained model of a run of classifiers.
        base, tokenizer: as for `write`.
    """

    def __init__(
        self,
        student: students.Student,
        *,
        base: os.PathLike | str | None = None,
        tokenizer: os.PathLike | str | None = None,
    ) -> None:
        self._student, self._base, self._tokenizer = student, base, tokenizer
        self._config = _read_config(student)
        self._loaded: _Loaded | None = None

    def __call__(self, questions: Sequence[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A record of each question, in their order: example_id, text, class, prob_0, prob_1 and p_ik.

        Args:
            questions: texts that the models of the task read, or the fields of lines as `question_files` has them.
        """
        student, facts, found = self._student, self._student.facts, doubts.Found()
        examples = question_files.from_script(questions, _find_task(facts, self._config), found=found)
        if not examples:
            return []
        role = "weak" if facts.role == "weak" else "student"
        flags = ("tokenizer=", "base=")
        reader = _prepare(role, student, examples, self._tokenizer, self._base, flags=flags)
        for note in found.notes + reader.notes:
            print(f"note: {note}", flush=True)
        if self._loaded is None:
            compilation_cache.enable()
            self._loaded = _load(reader)
        ids = [example.example_id for example in examples]
        with classify.naming(f"the predictions of {facts.method}", ids, _NOT_FINITE):
            if role == "weak":
                probs, p_ik = _weak_labels(self._loaded, reader, self._config), None
            else:
                _, probs, p_ik, _ = _say(self._loaded, reader, self._config)
        return [
            {
                "example_id": example.example_id,
                "text": example.text,
                "class": int(probs[i, 1] > 0.5) if facts.has_class_head else None,
                "prob_0": float(probs[i, 0]) if facts.has_class_head else None,
                "prob_1": float(probs[i, 1]) if facts.has_class_head else None,
                "p_ik": None if p_ik is None else float(p_ik[i]),
            }
            for i, example in enumerate(examples)
        ]


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
    scores: _Scores,
    weak_probs: np.ndarray | None,
    few_shot: list[dict[str, Any]] | None,
    own: np.ndarray | None,
) -> list[dict[str, Any]]:
    chosen = label_choice.choose(
        config,
        _method_name(facts),
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


def _read_config(student: students.Student) -> ml_collections.ConfigDict:
    """The config of a student's run; its plugins are imported."""
    config = run_config.read(student)
    plugins.load(config)
    if student.facts.role != "weak":
        _method_name(student.facts)
    if not student.facts.has_class_head:
        config.self_label.source = "fewshot"  # it has no class of its own
    return config


def _method_name(facts: students.Facts) -> str:
    """The method whose label rule counts: of P(IK) alone, the one that it is trained for."""
    if not facts.has_class_head:
        return "selective"
    name = "supervised" if facts.method == "ceiling" else facts.method
    if name not in registry.METHODS:
        raise UserError(
            f"the method {name!r} is not registered; name its module in config.plugins of the run"
        )
    return name


def _find_task(facts: students.Facts, config: ml_collections.ConfigDict) -> tasks.Task:
    """The task of a student, by which questions become texts."""
    if config.data.train_file is None and facts.task in tasks.TASKS:
        return tasks.TASKS[facts.task]
    form = tasks.format_text if facts.is_plain_text else tasks.format_question_answer
    return tasks.Task(name=facts.task, instruction="", format=form)


def _prepare(
    role: str,
    student: students.Student,
    examples: Sequence[tasks.Example],
    tokenizer_folder: os.PathLike | str | None,
    base: os.PathLike | str | None,
    *,
    flags: tuple[str, str],
) -> _Reader:
    """Checks a model's files and encodes what it reads."""
    facts = student.facts
    tokenizer = student_models.load_tokenizer(student, tokenizer_folder, flag=flags[0])
    folder = None if facts.trained == "all" else student_models.find_base(student, base, flag=flags[1])
    texts = [facts.classifier_input(example.text) for example in examples]
    model = _Limits(role, tokenizer, facts.max_length)
    num_truncated = int(lengths.is_overlong(texts, model).sum())
    return _Reader(role, student, tokenizer, folder, texts, lengths.encode(texts, model), num_truncated)


class _Limits(NamedTuple):
    """A `lengths.Reader`."""

    role: str
    tokenizer: tokenizers.Tokenizer
    max_length: int


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


def _load(reader: _Reader) -> _Loaded:
    mesh = sharding.mesh_for(reader.student.config, None, may_fold=True)
    return student_models.load(reader.student, base=reader.base, mesh=mesh), mesh


def _score_weak(weak: _Reader, config: ml_collections.ConfigDict) -> np.ndarray:
    """The weak model's soft labels, `[N, 2]`."""
    probs = _weak_labels(_load(weak), weak, config)
    gc.collect()  # nnx.merge leaves reference cycles, which would keep the arrays on the devices
    return probs


def _weak_labels(loaded: _Loaded, weak: _Reader, config: ml_collections.ConfigDict) -> np.ndarray:
    classifier, mesh = loaded
    probs, _ = classify.predict(
        classifier,
        weak.tokens,
        mesh=mesh,
        batch_tokens=config.execution.score_tokens,
        label="weak labels",
        openai_pooling=weak.student.facts.openai_pooling,
    )
    return probs


def _score(reader: _Reader, config: ml_collections.ConfigDict) -> _Scores:
    """What a student says."""
    scores = _say(_load(reader), reader, config)
    gc.collect()
    return scores


def _say(loaded: _Loaded, reader: _Reader, config: ml_collections.ConfigDict) -> _Scores:
    """`classify.predict`, with the embeddings that labels are smoothed over."""
    classifier, mesh = loaded
    graphdef, params = nnx.split(classifier)
    return classify.score(
        _forward,
        graphdef,
        params,
        reader.tokens,
        mesh=mesh,
        batch_tokens=config.execution.score_tokens,
        label=f"predictions of {reader.student.facts.method}",
        openai_pooling=reader.student.facts.openai_pooling,
    )


def _forward(graphdef, params, batch: batches.Batch) -> _Scores:
    outputs = nnx.merge(graphdef, params)(
        batch.tokens[0], batch.segment_ids[0], batch.positions[0], batch.row[0], batch.last[0]
    )
    p_ik = None if outputs.p_ik_logits is None else jax.nn.softmax(outputs.p_ik_logits, axis=-1)[:, 1]
    probs = jax.nn.softmax(outputs.class_logits, axis=-1)
    return _Scores(outputs.class_logits, probs, p_ik, outputs.embeddings)


def _answer(
    asked: _LanguageModel,
    student: students.Student,
    config: ml_collections.ConfigDict,
    tokenizer: tokenizers.Tokenizer,
    examples: Sequence[tasks.Example],
) -> list[dict[str, Any]]:
    """The untouched language model's answers: `prob_1`, null where they are generated, and `answer`."""
    mesh = sharding.mesh_for(student.config, None, may_fold=True)
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
