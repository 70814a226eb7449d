"""Tasks whose answers are written: a question in, the text of an answer out (arXiv 2406.19032, Appendices A and B).

One prompt for weak training, labels, students and test; it ends at `### Answer:`, and a completion begins with a space.
A new task is one `register(WrittenTask(...))`; those of the paper are in `data.written_catalogue`, which
`data.written_rows` imports.
"""

import copy
import dataclasses
import difflib
import fractions
import functools
import importlib
import string
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from selw2s_jax import errors
from selw2s_jax.data import answers, gsm8k, tasks, variations
from selw2s_jax.method import registering
from selw2s_jax.runtime import json_forms

ROLES = ("weak", "student", "test")  # who reads which rows
KINDS = ("choice", "words", "number")

EQUAL_CHOICES = "two choices are equal but for case and spaces around them"  # a fault of a question

_END = "### Answer:"
# What templates may have: of all kinds, of each, and of a choice.
_FIELDS = {"text", "context"}
_SHOWN = {"choice": {"choices", "letters"}, "words": {"first", "second"}, "number": set()}
_OF_CHOICES = {"letter", "choice"}
_BY_WORDS = "instructions_by_words"
# Of a task as JSON values.
_FORM = {
    **dict.fromkeys(("name", "kind", "question_form", "choice_form", "header"), str),
    "instructions": [str],
    _BY_WORDS: [{"words": [str], "instructions": [str]}],
    "has_equal_choices": bool,
    "max_new_tokens": int,
}
_MOST_PLACES = 6  # of a decimal fraction; other numbers are written as 5/3


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of a role come from.

    Attributes:
        split: the data set's own name, which is also that of its file.
        part: (number, of how many) equal parts, drawn by question_id, that the rows are divided into; None: all rows.
        limit: most of them, as the paper takes; None: all.
    """

    split: str
    part: tuple[int, int] | None = None
    limit: int | None = None


@dataclasses.dataclass(frozen=True)
class WrittenTask:
    """A data set whose answers are written.

    A prompt is `{header}{instruction} {question} ### Answer:`. Templates may have `{text}` and `{context}` of the
    question, its `{choices}` in the order shown, their `{letters}`, as in A,B,C,D, and `{first}` and `{second}`, the
    two words in the order shown.

    Attributes:
        name: the registry name, first part of every example_id.
        kind: of `answers.parse`: "choice", "words" or "number".
        instructions: wordings of what stands before the question, the original first.
        rows: of each of `ROLES`. None are needed where questions are given directly (`written_splits.divide`).
        question_form: template of the question with its choices.
        choice_form: template of a choice, `{letter}` and `{choice}`; they are joined by spaces.
        header: what stands before the instruction.
        instructions_by_words: of kind "words", the wordings by the two words, where the task has questions of several
            pairs; no question then has another pair. Empty: `instructions`.
        weak_rows: other rows that the weak model may be trained on, by the name that a config gives.
        trial_splits: further splits that a folder without the roles' own is divided from.
        is_divisible: whether a folder without the roles' own splits is divided at all.
        has_equal_choices: whether the data set has questions with the same choice twice; they are asked as they are.
        hub_name, hub_revision, hub_parquet, subsets, columns, optional_columns, read_row: as of `tasks.Task`. A
            question of kind "words" has its two words as choices.
        max_new_tokens: that an answer is given, where the config says nothing.
        reading: of `answers.READINGS`, how answers are read.
    """

    name: str
    kind: str
    instructions: tuple[str, ...]
    rows: Mapping[str, Rows] = dataclasses.field(default_factory=dict)
    question_form: str = "### Question: {text}"
    choice_form: str = "{letter}. {choice}."
    header: str = "### Instruction: "
    instructions_by_words: Mapping[tuple[str, str], tuple[str, ...]] = dataclasses.field(default_factory=dict)
    weak_rows: Mapping[str, Rows] = dataclasses.field(default_factory=dict)
    trial_splits: tuple[str, ...] = ()
    is_divisible: bool = True
    has_equal_choices: bool = False
    hub_name: str | None = None
    hub_revision: str | None = None
    hub_parquet: bool = False
    subsets: tuple[tasks.Subset, ...] = ()
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    optional_columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    read_row: Callable[..., Any] | None = None
    max_new_tokens: int = 50
    reading: str = answers.RULES

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(
                f"task {self.name}: unknown kind {self.kind!r}; choose one of {', '.join(KINDS)}"
            )
        if not all((self.instructions, *self.instructions_by_words.values())):
            raise ValueError(
                f"task {self.name}: no wording of its instruction; give one, which may be empty text"
            )
        if any(len(words) != 2 for words in self.instructions_by_words):
            raise ValueError(f"task {self.name}: {_BY_WORDS} has other than two words")
        _check_template(self.name, self.choice_form, _OF_CHOICES)
        for template in (self.question_form, *self._all_wordings):
            _check_template(self.name, template, _FIELDS | _SHOWN[self.kind])

    @property
    def _all_wordings(self) -> list[str]:
        return [one for own in (self.instructions, *self.instructions_by_words.values()) for one in own]

    @property
    def needs_context(self) -> bool:
        """Whether a prompt has the question's context."""
        return any("context" in _fields(one) for one in (self.question_form, *self._all_wordings))

    def to_json(self) -> dict[str, Any]:
        """How questions are asked and answers read, without where rows come from; as JSON values."""
        by_words = [
            {"words": list(words), "instructions": list(own)}
            for words, own in self.instructions_by_words.items()
        ]
        plain = {name: getattr(self, name) for name in _FORM if name not in ("instructions", _BY_WORDS)}
        read = {} if self.reading == answers.RULES else {"reading": self.reading}
        return plain | {"instructions": list(self.instructions), _BY_WORDS: by_words} | read

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "WrittenTask":
        """The task that `to_json` described: it asks and reads the same, and has no rows.

        Raises:
            ValueError: they are no such fields.
        """
        json_forms.check(fields, _FORM | {"reading?": str})
        if fields.get("reading", answers.RULES) not in answers.READINGS:
            raise ValueError(f"{fields['reading']!r:.60} is no reading of answers")
        by_words = {tuple(own["words"]): tuple(own["instructions"]) for own in fields[_BY_WORDS]}
        given = {name: fields[name] for name in (*_FORM, "reading") if name in fields}
        return cls(**given | {"instructions": tuple(given["instructions"]), _BY_WORDS: by_words})

    @functools.cached_property
    def source(self) -> tasks.Task:
        """What `data.sources` reads the rows of, by the data set's own names of splits."""
        names = [rows.split for rows in (*self.rows.values(), *self.weak_rows.values())]
        return tasks.Task(
            name=self.name,
            instruction="",
            format=tasks.format_text,
            hub_name=self.hub_name,
            hub_revision=self.hub_revision,
            hub_parquet=self.hub_parquet,
            subsets=self.subsets,
            splits={name: name for name in (*names, *self.trial_splits)},
            columns=self.columns,
            optional_columns=self.optional_columns,
            read_row=self.read_row,
        )

    def with_weak_rows(self, name: str) -> "WrittenTask":
        """The task with rows for the weak model that were chosen by their name in `weak_rows`.

        Where they are others than the task's own, a folder that lacks them is not divided.

        Raises:
            UserError: there are none of that name.
        """
        if name not in self.weak_rows:
            known = ", ".join(self.weak_rows) or "none"
            raise errors.UserError(
                f"task {self.name} has no rows {name!r} for the weak model (it has: {known})"
            )
        rows = {**self.rows, "weak": self.weak_rows[name]}
        return self.altered(rows=rows, is_divisible=rows == self.rows)

    def altered(self, **fields: Any) -> "WrittenTask":
        """The same but for some attributes, as `dataclasses.replace`, also of a class with an `__init__` of its own."""
        found = copy.copy(self)
        vars(found).pop("source", None)  # made of the attributes as they were
        vars(found).update(fields)
        return found

    def wordings(self, question: tasks.Question) -> tuple[str, ...]:
        """Templates of the instruction of a question, the original first."""
        return self.instructions_by_words.get(tuple(question.choices or ()), self.instructions)

    def truth(self, question: tasks.Question) -> answers.Answer:
        """The right answer, as `parse` gives it: an original index, or an exact number."""
        return gsm8k.parse_answer(question.solution) if self.kind == "number" else question.answer

    def prompt(self, question: tasks.Question, variation: variations.Variation | None = None) -> str:
        """What a model reads, up to and with `### Answer:`."""
        variation = variation or variations.Variation()
        fields = {
            "text": question.text if variation.text is None else variation.text,
            "context": question.context,
            **self._shown_fields(question, variation),
        }
        instruction = self.header + self.wordings(question)[variation.wording].format(**fields)
        asked = self.question_form.format(**fields)
        parts = [asked, instruction] if variation.is_instruction_behind else [instruction, asked]
        return " ".join([*parts, _END])

    def _shown_fields(self, question: tasks.Question, variation: variations.Variation) -> dict[str, str]:
        if self.kind == "number":
            return {}
        shown = [question.choices[i] for i in _order(question, variation)]
        if self.kind == "words":
            return {"first": shown[0], "second": shown[1]}
        letters = string.ascii_uppercase[: len(shown)]
        pairs = zip(letters, shown, strict=True)
        choices = " ".join(self.choice_form.format(letter=letter, choice=choice) for letter, choice in pairs)
        return {"choices": choices, "letters": ",".join(letters)}

    def completion(
        self,
        question: tasks.Question,
        answer: answers.Answer,
        variation: variations.Variation | None = None,
    ) -> str:
        """An answer in the task's form, behind the prompt of that variation: its leading space, no end of text.

        Raises:
            ValueError: there is no answer.
        """
        if answer is None:
            raise ValueError(f"{question.question_id}: no answer to write")
        if self.kind == "number":
            return f" {_written_number(fractions.Fraction(answer))}"
        if self.kind == "words":
            return f" {question.choices[answer]}"
        place = _order(question, variation or variations.Variation()).index(answer)
        return f" {string.ascii_uppercase[place]}. {question.choices[answer]}"

    def reference(self, question: tasks.Question, variation: variations.Variation | None = None) -> str:
        """The completion that ground truth is: where there is a solution, with it."""
        truth = self.truth(question)
        first = self.completion(question, truth, variation)
        solution = question.solution.partition(gsm8k.ANSWER_MARK)[0].strip()
        is_number = gsm8k.numbers(solution) == [truth] and not any(map(str.isalpha, solution))
        return first if not solution or is_number else f"{first}\n{solution}"

    def parse(
        self, question: tasks.Question, text: str, variation: variations.Variation | None = None
    ) -> answers.Parsed:
        """What a completion says. The answer is an index in the *original* order, whatever order was shown."""
        if self.kind == "number":
            return answers.parse_in_full("number", text, reading=self.reading)
        if self.kind == "words":
            return answers.parse_in_full("words", text, words=question.choices, reading=self.reading)
        order = _order(question, variation or variations.Variation())
        shown = [question.choices[i] for i in order]
        parsed = answers.parse_in_full("choice", text, choices=shown, reading=self.reading)
        return parsed if parsed.answer is None else parsed._replace(answer=order[parsed.answer])

    def candidates(
        self, question: tasks.Question, variation: variations.Variation | None = None
    ) -> list[str] | None:
        """The completions of all answers in original order; None where answers are numbers."""
        if self.kind == "number":
            return None
        return [self.completion(question, i, variation) for i in range(len(question.choices))]

    def fault(self, question: tasks.Question) -> str | None:
        """What is wrong with a question that cannot be asked; None where nothing is."""
        if self.kind == "number":
            return None if self.truth(question) is not None else "the solution has no number"
        choices = question.choices or ()
        most = 2 if self.kind == "words" else len(string.ascii_uppercase)
        if not 2 <= len(choices) <= most:
            return f"{len(choices)} choice{'s' * (len(choices) != 1)}, where 2 to {most} can be shown"
        if not self.has_equal_choices and has_equal_choices(question):
            return EQUAL_CHOICES
        return None if 0 <= question.answer < len(choices) else "the answer is none of the choices"


