"""The tasks: how the rows of each data set are read, and how a question becomes binary examples.

Formats follow openai/weak-to-strong (`weak_to_strong/datasets.py`); the instructions follow Table 1 of
Selective Weak-to-Strong Generalization (arXiv 2511.14166). A new task is one `register(Task(...))`.
"""

import dataclasses
import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, NamedTuple

from selw2s_jax import errors
from selw2s_jax.data import by_id, gsm8k
from selw2s_jax.method import registering

CONVERSIONS = ("coin", "balanced_pair", "all")

# What follows a solution in a few-shot prompt: the blank line before the next problem.
SOLUTION_STOP = ("\n\n",)


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One row of a data set, as its ground truth has it.

    Attributes:
        question_id: `"{task}/{split}/{row}"`, row = index in the source file from 0 (for ARC with the subset's
          name: `arc/train/easy-17`). It names the row for good, whatever else is read or sampled.
        text: the question, or the sentence with `_` for the blank (Winogrande).
        choices: the answers to choose from; None for a yes/no question and where the answer is generated.
        answer: index into `choices` of the right one; the label 0 or 1 of a yes/no question; else 0.
        context: the passage that the question is about, or "".
        solution: the reference solution where the answer is generated, else "".
    """

    question_id: str
    text: str
    choices: tuple[str, ...] | None
    answer: int
    context: str = ""
    solution: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One binary data point.

    Attributes:
        example_id: the question_id, followed by `:{choice}` where a question gives several points.
        group: the question_id; the points of one group never go to different halves.
        text: what the models read, without instruction or shots.
        label: 1 where the answer shown is right (the answer is yes), else 0; 0 where the answer is generated.
        solution: the reference solution where the answer is generated, else "".
        passage: where in `text` the passage begins and ends, in characters; (0, 0) where there is none.
        question: what it has in common with the question's other points: context, question and right answer, ignoring
          case; "" where there are none.
    """

    example_id: str
    group: str
    text: str
    label: int
    solution: str = ""
    passage: tuple[int, int] = (0, 0)
    question: str = ""

    def is_of_any(self, questions: Set[str]) -> bool:
        """Whether its text, or its question with another choice, is among `known_as` of others."""
        return not questions.isdisjoint(self.known_as)

    @property
    def known_as(self) -> tuple[str, ...]:
        """What an example of the same question has one of in common."""
        return (self.text, self.question) if self.question else (self.text,)


@dataclasses.dataclass(frozen=True, slots=True)
class Subset:
    """A part of a data set stored by itself: `folder` of the local layout, `hub_config` of the hub."""

    name: str
    folder: str
    hub_config: str | None = None


