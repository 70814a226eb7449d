"""A small task whose answers are written, its questions under variations, and a model to ask."""

import dataclasses
import pathlib

from support import tokenizer_folders

from selw2s_jax.data import answers, tasks, variations
from selw2s_jax.data import written_tasks as written_lib
from selw2s_jax.hf import pretrained, random_checkpoint, tokenizers
from selw2s_jax.worlds import smoke

LETTERS = "ABCDEF"
CHOICES = ("moon", "iron", "bird")


class Task(written_lib.WrittenTask):
    """Choices in the order shown, or a sum."""

    def prompt(self, question, variation=None):
        variation = variation or variations.Variation()
        lines = [variation.text or question.text]
        if question.choices:
            order = variation.order or range(len(question.choices))
            lines += [f"{LETTERS[at]}. {question.choices[i]}" for at, i in enumerate(order)]
        return "\n".join([*lines, "### Answer:"])

    def parse(self, question, text, variation=None):
        order = (variation and variation.order) or tuple(range(len(question.choices or ())))
        shown = [question.choices[i] for i in order]
        parsed = answers.parse_in_full(self.kind, text, choices=shown)
        return parsed if parsed.answer is None or not shown else parsed._replace(answer=order[parsed.answer])

    def candidates(self, question, variation=None):
        if not question.choices:
            return None
        order = (variation and variation.order) or tuple(range(len(question.choices)))
        return [f" {LETTERS[order.index(i)]}. {choice}" for i, choice in enumerate(question.choices)]


CHOICE, NUMBER = (Task(f"tiny_{kind}", kind, ("",)) for kind in ("choice", "number"))


@dataclasses.dataclass(frozen=True)
class Split:
    """What the answers stage reads of a split."""

    task: written_lib.WrittenTask
    questions: list[tasks.Question]

    @property
    def ids(self):
        return [question.question_id for question in self.questions]

    def __len__(self):
        return len(self.questions)


def make_split(num: int = 7, task: Task = CHOICE) -> Split:
    """Questions of different lengths, their choices in turn."""
    questions = []
    for i in range(num):
        choices = (*CHOICES[i % 3 :], *CHOICES[: i % 3]) if task.kind == "choice" else None
        questions.append(tasks.Question(f"{task.name}/test/{i}", f"Q{i}{'?' * (i % 4)}", choices, 0))
    return Split(task, questions)


def make_plan(split: Split, count: int = 2) -> list[tuple[variations.Variation, ...]]:
    """Orders of choices, one variation less for every third question."""
    plan = []
    for i, name in enumerate(split.ids):
        orders = variations.permutations(name, 3, count=count - (i % 3 == 2), seed=5) if count else ()
        plan.append(tuple(variations.Variation(order=order) for order in orders))
    return plan


def write_model(folder: pathlib.Path, *, role: str = "strong") -> pretrained.Model:
    """A random GPT-2 of one layer, whose tokenizer ends texts with `<|end|>` (1)."""
    config = dataclasses.replace(
        smoke.RANDOM_MODELS["random-tiny-gpt2"], num_layers=1, vocab_size=301, max_seq_len=128
    )
    random_checkpoint.write_random_checkpoint(folder, config, scale=0.5)
    tokenizer_folders.write_json(folder, eos_token="<|end|>")
    tokenizer = tokenizers.load_tokenizer(folder)
    return pretrained.Model(role, "tiny", folder, config, tokenizer, f"tiny {role}", 1e-4, 128)