def _fields(template: str) -> set[str]:
    """The names in braces; a ValueError for what is more than a name, or no template."""
    found = set()
    for _, name, form, conversion in string.Formatter().parse(template):
        if form or conversion:
            raise ValueError(f"{{{name}}} has a format or conversion")
        if name is not None:
            found.add(name)
    return found


def _check_template(task: str, template: str, known: Set[str]) -> None:
    try:
        unknown = _fields(template) - known
    except ValueError as error:
        raise ValueError(f"task {task}: {template!r:.60} is no template: {error}") from error
    if unknown:
        names = ", ".join(f"{{{name}}}" for name in sorted(known))
        raise ValueError(f"task {task}: {{{min(unknown)}}} in {template!r:.60} is none of {names}")


def has_equal_choices(question: tasks.Question) -> bool:
    """Whether two choices are equal but for case and spaces around them."""
    return len({choice.strip().casefold() for choice in question.choices or ()}) < len(question.choices or ())


def _order(question: tasks.Question, variation: variations.Variation) -> tuple[int, ...]:
    return tuple(range(len(question.choices))) if variation.order is None else variation.order


def _written_number(value: fractions.Fraction) -> str:
    """As people write it: 18, 2.5, and 5/3 where no decimal fraction is exact."""
    for places in range(1, _MOST_PLACES + 1):
        scaled = abs(value) * 10**places
        if value.denominator != 1 and scaled.denominator == 1:
            whole, rest = divmod(scaled.numerator, 10**places)
            return f"{'-' * (value < 0)}{whole}.{rest:0{places}}"
    return answers.to_text(value)