class RowParts(NamedTuple):
    """What `Task.read_row` returns, the attributes of a `Question`; a tuple in this order will do."""

    context: str
    text: str
    choices: tuple[str, ...] | None
    answer: int = 0
    solution: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set and its binary form, or that whose answers are generated.

    Attributes:
        name: the registry name, first part of every example_id.
        instruction: the sentence before the problems of a few-shot prompt.
        format: (question, shown choice or "") -> text of the example.
        hub_name, hub_revision: the Hugging Face data set and its commit.
        hub_parquet: read the hub's parquet conversion at `hub_revision` (the data set is a loading script).
        subsets: where the rows are; all of them are read, in order, unless some are chosen by name.
        splits: our `train` and `test` -> the data set's own split names, which are also its file names.
        columns: column name -> kind, one of `sources.COLUMN_KINDS`.
        optional_columns: likewise, of columns that some copies of the data set lack.
        read_row: the values of `columns` and then of `optional_columns` (None where there are none), in order ->
          `RowParts`; raises ValueError with what is wrong.
        split_by_context: where a folder lacks the train file, divide the test file by context, or by question where
          there is none (for trials).
        never_right: an answer containing this text (ignoring case) is never shown as label 1.
        is_correct: (generated answer, reference solution) -> whether the answer is right; None where the answers
          are 0 and 1.
        stop: strings that end a generated answer.
    """

    name: str
    instruction: str
    format: Callable[[Question, str], str]
    hub_name: str | None = None
    hub_revision: str | None = None
    hub_parquet: bool = False
    subsets: tuple[Subset, ...] = ()
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    optional_columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    read_row: Callable[..., RowParts] | None = None
    split_by_context: bool = False
    never_right: str | None = None
    is_correct: Callable[[str, str], bool] | None = None
    stop: tuple[str, ...] = ()

    @property
    def is_generated(self) -> bool:
        """Whether the model writes its answers, rather than choose between 0 and 1."""
        return self.is_correct is not None


TASKS: dict[str, Task] = {}
_is_whole = False  # whether this module has registered its own
_ALIASES = {"cosmosqa": "cosmos_qa"}


def register(task: Task) -> Task:
    """Adds `task` to `TASKS`; ValueError where the name is taken, as `registering.claim` says."""
    if _is_whole:  # of other files: what is built in has its names first, whichever module is imported first
        importlib.import_module("selw2s_jax.data.more_tasks")
    registering.claim("task", task.name, is_taken=task.name in TASKS)
    TASKS[task.name] = task
    return task


def canonical_name(name: str) -> str:
    """The one spelling of a task's name that ids and results use."""
    return _ALIASES.get(name, name)


