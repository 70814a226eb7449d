"""Which variations of each question are asked: the config section `variations`, as lists of `variations.Variation`."""

import dataclasses
from collections.abc import Callable, Sequence

from selw2s_jax.data import rewording, tasks, variations, written_splits
from selw2s_jax.errors import UserError

AUTO = "auto"
MODEL = "model"  # questions in the words of a model of the run (`data.paraphrasing`)
_OF_TASKS = {"choice": "permutation", "words": "words", "number": "rules"}  # what `AUTO` is


@dataclasses.dataclass(frozen=True)
class Plan:
    """How questions are varied.

    Attributes:
        kind: one of `KINDS`, or "auto", which is "file" where there is one and else what suits the task's answers.
        count: N, the variations of a question besides its original prompt; where it has fewer, all of them.
        seed: decides which.
        cyclic: of permutations: orders of which each choice stands once at each place.
        file: of paraphrases.
        asked: example_ids that the file may have besides those of the split, as those of other seeds.
    """

    kind: str = AUTO
    count: int = 5
    seed: int = 0
    cyclic: bool = False
    file: str | None = None
    asked: frozenset[str] = frozenset()


Variations = tuple[variations.Variation, ...]


def kind_of(task_kind: str, settings: Plan) -> str:
    """The kind of variations of a task whose answers are of some kind.

    Raises:
        UserError: the kind is unknown, does not go with the answers, or lacks what it needs or has what it does not.
    """
    automatic = _OF_TASKS[task_kind] if settings.file is None else "file"
    kind = automatic if settings.kind == AUTO else settings.kind
    if kind not in KINDS:
        raise UserError(f"variations.kind is {kind!r}; choose one of {', '.join([AUTO, *KINDS])}")
    if (needed := {"permutation": "choice", "words": "words"}.get(kind, task_kind)) != task_kind:
        raise UserError(
            f"variations.kind={kind} varies answers of kind {needed}, and the task's are of kind {task_kind}; "
            f"set it to {_OF_TASKS[task_kind]} or {AUTO}"
        )
    if (kind == "file") != (settings.file is not None):
        fault = "needs variations.file" if kind == "file" else f"reads no variations.file={settings.file}"
        raise UserError(f"variations.kind={kind} {fault}; name the file with kind=file, or none")
    if settings.cyclic and kind != "permutation":
        raise UserError(
            f"variations.cyclic is of permutations, and variations.kind is {kind}; set it to False"
        )
    return kind


def plan(split: written_splits.WrittenSplit, settings: Plan) -> list[Variations]:
    """The variations of each question, `[len(split)]` tuples, without the original prompt.

    They are drawn by (seed, question_id). The original prompt may be among them, as the draws have it.

    Raises:
        UserError: as `kind_of`; the count is no number of variations; or as `variations.read_paraphrases`.
    """
    variations.check_count(settings.count)
    return KINDS[kind_of(split.task.kind, settings)](split, settings)


def _permutations(split: written_splits.WrittenSplit, settings: Plan) -> list[Variations]:
    return [_orders(question, settings, settings.cyclic) for question in split.questions]


def _words(split: written_splits.WrittenSplit, settings: Plan) -> list[Variations]:
    return [_orders(question, settings, False) for question in split.questions]


def _orders(question: tasks.Question, settings: Plan, cyclic: bool) -> Variations:
    orders = variations.permutations(
        question.question_id,
        len(question.choices),
        count=settings.count,
        seed=settings.seed,
        cyclic=cyclic,
    )
    return tuple(variations.Variation(order=order) for order in orders)


def _rules(split: written_splits.WrittenSplit, settings: Plan) -> list[Variations]:
    return [
        tuple(
            rewording.reword(
                question.question_id,
                question.text,
                count=settings.count,
                seed=settings.seed,
                num_wordings=len(split.task.wordings(question)),
            )
        )
        for question in split.questions
    ]


def _of_file(split: written_splits.WrittenSplit, settings: Plan) -> list[Variations]:
    found = variations.read_paraphrases(settings.file, split.ids, count=settings.count, others=settings.asked)
    return [tuple(variations.Variation(text=text) for text in found[name]) for name in split.ids]


def _originals(split: written_splits.WrittenSplit, settings: Plan) -> list[Variations]:
    return [(variations.Variation(),) * settings.count] * len(split)


KINDS: dict[str, Callable[[written_splits.WrittenSplit, Plan], Sequence[Variations]]] = {
    "permutation": _permutations,
    "words": _words,
    "rules": _rules,
    "file": _of_file,
    MODEL: _originals,  # until a stage of the run has reworded them, and where that fails
    "sampling": _originals,
}
