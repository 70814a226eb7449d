"""Tasks whose answers are written: a question in, the text of an answer out (arXiv 2406.19032, Appendices A and B).

One prompt for weak training, labels, students and test; it ends at `### Answer:`, and a completion begins with a space.
A new task is one `register(WrittenTask(...))`.
"""

import dataclasses
import difflib
import fractions
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from selw2s_jax import errors
from selw2s_jax.data import answers, tasks, variations

ROLES = ("weak", "student", "test")  # who reads which rows


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

    Attributes:
        name: the registry name, first part of every example_id.
        kind: of `answers.parse`: "choice", "words" or "number".
        instructions: wordings of what stands before the question, the original first; `{first}` and `{second}` are the
            two words in the order shown.
        rows: of each of `ROLES`.
        hub_name, hub_revision, subsets, columns, read_row: as of `tasks.Task`. A question of kind "words" has its two
            words as choices.
        max_new_tokens: that an answer is given, where the config says nothing.
    """

    name: str
    kind: str
    instructions: tuple[str, ...]
    rows: Mapping[str, Rows] = dataclasses.field(default_factory=dict)
    hub_name: str | None = None
    hub_revision: str | None = None
    subsets: tuple[tasks.Subset, ...] = ()
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    read_row: Callable[..., Any] | None = None
    max_new_tokens: int = 50

    def truth(self, question: tasks.Question) -> answers.Answer:
        """The right answer, as `parse` gives it: an original index, or an exact number."""
        raise NotImplementedError

    def prompt(self, question: tasks.Question, variation: variations.Variation | None = None) -> str:
        """What a model reads, up to and with `### Answer:`."""
        raise NotImplementedError

    def completion(
        self,
        question: tasks.Question,
        answer: answers.Answer,
        variation: variations.Variation | None = None,
    ) -> str:
        """An answer in the task's form, behind the prompt of that variation: its leading space, no end of text."""
        raise NotImplementedError

    def reference(self, question: tasks.Question, variation: variations.Variation | None = None) -> str:
        """The completion that ground truth is: where there is a solution, with it."""
        raise NotImplementedError

    def parse(
        self, question: tasks.Question, text: str, variation: variations.Variation | None = None
    ) -> answers.Parsed:
        """What a completion says. The answer is an index in the *original* order, whatever order was shown."""
        raise NotImplementedError

    def candidates(
        self, question: tasks.Question, variation: variations.Variation | None = None
    ) -> list[str] | None:
        """The completions of all answers in original order; None where answers are numbers."""
        raise NotImplementedError
