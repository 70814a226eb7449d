"""Several prompts of one question, whose answers show how sure a model is (arXiv 2406.19032, Section 4.1).

Choices in other orders, the two words of an instruction in both orders, or the question reworded: by `data.rewording`
or in a file. Everything is drawn by (seed, example_id), so that other questions change nothing.
"""

import dataclasses
import math
import os
from collections.abc import Collection, Sequence
from typing import Any

from selw2s_jax.data import by_id, rows
from selw2s_jax.errors import UserError

_FORM = '{"example_id": text, "paraphrases": [text, ...]}'


@dataclasses.dataclass(frozen=True, slots=True)
class Variation:
    """How a prompt differs from the original one; what is left at its default does not.

    Attributes:
        order: of the choices, or of the two words in the instruction: `order[j]` is the original index of what is
            shown at place j.
        text: the question in other words.
        wording: which of the task's wordings of its instruction, 0 being the original.
        is_instruction_behind: whether the instruction stands behind the question.
    """

    order: tuple[int, ...] | None = None
    text: str | None = None
    wording: int = 0
    is_instruction_behind: bool = False


def check_count(count: int) -> None:
    """Raises UserError unless it is a number of variations."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UserError(f"variations.count is {count}; it must be 1 or more")


def permutations(
    example_id: str, num_choices: int, *, count: int, seed: int, cyclic: bool = False
) -> list[tuple[int, ...]]:
    """Different orders of choices, the original one among them or not, as the draws have it.

    Args:
        example_id: of the question.
        num_choices: K, at least 2; for the two words of an instruction 2.
        count: N; there are min(N, K!) of them, each set of orders as likely as any other, and in random order.
        seed: decides which.
        cyclic: min(N, K) orders, each of which moves the choices of the one before on by a place: with N >= K every
            choice stands once at every place.

    Returns:
        Orders; `order[j]` is the original index of the choice shown at place j.

    Raises:
        UserError: `count` is no number of variations, or there are less than two choices.
    """
    check_count(count)
    if num_choices < 2:
        raise UserError(f"question {example_id} has {num_choices} choice; it takes two to vary their order")
    drawn = _draw_order(example_id, num_choices, seed, 0)
    if cyclic:
        return [drawn[i:] + drawn[:i] for i in range(min(count, num_choices))]
    found = {drawn: None}
    attempt = 0
    while len(found) < min(count, math.factorial(num_choices)):
        attempt += 1
        found[_draw_order(example_id, num_choices, seed, attempt)] = None
    return list(found)


def _draw_order(example_id: str, num_choices: int, seed: int, attempt: int) -> tuple[int, ...]:
    """One of all orders, each as likely."""
    draws = [
        by_id.keyed_uniform(seed, f"order of choices/{attempt}/{i}", example_id) for i in range(num_choices)
    ]
    return tuple(sorted(range(num_choices), key=draws.__getitem__))


def read_paraphrases(
    path: str | os.PathLike, example_ids: Sequence[str], *, count: int, others: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """The first `count` paraphrases of each question, from JSON lines of `{"example_id": ..., "paraphrases": [...]}`.

    Args:
        others: example_ids of questions that the file may have too.

    Raises:
        UserError: no such file; lines that are wrong, as `rows.describe` names them, or have too few paraphrases;
            questions that the file lacks, or that it has and the run does not.
    """
    check_count(count)
    file = rows.find_file(path, f"give JSON lines of {_FORM}")
    found: dict[str, tuple[str, ...]] = {}
    faults = []
    lines = rows.read(file, ("example_id", "paraphrases"))
    for line, values in lines:
        try:
            name, texts = _parse(values, count)
            if name in found:
                raise ValueError(f"example_id {rows.show(name)} is also above; remove one of the two")
            found[name] = texts
        except ValueError as error:
            faults.append((line, str(error)))
    if faults:
        raise UserError(f"{path}, {rows.describe(faults, len(lines))}")
    wanted = dict.fromkeys(example_ids)
    if missing := [name for name in wanted if name not in found]:
        raise UserError(
            f"{path} lacks {len(missing)} of {len(wanted)} questions (first: {missing[0]}); "
            "add their paraphrases, or ask fewer"
        )
    if extra := [name for name in found if name not in wanted and name not in others]:
        raise UserError(
            f"{path} has {len(extra)} questions that are not asked (first: {rows.show(extra[0])}); "
            "remove them, or correct their example_ids"
        )
    return {name: found[name] for name in wanted}


def _parse(values: dict[str, Any] | ValueError, count: int) -> tuple[str, tuple[str, ...]]:
    if isinstance(values, ValueError):
        raise ValueError(f"{values}; expected {_FORM}")
    name, texts = rows.text(values, "example_id"), values.get("paraphrases")
    if not isinstance(texts, list):
        raise ValueError(f"paraphrases must be a list of texts, found {rows.show(texts)}")
    texts = [rows.text({"paraphrases": text}, "paraphrases") for text in texts]
    if len(texts) < count:
        raise ValueError(f"{len(texts)} paraphrases, and variations.count is {count}; add some or lower it")
    if len({*texts[:count]}) < count:
        raise ValueError("a paraphrase is there twice; write it otherwise")
    return name, tuple(texts[:count])
