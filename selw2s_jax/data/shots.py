"""What a language model is asked for a task: an instruction and solved problems, as a run keeps them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from selw2s_jax.data import prompts, tasks


@dataclasses.dataclass(frozen=True)
class FewShot:
    """The form of a task's few-shot prompts.

    Attributes:
        instruction: of the task.
        shots: solved problems (text, answer), none where the run asked the language model nothing.
        answers: what those answers are, and the model's: "labels" 0 and 1, or "solutions", which are written.
        stop: strings that end a solution.
    """

    instruction: str
    shots: tuple[tuple[str, int | str], ...]
    answers: str
    stop: tuple[str, ...]

    @classmethod
    def of(cls, task: tasks.Task, shots: Sequence[tasks.Example]) -> "FewShot":
        solved = tuple((shot.text, shot.solution or shot.label) for shot in shots)
        return cls(task.instruction, solved, "solutions" if task.is_generated else "labels", tuple(task.stop))

    @classmethod
    def from_json(cls, fields: dict[str, Any] | None) -> "FewShot | None":
        """What a manifest, or the facts of an exported student, say; those of earlier versions say nothing."""
        if fields is None:
            return None
        shots = tuple((text, answer) for text, answer in fields["shots"])
        return cls(fields["instruction"], shots, fields["answers"], tuple(fields["stop"]))

    @property
    def is_generated(self) -> bool:
        """Whether the model writes its answers, rather than choose between 0 and 1."""
        return self.answers == "solutions"

    def prompt(self, text: str, num_shots: int | None = None) -> str:
        """What the model answers for an example's text, with the last `num_shots` shots (default all)."""
        first = 0 if num_shots is None else len(self.shots) - num_shots
        return prompts.few_shot_prompt(self.instruction, solved_problems(self.shots[first:]), text)


def solved_problems(shots: Sequence[tuple[str, int | str]]) -> list[tasks.Example]:
    """Solved problems (text, answer) as examples; the answer is a label or a solution."""
    return [
        tasks.Example("", "", text, 0, answer)
        if isinstance(answer, str)
        else tasks.Example("", "", text, answer)
        for text, answer in shots
    ]