def get_task(name: str, *, role: str = "task") -> Task:
    """The registered task of that name (`cosmosqa` is accepted for `cosmos_qa`).

    Args:
        name: of the task.
        role: what errors call it, such as the config key that named it.

    Raises:
        UnknownName: with the nearest one offered.
    """
    if (key := canonical_name(name)) in TASKS:
        return TASKS[key]
    nearest = difflib.get_close_matches(name.lower(), TASKS, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise errors.UnknownName(f"unknown {role} {name!r}{hint} (known: {', '.join(sorted(TASKS))})")


def wrong_choices(question: Question) -> list[int]:
    """Indices of the choices that can be shown as wrong: none that equals the right one, ignoring case."""
    right = question.choices[question.answer].strip().casefold()
    return [index for index, choice in enumerate(question.choices) if choice.strip().casefold() != right]


def _right_choices(task: Task, question: Question) -> list[int]:
    """The right choice as a list, empty where it is never shown (`Task.never_right`)."""
    right = question.choices[question.answer].casefold()
    hidden = task.never_right is not None and task.never_right in right
    return [] if hidden else [question.answer]


def convert(task: Task, questions: Iterable[Question], *, mode: str, seed: int) -> list[Example]:
    """Turns questions into binary examples, in their order.

    A yes/no question gives one example with its own label in every mode, and so does one whose answer is
    generated, with its solution and the label 0. A multiple-choice question gives

    - `coin`: one example; a fair coin shows the right answer (label 1) or a random wrong one (label 0).
    - `balanced_pair`: two, the right answer and a random wrong one, so that the classes are balanced.
    - `all`: one per choice.

    A wrong answer equal to the right one (ignoring case) is never offered. Where the right answer must not be
    shown (CosmosQA's "None of the above choices", which says nothing without the other choices), it is left
    out: `coin` then always shows a wrong answer, as openai/weak-to-strong does, `all` shows the wrong ones,
    and `balanced_pair` skips the question. Likewise where no wrong answer can be offered: `coin` shows the
    right one and `balanced_pair` skips the question.

    Every draw is keyed by (seed, question_id): a question's examples do not depend on the other rows.

    Raises:
        UserError: `mode` is not one of `CONVERSIONS`.
    """
    if mode not in CONVERSIONS:
        raise errors.UserError(f"data.conversion is {mode!r}; choose one of {', '.join(CONVERSIONS)}")
    examples = []
    for question in questions:
        if question.choices is None:
            examples.append(_example(question, "", task.format(question, ""), question.answer))
            continue
        for choice in _shown_choices(task, question, mode, seed):
            suffix = "" if mode == "coin" else f":{choice}"
            text = task.format(question, question.choices[choice])
            examples.append(_example(question, suffix, text, int(choice == question.answer)))
    return examples


def _example(question: Question, suffix: str, text: str, label: int) -> Example:
    name = question.question_id
    start = text.find(question.context) if question.context else -1
    passage = (0, 0) if start < 0 else (start, start + len(question.context))
    known_as = ""
    if question.choices is not None:
        parts = (question.context, question.text, question.choices[question.answer])
        known_as = "\n".join(part.strip().casefold() for part in parts)
    return Example(name + suffix, name, text, label, question.solution, passage, known_as)


def _shown_choices(task: Task, question: Question, mode: str, seed: int) -> list[int]:
    right = _right_choices(task, question)
    wrong = wrong_choices(question)
    if mode == "all":
        return sorted(right + wrong)
    if wrong:
        draw = by_id.keyed_uniform(seed, "wrong choice", question.question_id)
        wrong = [wrong[int(draw * len(wrong))]]
    if mode == "balanced_pair":
        return sorted(right + wrong) if right and wrong else []
    shows_right = by_id.keyed_uniform(seed, "coin", question.question_id) < 0.5
    return (right or wrong) if shows_right else (wrong or right)


def without_blank_lines(text: str) -> str:
    """A solution without the blank line that would end it in a few-shot prompt."""
    return "\n".join(line for line in text.split("\n") if line.strip())


def judging_instruction(material: str, condition: str) -> str:
    """The paper's instruction (S, Table 1), `material` such as "a sentence", `condition` of the answer 1."""
    return f"There is {material}. Respond with 1 if {condition}, and with 0 otherwise."


def format_text(question: Question, choice: str) -> str:
    """The question alone."""
    del choice  # these questions show none
    return question.text


def format_question_answer(question: Question, choice: str) -> str:
    """`Q: {question} A: {choice}`"""
    return f"Q: {question.text} A: {choice}"


def _format_passage_question(question: Question, choice: str) -> str:
    del choice  # yes/no questions show none
    return f"Passage: {question.context}\nQuestion: {question.text}"


def _format_context_question_answer(question: Question, choice: str) -> str:
    return f"Context: {question.context}\nQuestion: {question.text}\nAnswer: {choice}"


def _format_filled_sentence(question: Question, choice: str) -> str:
    return question.text.replace("_", choice, 1)


def _read_sciq(question: str, correct_answer: str, *distractors: str) -> RowParts:
    return RowParts("", question, (correct_answer, *distractors))


def _read_boolq(passage: str, question: str, answer: bool) -> RowParts:
    return RowParts(passage, question, None, int(answer))


def _read_cosmos_qa(context: str, question: str, label: int, *choices: str) -> RowParts:
    if not 0 <= label < len(choices):
        raise ValueError(f"label is {label}, not one of 0 to {len(choices) - 1}")
    return RowParts(context, question, choices, label)


def _read_arc(question: str, choices: dict[str, Any], answer_key: str) -> RowParts:
    texts, labels = choices["text"], choices["label"]
    if not texts or not labels or len(texts) != len(labels) or None in texts:
        raise ValueError("choices.text and choices.label do not go together")
    if answer_key not in labels:
        raise ValueError(f"answerKey is {answer_key!r}, not one of {labels}")
    return RowParts("", question, tuple(texts), labels.index(answer_key))


def _read_winogrande(sentence: str, option1: str, option2: str, answer: str) -> RowParts:
    if answer not in ("1", "2"):
        raise ValueError(f"answer is {answer!r}, not '1' or '2'")
    if "_" not in sentence:
        raise ValueError("sentence has no blank '_'")
    return RowParts("", sentence, (option1, option2), int(answer) - 1)


def _read_gsm8k(question: str, answer: str) -> RowParts:
    if not gsm8k.has_marked_answer(answer):
        raise ValueError(f"answer has no number after {gsm8k.ANSWER_MARK!r}")
    return RowParts("", question, None, solution=without_blank_lines(answer))


def _strings(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "string")


register(
    Task(
        name="sciq",
        hub_name="allenai/sciq",
        hub_revision="2c94ad3e1aafab77146f384e23536f97a4849815",
        subsets=(Subset("sciq", "sciq"),),
        splits={"train": "train", "test": "test"},
        columns=_strings("question", "correct_answer", "distractor1", "distractor2", "distractor3"),
        read_row=_read_sciq,
        instruction=judging_instruction(
            "a science knowledge question, followed by an answer", "the answer is correct"
        ),
        format=format_question_answer,
    )
)
register(
    Task(
        name="boolq",
        hub_name="google/boolq",
        hub_revision="35b264d03638db9f4ce671b711558bf7ff0f80d5",
        subsets=(Subset("boolq", "boolq"),),
        splits={"train": "train", "test": "validation"},
        columns=_strings("passage", "question") | {"answer": "true/false"},
        read_row=_read_boolq,
        instruction=judging_instruction("a passage and a question", "the answer is yes"),
        format=_format_passage_question,
    )
)
register(
    Task(
        name="cosmos_qa",
        hub_name="allenai/cosmos_qa",
        hub_revision="refs/convert/parquet",
        hub_parquet=True,
        subsets=(Subset("cosmos_qa", "cosmos_qa", "default"),),
        splits={"train": "train", "test": "validation"},
        columns=_strings("context", "question")
        | {"label": "integer"}
        | _strings("answer0", "answer1", "answer2", "answer3"),
        read_row=_read_cosmos_qa,
        split_by_context=True,
        never_right="none of the above choices",
        instruction=judging_instruction(
            "a context and a question, followed by an answer", "the answer is correct"
        ),
        format=_format_context_question_answer,
    )
)
register(
    Task(
        name="arc",
        hub_name="allenai/ai2_arc",
        hub_revision="210d026faf9955653af8916fad021475a3f00453",
        subsets=(
            Subset("easy", "ai2_arc/ARC-Easy", "ARC-Easy"),
            Subset("challenge", "ai2_arc/ARC-Challenge", "ARC-Challenge"),
        ),
        splits={"train": "train", "test": "test"},
        columns={"question": "string", "choices": "struct of text and label lists", "answerKey": "string"},
        read_row=_read_arc,
        instruction=judging_instruction(
            "a science knowledge question, followed by an answer", "the answer is correct"
        ),
        format=format_question_answer,
    )
)
register(
    Task(
        name="winogrande",
        hub_name="allenai/winogrande",
        hub_revision="01e74176c63542e6b0bcb004dcdea22d94fb67b5",
        subsets=(Subset("winogrande_xl", "winogrande/winogrande_xl", "winogrande_xl"),),
        splits={"train": "train", "test": "validation"},
        columns=_strings("sentence", "option1", "option2", "answer"),
        read_row=_read_winogrande,
        instruction=judging_instruction("a sentence", "it makes sense"),
        format=_format_filled_sentence,
    )
)
register(
    Task(
        name="gsm8k",
        hub_name="openai/gsm8k",
        hub_revision="e53f048856ff4f594e959d75785d2c2d37b678ee",
        subsets=(Subset("main", "gsm8k/main", "main"),),
        splits={"train": "train", "test": "test"},
        columns=_strings("question", "answer"),
        read_row=_read_gsm8k,
        instruction="There is a math problem. Respond with the steps of its solution, "
        "and in the last line with #### and the number that is the answer.",
        format=format_text,
        is_correct=gsm8k.is_correct,
        stop=SOLUTION_STOP,
    )
)
_is_whole = True
