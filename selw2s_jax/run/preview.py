"""One question of each task as each model is given it to read (Selective W2SG, Figure 2)."""

import dataclasses
from collections.abc import Sequence

from selw2s_jax.data import splits
from selw2s_jax.experiments import selective

_CLASSIFIERS = {"test": "weak model and students", "p_ik": "P(IK) head"}


def describe(experiment: selective.Experiment) -> list[dict[str, str]]:
    """Each with "task", "reader" and "text", of the first seed."""
    inputs = experiment.inputs
    seed, data = next(iter(inputs.by_seed.items()))
    shown: dict[tuple[str, str], str] = {}
    for name in ("test", "p_ik"):
        split = getattr(data, name)
        if split is None:
            continue
        first = splits.Split(split.examples[:1], split.task, split.prompt, split.shots, chat=split.chat)
        as_weak = _as_weak(experiment, seed, name, first)
        if as_weak is not first:
            shown.setdefault((split.task.name, "weak model"), as_weak.texts[0])
            shown.setdefault((split.task.name, "students"), first.texts[0])
        else:
            reader = _CLASSIFIERS[name if inputs.weak else "p_ik"]
            shown.setdefault((split.task.name, reader), first.texts[0])
        if experiment.has_answers(name) or (name == "test" and experiment.has_answers("student_half")):
            shown.setdefault((split.task.name, "few-shot prompt"), first.few_shot_prompts()[0])
    for model, half in zip(inputs.weak, experiment.weak_halves if inputs.weak else (), strict=True):
        if half != "weak_half":
            read = experiment.split(model, seed, half)
            shown.setdefault((read.task.name, "weak model in training"), _first_text(read))
    return [{"task": task, "reader": reader, "text": text} for (task, reader), text in shown.items()]


def _as_weak(experiment: selective.Experiment, seed: int, name: str, first: splits.Split) -> splits.Split:
    """A question of the test as the first weak model reads it; of P(IK), which no weak model reads, as it is."""
    if name != "test" or not experiment.inputs.weak:
        return first
    read = experiment.split(experiment.inputs.weak[0], seed, name)
    return first.read_as(read.prompt).read_with(read.contexts)


def _first_text(split: splits.Split) -> str:
    return dataclasses.replace(split, examples=split.examples[:1]).texts[0]


def to_text(shown: Sequence[dict[str, str]]) -> str:
    """The same for a terminal, each once."""
    parts = dict.fromkeys(f"--- {one['task']}, {one['reader']}\n{one['text']}\n" for one in shown)
    return "\n".join(parts)
