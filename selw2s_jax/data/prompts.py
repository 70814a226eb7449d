"""Few-shot prompts, and what the class head reads (S, Table 1 and Training to Predict P(IK))."""

from collections.abc import Sequence

from selw2s_jax import errors
from selw2s_jax.data import tasks

# Continuations that are compared after a prompt; index = label.
ANSWERS = (" 0", " 1")

CLASSIFIER_PROMPTS = ("bare", "instruction", "fewshot")


def few_shot_prompt(instruction: str, shots: Sequence[tasks.Example], text: str) -> str:
    """The instruction, the solved problems and the problem, blank lines between, ending in `R:`.

    A solved problem is `{text} R: {label}`, and the answer to the prompt is one of `ANSWERS`; or, where answers
    are generated, `{text} R: {solution}`.
    """
    answers = [f" {shot.solution}" if shot.solution else ANSWERS[shot.label] for shot in shots]
    solved = [f"{shot.text} R:{answer}" for shot, answer in zip(shots, answers, strict=True)]
    return "\n\n".join([instruction, *solved, f"{text} R:"])


def classifier_input(
    text: str, *, prompt: str, instruction: str = "", shots: Sequence[tasks.Example] = ()
) -> str:
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
