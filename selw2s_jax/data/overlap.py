"""Test questions that are trained on: found by context, question and right answer, or by the text, as P(IK)'s are."""

from collections.abc import Iterable, Sequence

from selw2s_jax.data import tasks
from selw2s_jax.errors import UserError

# What becomes of them: `data.overlap` of a config.
OVERLAPS = ("note", "drop", "refuse")


def questions_of(examples: Iterable[tasks.Example]) -> set[str]:
    """What examples of the same questions have one of in common."""
    return {name for example in examples for name in example.known_as}


def shared(examples: Iterable[tasks.Example], others: Iterable[tasks.Example]) -> set[str]:
    """The questions of `examples`, by their group, that are among the others, whatever their spaces and case."""
    known = {_normal(name) for name in questions_of(others)}
    return {example.group for example in examples if any(_normal(name) in known for name in example.known_as)}


def _normal(text: str) -> str:
    return " ".join(text.split()).casefold()


def settle(
    training: Sequence[tasks.Example], test: Sequence[tasks.Example], action: str
) -> tuple[list[tasks.Example], str | None]:
    """The training examples, without the test's where they are to be dropped; and a note where some were.

    Args:
        action: one of `OVERLAPS`.

    Raises:
        UserError: the whole test is among the training questions, or any of it where `action` is "refuse"; or nothing
          is left to train on.
    """
    both = shared(training, test)
    if not both:
        return list(training), None
    count = len({example.group for example in training})
    if action == "drop":
        if len(both) == count:
            raise UserError(
                "data.overlap=drop: every training question is one of the test's; give other training or test questions"
            )
        kept = [example for example in training if example.group not in both]
        return kept, f"{len(both)} of {count} training questions dropped, as the test has them"
    asked, known = {example.group for example in test}, shared(test, training)
    if action == "refuse" or known == asked:
        raise UserError(
            f"{len(known)} of {len(asked)} test questions are among the training questions too: set data.overlap=drop "
            "to leave them out of training, or give other test questions"
        )
    return list(training), None