WRITTEN_TASKS: dict[str, WrittenTask] = {}


def register(task: WrittenTask) -> WrittenTask:
    """Adds `task` to `WRITTEN_TASKS`; ValueError where the name is taken, as `registering.claim` says."""
    importlib.import_module(
        "selw2s_jax.data.written_catalogue"
    )  # which has its names first, as in `tasks.register`
    registering.claim("written task", task.name, is_taken=task.name in WRITTEN_TASKS)
    WRITTEN_TASKS[task.name] = task
    return task


def get(name: str, *, role: str = "task") -> WrittenTask:
    """The registered task of that name.

    Args:
        name: of the task.
        role: what errors call it, such as the config key that named it.

    Raises:
        UserError: unknown name, with the nearest one offered.
    """
    if name in WRITTEN_TASKS:
        return WRITTEN_TASKS[name]
    nearest = difflib.get_close_matches(name.lower(), WRITTEN_TASKS, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    known = ", ".join(sorted(WRITTEN_TASKS))
    raise errors.UserError(f"unknown {role} {name!r} of written answers{hint} (known: {known})")


def user_task(
    name: str, questions: Sequence[tasks.Question], *, instruction: str | None = None
) -> WrittenTask:
    """The task of a user's file, by the form of its questions; not registered.

    Args:
        instruction: replaces the general one, as it is.

    Raises:
        UserError: the questions are statements to judge, which have no written answers.
    """
    own = None if instruction is None else (instruction.replace("{", "{{").replace("}", "}}"),)
    rows = {"weak": Rows("train", (0, 2)), "student": Rows("train", (1, 2)), "test": Rows("test")}
    if questions[0].solution:
        return WrittenTask(name, "number", own or _NUMBER_INSTRUCTIONS, rows)
    if questions[0].choices is None:
        raise errors.UserError(
            f"task {name} has statements to judge (text,label), and its answers are to be written; give the columns "
            "question,choices,answer or question,solution"
        )
    return WrittenTask(name, "choice", own or (_CHOICE_INSTRUCTION,), rows, _CHOICE_FORM)


_CHOICE_INSTRUCTION = (
    "The following is a multiple choice question. In your response, choose an answer from {letters}, and provide a "
    "brief explanation on your answer."
)
_CHOICE_FORM = "### Question: {text} {choices}"
_NUMBER_INSTRUCTIONS = (
    "The following is a question whose answer is a number. In your response, provide the numerical answer in the first "
    "line, and then provide a brief explanation in the second line.",
    "Answer the following question. Write the answer as a number in the first line, and explain it briefly in the "
    "second line.",
)
