"""Few-shot prompts, and what the class head reads (S, Table 1 and Training to Predict P(IK))."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from selw2s_jax import errors
from selw2s_jax.data import chat as chat_lib
from selw2s_jax.data import tasks

# Continuations that are compared after a prompt; index = label.
ANSWERS = (" 0", " 1")

CLASSIFIER_PROMPTS = ("bare", "instruction", "fewshot")


Shot = tuple[str, int | str]  # a solved problem: its text, and its label or its solution


def few_shot_prompt(instruction: str, shots: Sequence[Shot], text: str) -> str:
    """The instruction, the solved problems and the problem, blank lines between, ending in `R:`.

    A solved problem is `{text} R: {label}`, and the answer to the prompt is one of `ANSWERS`; or, where answers
    are generated, `{text} R: {solution}`.
    """
    solved = [
        f"{problem} R:" + (f" {answer}" if isinstance(answer, str) else ANSWERS[answer])
        for problem, answer in shots
    ]
    return "\n\n".join([instruction, *solved, f"{text} R:"])


def classifier_input(text: str, *, prompt: str, instruction: str = "", shots: Sequence[Shot] = ()) -> str:
    """What the class head and the P(IK) head read for one example (config key `p_ik.prompt`).

    Args:
        text: the example's text.
        prompt: `bare`, the text alone, as openai/weak-to-strong; `instruction`, the prompt without shots;
          `fewshot`, the whole prompt that the language model answers.
        instruction: the task's instruction; not used by `bare`.
        shots: solved problems; used by `fewshot` alone.

    Raises:
        UserError: `prompt` is not one of `CLASSIFIER_PROMPTS`.
    """
    if prompt == "bare":
        return text
    if prompt == "instruction":
        return few_shot_prompt(instruction, (), text)
    if prompt == "fewshot":
        return few_shot_prompt(instruction, shots, text)
    raise errors.UserError(f"p_ik.prompt is {prompt!r}; choose one of {', '.join(CLASSIFIER_PROMPTS)}")


def chat_turns(instruction: str, shots: Sequence[Shot], text: str) -> list[chat_lib.Turn]:
    """The same as a dialogue: problems are the user's, their answers the assistant's, and the instruction is in front
    of the first problem, as many templates know no other place for it."""
    turns: list[chat_lib.Turn] = []
    for problem, answer in shots:
        turns += [("user", problem), ("assistant", str(answer))]
    turns.append(("user", text))
    role, first = turns[0]
    return [(role, f"{instruction}\n\n{first}"), *turns[1:]]


@dataclasses.dataclass(frozen=True)
class FewShot:
    """The form of a task's few-shot prompts.

    Attributes:
        instruction: of the task.
        shots: solved problems, none where the run asked the language model nothing.
        answers: what those answers are, and the model's: "labels" 0 and 1, or "solutions", which are written.
        stop: strings that end a solution; none in a dialogue, whose turns end by themselves.
        chat: the template by which they are a dialogue, None where they are plain text.
    """

    instruction: str
    shots: tuple[Shot, ...]
    answers: str
    stop: tuple[str, ...]
    chat: chat_lib.Template | None = None

    @classmethod
    def of(
        cls, task: tasks.Task, shots: Sequence[tasks.Example], chat: chat_lib.Template | None = None
    ) -> "FewShot":
        solved = tuple((shot.text, shot.solution or shot.label) for shot in shots)
        answers, stop = "solutions" if task.is_generated else "labels", tuple(task.stop)
        return cls(task.instruction, solved, answers, () if chat else stop, chat)

    @classmethod
    def from_json(cls, fields: dict[str, Any] | None) -> "FewShot | None":
        """What a manifest, or the facts of an exported student, say; those of earlier versions say nothing."""
        if fields is None:
            return None
        shots = tuple((text, answer) for text, answer in fields["shots"])
        chat = chat_lib.Template.from_json(fields["chat"]) if fields.get("chat") else None
        return cls(fields["instruction"], shots, fields["answers"], tuple(fields["stop"]), chat)

    @property
    def is_generated(self) -> bool:
        """Whether the model writes its answers, rather than choose between 0 and 1."""
        return self.answers == "solutions"

    def prompt(self, text: str, num_shots: int | None = None) -> str:
        """What the model answers for an example's text, with the last `num_shots` shots (default all)."""
        first = 0 if num_shots is None else len(self.shots) - num_shots
        if self.chat is not None:
            return self.chat.render(chat_turns(self.instruction, self.shots[first:], text))
        return few_shot_prompt(self.instruction, self.shots[first:], text)

    @property
    def continuations(self) -> tuple[str, str]:
        """What is compared after a prompt: the answers 0 and 1 as the shots have them."""
        return ANSWERS if self.chat is None else (f"{self.chat.lead}0", f"{self.chat.lead}1")

    def build(self, num_shots: int, examples: Sequence[tasks.Example]) -> list[str]:
        """The prompts of examples with the last `num_shots` shots."""
        return [self.prompt(example.text, num_shots) for example in examples]
