"""A trained classifier that is asked: what it reads of questions, and what it says, by itself."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from flax import nnx

from selw2s_jax.data import batches, doubts, lengths, question_files, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import plugins
from selw2s_jax.hf import tokenizers
from selw2s_jax.inference import classify
from selw2s_jax.method import registry
from selw2s_jax.models import heads
from selw2s_jax.run import run_config, student_models, students
from selw2s_jax.runtime import compilation_cache
from selw2s_jax.training import layouts


@dataclasses.dataclass(frozen=True)
class Reader:
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


class Scores(NamedTuple):
    """What a student says of N questions, float32."""

    class_logits: Any  # [N, 2]
    probs: Any  # [N, 2]
    p_ik: Any  # [N], None without that head
    embeddings: Any  # [N, D]


Loaded = tuple[heads.Classifier, jax.sharding.Mesh]  # with where it is

NOT_FINITE = "leave the question out, or train the model again with a lower learning rate or in float32"


class Asker:
    """A trained model by itself: what `predictions.answer` has of it, bit for bit, of questions that a script gives.

    It is loaded when it is first asked, and kept.

    Args:
        student: any trained model of a run of classifiers.
        base, tokenizer: folders of the pretrained model, which is needed where only a part was trained, and of its
            tokenizer's files; default where the run found them.
    """

    def __init__(
        self,
        student: students.Student,
        *,
        base: os.PathLike | str | None = None,
        tokenizer: os.PathLike | str | None = None,
    ) -> None:
        self._student, self._base, self._tokenizer = student, base, tokenizer
        self._config = read_config(student)
        self._loaded: Loaded | None = None

    def __call__(self, questions: Sequence[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A record of each question, in their order: example_id, text, class, prob_0, prob_1 and p_ik.

        Args:
            questions: texts that the models of the task read, or the fields of lines as `question_files` has them.
        """
        student, facts, found = self._student, self._student.facts, doubts.Found()
        examples = question_files.from_script(questions, find_task(facts, self._config), found=found)
        if not examples:
            return []
        role = "weak" if facts.role == "weak" else "student"
        flags = ("tokenizer=", "base=")
        reader = prepare(role, student, examples, self._tokenizer, self._base, flags=flags)
        for note in found.notes + reader.notes:
            print(f"note: {note}", flush=True)
        if self._loaded is None:
            compilation_cache.enable()
            self._loaded = load(reader)
        ids = [example.example_id for example in examples]
        with classify.naming(f"the predictions of {facts.method}", ids, NOT_FINITE):
            if role == "weak":
                probs, p_ik = weak_labels(self._loaded, reader, self._config), None
            else:
                _, probs, p_ik, _ = say(self._loaded, reader, self._config)
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


def read_config(student: students.Student) -> ml_collections.ConfigDict:
    """The config of a student's run; its plugins are imported."""
    config = run_config.read(student)
    plugins.load(config)
    if student.facts.role != "weak":
        method_name(student.facts)
    if not student.facts.has_class_head:
        config.self_label.source = "fewshot"  # it has no class of its own
    return config


def method_name(facts: students.Facts) -> str:
    """The method whose label rule counts: of P(IK) alone, the one that it is trained for."""
    if not facts.has_class_head:
        return "selective"
    name = "supervised" if facts.method == "ceiling" else facts.method
    if name not in registry.METHODS:
        raise UserError(
            f"the method {name!r} is not registered; name its module in config.plugins of the run"
        )
    return name


def find_task(facts: students.Facts, config: ml_collections.ConfigDict) -> tasks.Task:
    """The task of a student, by which questions become texts."""
    if config.data.train_file is None and facts.task in tasks.TASKS:
        return tasks.TASKS[facts.task]
    form = tasks.format_text if facts.is_plain_text else tasks.format_question_answer
    return tasks.Task(name=facts.task, instruction="", format=form)


def prepare(
    role: str,
    student: students.Student,
    examples: Sequence[tasks.Example],
    tokenizer_folder: os.PathLike | str | None,
    base: os.PathLike | str | None,
    *,
    flags: tuple[str, str],
) -> Reader:
    """Checks a model's files and encodes what it reads.

    Args:
        tokenizer_folder, base: where its files are now; default where they were then.
        flags: that give these folders, for messages.

    Raises:
        UserError: they are gone, or others.
    """
    facts = student.facts
    tokenizer = student_models.load_tokenizer(student, tokenizer_folder, flag=flags[0])
    folder = None if facts.trained == "all" else student_models.find_base(student, base, flag=flags[1])
    texts = [facts.classifier_input(example.text) for example in examples]
    model = _Limits(role, tokenizer, facts.max_length)
    num_truncated = int(lengths.is_overlong(texts, model).sum())
    return Reader(role, student, tokenizer, folder, texts, lengths.encode(texts, model), num_truncated)


class _Limits(NamedTuple):
    """A `lengths.Reader`."""

    role: str
    tokenizer: tokenizers.Tokenizer
    max_length: int


def load(reader: Reader) -> Loaded:
    """The trained model on the devices of this process."""
    mesh = layouts.reading_mesh_here(reader.student.config)
    return student_models.load(reader.student, base=reader.base, mesh=mesh), mesh


def weak_labels(loaded: Loaded, weak: Reader, config: ml_collections.ConfigDict) -> np.ndarray:
    """What a weak model says, `[N, 2]` float32, as a run has it say."""
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


def say(loaded: Loaded, reader: Reader, config: ml_collections.ConfigDict) -> Scores:
    """What a student says: `classify.predict`, with the embeddings that labels are smoothed over."""
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


def _forward(graphdef, params, batch: batches.Batch) -> Scores:
    outputs = classify.outputs_of(nnx.merge(graphdef, params), batch)
    p_ik = None if outputs.p_ik_logits is None else jax.nn.softmax(outputs.p_ik_logits, axis=-1)[:, 1]
    probs = jax.nn.softmax(outputs.class_logits, axis=-1)
    return Scores(outputs.class_logits, probs, p_ik, outputs.embeddings)
