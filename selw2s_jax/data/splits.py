"""Which examples go where: the sample of the train split, its two halves, the few-shot problems.

Everything is decided per group (question) by draws keyed by (seed, group): with random sampling the order of
the rows does not matter.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax import errors
from selw2s_jax.data import by_id, contexts, lengths, prompts, tasks
from selw2s_jax.data import chat as chat_lib
from selw2s_jax.runtime import artifacts

SAMPLES = ("random", "first")
# Fields of `SeedData`, with what they are called.
NAMES = {
    "weak_half": "weak half",
    "student_half": "student's half",
    "test": "test",
    "p_ik": "P(IK)",
    "p_ik_test": "P(IK) test",
    "held_out": "held out of the student's half",
}
CEILING_SPLITS = ("student", "weak", "both")  # that the ceiling may be trained on


def sample_examples(
    examples: Sequence[tasks.Example], num_examples: int | None, *, seed: int, sample: str = "random"
) -> list[tasks.Example]:
    """At most `num_examples` of the examples, whole groups only, in their given order.

    Args:
        examples: any number of examples.
        num_examples: the limit; None takes all.
        seed: decides which groups, where `sample` is `random`.
        sample: `random`, or `first` (in order, as openai/weak-to-strong takes them).

    Raises:
        UserError: `sample` is unknown, or the limit leaves nothing.
    """
    if sample not in SAMPLES:
        raise errors.UserError(f"data.sample is {sample!r}; choose one of {', '.join(SAMPLES)}")
    if num_examples is None:
        return list(examples)
    groups = _group(examples)
    names = list(groups) if sample == "first" else _keyed_order(groups, seed, "sample")
    taken: set[str] = set()
    total = 0
    for name in names:
        total += len(groups[name])
        if total > num_examples:
            break
        taken.add(name)
    if not taken:
        raise errors.UserError(f"a limit of {num_examples} examples leaves no whole question; raise it")
    return [example for example in examples if example.group in taken]


def sample_and_halve(
    examples: Sequence[tasks.Example], *, num_train: int | None, seed: int, sample: str = "random"
) -> tuple[list[tasks.Example], list[tasks.Example]]:
    """The weak model's half and the student's half of at most `num_train` examples.

    The halves have equally many groups, the student's one more where the number is odd. Both come in a keyed
    order that does not depend on the order of `examples`.

    Raises:
        UserError: fewer than two questions, or as `sample_examples`.
    """
    groups = _group(sample_examples(examples, num_train, seed=seed, sample=sample))
    if len(groups) < 2:
        raise errors.UserError(f"{len(groups)} training question(s) cannot be halved; give at least 2")
    order = _keyed_order(groups, seed, "halves")
    num_weak = len(order) // 2
    weak, student = (
        [example for name in names for example in groups[name]]
        for names in (order[:num_weak], order[num_weak:])
    )
    return weak, student


def folds(
    examples: Sequence[tasks.Example], num_folds: int, *, seed: int, purpose: str = "folds"
) -> np.ndarray:
    """A fold for each example, `[N]` int32 in [0, num_folds): whole groups, about equally many in each.

    Args:
        purpose: what they are for; those of different purposes are independent.
    """
    groups = _keyed_order(_group(examples), seed, purpose)
    fold = {name: number % num_folds for number, name in enumerate(groups)}
    return np.array([fold[example.group] for example in examples], np.int32)


def hold_out(
    examples: Sequence[tasks.Example], share: float, *, seed: int
) -> tuple[list[tasks.Example], list[tasks.Example]]:
    """Examples that are kept, and those of a share of the groups; both in their given order.

    The share is rounded to whole groups, of which one at least is on either side.

    Raises:
        UserError: there are fewer than two.
    """
    names = _keyed_order(_group(examples), seed, "held out")
    if len(names) < 2:
        raise errors.UserError(
            f"evaluation.held_out={share} of {len(names)} question(s) leaves none to train on: give more"
        )
    held = set(names[: min(max(round(share * len(names)), 1), len(names) - 1)])
    kept = [example for example in examples if example.group not in held]
    return kept, [example for example in examples if example.group in held]


def bootstrap(examples: Sequence[tasks.Example], *, seed: int, purpose: str) -> np.ndarray:
    """How often each example is drawn, `[N]` float32: as many groups as there are, drawn with replacement.

    Args:
        purpose: what the draws are for; those of different purposes are independent.
    """
    groups = sorted(_group(examples))
    draws = [by_id.keyed_uniform(seed, purpose, str(number)) for number in range(len(groups))]
    counts = collections.Counter(groups[int(draw * len(groups))] for draw in draws)
    return np.array([counts[example.group] for example in examples], np.float32)


def pick_shots(examples: Iterable[tasks.Example], *, num_shots: int = 4, seed: int) -> list[tasks.Example]:
    """The solved problems of a few-shot prompt: half of each label, one per question, in a fixed mixed order.

    Where answers are generated there are no labels, and any questions will do.

    Raises:
        UserError: `num_shots` is negative, or odd where there are labels, or there are not enough questions.
    """
    groups = _group(examples)
    if any(members[0].solution for members in groups.values()):
        return _pick_solved(groups, num_shots, seed)
    if num_shots < 0 or num_shots % 2:
        raise errors.UserError(f"the number of shots is {num_shots}; it must be even, half of each label")
    shots: dict[int, list[tasks.Example]] = {0: [], 1: []}
    for name in _keyed_order(groups, seed, "shots"):
        # Where a question has points of both labels, it serves the label that has fewer shots so far.
        for example in sorted(groups[name], key=lambda e: (len(shots[e.label]), e.example_id)):
            if len(shots[example.label]) < num_shots // 2:
                shots[example.label].append(example)
                break
    for label, found in shots.items():
        if len(found) < num_shots // 2:
            raise errors.UserError(
                f"{num_shots} shots need {num_shots // 2} questions of label {label}, found {len(found)}; "
                "raise data.num_train or lower the number of shots"
            )
    mixed = {example.example_id: example for example in shots[0] + shots[1]}
    return [mixed[name] for name in _keyed_order(mixed, seed, "order of shots")]


def _pick_solved(groups: dict[str, list[tasks.Example]], num_shots: int, seed: int) -> list[tasks.Example]:
    """Shots of a task whose answers are generated."""
    if num_shots < 0:
        raise errors.UserError(f"the number of shots is {num_shots}; it must be 0 or more")
    if len(groups) < num_shots:
        raise errors.UserError(
            f"{num_shots} shots need {num_shots} solved questions, found {len(groups)}; "
            "raise data.num_train or lower the number of shots"
        )
    return [groups[name][0] for name in _keyed_order(groups, seed, "shots")[:num_shots]]


def _group(examples: Iterable[tasks.Example]) -> dict[str, list[tasks.Example]]:
    """Examples by group, groups in order of first appearance, within a group by example_id."""
    groups: dict[str, list[tasks.Example]] = {}
    for example in examples:
        groups.setdefault(example.group, []).append(example)
    for members in groups.values():
        members.sort(key=lambda example: example.example_id)
    return groups


def _keyed_order(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    return sorted(names, key=lambda name: (by_id.keyed_uniform(seed, purpose, name), name))


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples with what the models read of them; ground truth apart.

    Attributes:
        examples: `data.tasks.Example`s.
        task: that they are of.
        prompt: form of the classifier input, "bare", "instruction" or "fewshot".
        shots: of the few-shot prompt.
        contexts: by example_id, what a weak model reads behind the classifier input; None for nothing.
        chat: the template by which the language model is asked, None for plain prompts.
    """

    examples: Sequence[tasks.Example]
    task: tasks.Task
    prompt: str
    shots: Sequence[tasks.Example]
    contexts: Mapping[str, str] | None = None
    chat: chat_lib.Template | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @functools.cached_property
    def ids(self) -> list[str]:
        return [example.example_id for example in self.examples]

    @functools.cached_property
    def labels(self) -> np.ndarray:
        return np.array([example.label for example in self.examples], np.int32)

    @functools.cached_property
    def few_shot(self) -> prompts.FewShot:
        """The form of what the language model answers."""
        return prompts.FewShot.of(self.task, self.shots, self.chat)

    @functools.cached_property
    def texts(self) -> list[str]:
        """What the class head and the P(IK) head read."""
        form = {"prompt": self.prompt, "instruction": self.task.instruction, "shots": self.few_shot.shots}
        texts = [prompts.classifier_input(example.text, **form) for example in self.examples]
        if self.contexts is None:
            return texts
        return [
            contexts.behind(text, self.contexts[name]) for name, text in zip(self.ids, texts, strict=True)
        ]

    def tokens(self, reader: lengths.Reader) -> list[np.ndarray]:
        """`lengths.encode` of the texts; those of the last reader are kept, as many stages ask one after the other."""
        kept = self._kept.get("tokens")
        if kept is None or kept[0] != reader:
            kept = self._kept["tokens"] = (reader, lengths.encode(self.texts, reader))
        return kept[1]

    def is_overlong(self, reader: lengths.Reader) -> np.ndarray:
        """`lengths.is_overlong` of the texts, `[N]` bool; done once for each reader, as it takes many tokens."""
        if ("overlong", reader) not in self._kept:
            self._kept["overlong", reader] = lengths.is_overlong(self.texts, reader)
        return self._kept["overlong", reader]

    @functools.cached_property
    def _kept(self) -> dict[Any, Any]:
        return {}

    def few_shot_prompts(self) -> list[str]:
        """What the language model answers."""
        return self.few_shot.build(len(self.shots), self.examples)

    @functools.cached_property
    def texts_hash(self) -> str:
        """Of ids and classifier inputs, without ground truth."""
        return artifacts.content_hash([self.ids, self.texts])

    @functools.cached_property
    def prompts_hash(self) -> str:
        return artifacts.content_hash([self.ids, self.few_shot_prompts()])

    @functools.cached_property
    def solutions_hash(self) -> str:
        """Of the ground truth of questions that are answered at length."""
        return artifacts.content_hash([self.ids, [example.solution for example in self.examples]])

    @functools.cached_property
    def labels_hash(self) -> str:
        return artifacts.content_hash([self.ids, self.labels.tolist()])

    def joined(self, other: "Split") -> "Split":
        """The other's examples and then these, read as these are."""
        return dataclasses.replace(self, examples=[*other.examples, *self.examples])

    def read_as(self, prompt: str | None) -> "Split":
        """The same examples in another form of the classifier input, always the same object; None: in their own."""
        if prompt in (None, self.prompt):
            return self
        return self._kept.setdefault(("read as", prompt), dataclasses.replace(self, prompt=prompt))

    def read_with(self, texts: Mapping[str, str] | None) -> "Split":
        """The same examples with texts behind them, always the same object for the same mapping; None: without."""
        if texts is None:
            return self
        return self._kept.setdefault(("read with", id(texts)), dataclasses.replace(self, contexts=texts))

    def only(self, keep: Sequence[bool]) -> "Split":
        kept = [example for example, wanted in zip(self.examples, keep, strict=True) if wanted]
        return dataclasses.replace(self, examples=kept)


@dataclasses.dataclass(frozen=True)
class SeedData:
    """The splits of one seed. Every seed tests on the same items. A run of P(IK) alone has no halves.

    Attributes:
        weak_by_task: the weak halves of other tasks, where weak models learn these.
    """

    weak_half: Split | None
    student_half: Split | None
    test: Split
    p_ik: Split | None
    p_ik_test: Split | None  # held-out questions of p_ik.task
    held_out: Split | None = None  # of the student's half, what no model is trained on
    weak_by_task: Mapping[str, Split] = dataclasses.field(default_factory=dict)

    def named(self, name: str) -> Split | None:
        """A split by the name of its field; of `weak_by_task` as weak_half@TASK."""
        field, _, task = name.partition("@")
        return self.weak_by_task[task] if task else getattr(self, field)
