"""A small task whose answers are written, its questions under variations, and a model to ask."""

import dataclasses
import pathlib

from support import tokenizer_folders

from selw2s_jax.data import tasks, variations, written_splits
from selw2s_jax.data import written_tasks as written_lib
from selw2s_jax.hf import pretrained, random_checkpoint, tokenizers
from selw2s_jax.worlds import smoke

CHOICES = ("moon", "iron", "bird")
CHOICE = written_lib.WrittenTask(
    "tiny_choice",
    "choice",
    ("{text}",),
    question_form="{choices}",
    choice_form="{letter}. {choice}",
    header="",
)
NUMBER = written_lib.WrittenTask("tiny_number", "number", ("",), question_form="{text}", header="")


def make_split(num: int = 7, task: written_lib.WrittenTask = CHOICE) -> written_splits.WrittenSplit:
    """Questions of different lengths, their choices in turn."""
    questions = []
    for i in range(num):
        choices = (*CHOICES[i % 3 :], *CHOICES[: i % 3]) if task.kind == "choice" else None
        questions.append(tasks.Question(f"{task.name}/test/{i}", f"Q{i}{'?' * (i % 4)}", choices, 0))
    return written_splits.WrittenSplit(task, questions)


def make_plan(split: written_splits.WrittenSplit, count: int = 2) -> list[tuple[variations.Variation, ...]]:
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
