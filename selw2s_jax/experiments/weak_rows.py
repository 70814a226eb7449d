"""What each of several weak models learns: its rows of the half of its task, and seeds of its own."""

from collections.abc import Collection
from typing import Any, NamedTuple

import ml_collections

from selw2s_jax.data import members, splits
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import examples


class Rows(NamedTuple):
    """The rows that a weak model learns.

    Attributes:
        split: as the model reads them.
        columns: that they carry besides their labels and embeddings.
    """

    split: splits.Split
    columns: dict[str, examples.Column]

    def without(self, groups: Collection[str]) -> "Rows":
        """The rows of other questions than these."""
        if not groups:
            return self
        keep = [example.group not in groups for example in self.split.examples]
        return self._replace(split=self.split.only(keep))


def rows(config: ml_collections.ConfigDict, number: int, half: splits.Split, seed: int) -> Rows:
    """The rows of a weak model, as `weak.rows` says.

    Members that learn the same task share its half. Disjoint parts are of whole questions, about equally many in each.
    A bootstrap draws as many questions as there are, with replacement; a row counts in the loss as often as its
    question was drawn, so that ids stay unique, steps are those of the others, and rows that were not drawn count for
    nothing.

    Args:
        half: the weak half of its task, as it reads it.
        seed: of the parts or draws.

    Raises:
        UserError: there are fewer questions than parts.
    """
    every = members.of(config)
    sharing = [other for other, one in enumerate(every) if one.task == every[number].task]
    if len(every) == 1 or config.weak.rows == "same":
        return Rows(half, {})
    if config.weak.rows == "bootstrap":
        counts = splits.bootstrap(half.examples, seed=seed, purpose=f"rows of weak model {number}")
        drawn = dict(zip(half.ids, counts.tolist(), strict=True))
        return Rows(half, {"example_weight": examples.Drawn(drawn)})
    num_questions = len({example.group for example in half.examples})
    if 0 < num_questions < len(sharing):  # 0: a plan without data
        raise UserError(
            f"config.weak.rows=disjoint: {len(sharing)} weak models share {num_questions} question(s) of "
            f"{half.task.name}; raise data.num_train, or name fewer weak.members"
        )
    part = splits.folds(half.examples, len(sharing), seed=seed, purpose="parts of weak models")
    return Rows(half.only(part == sharing.index(number)), {})


def seed_of(base: int, model: pretrained.Model) -> int:
    """A seed of 32 bits of a weak model's own, of one that all have: that one for the first, and for other models."""
    if model.role != "weak" or not model.number:
        return base
    of_member: list[Any] = ["weak model", base, model.number]
    return int(artifacts.content_hash(of_member)[:8], 16)
