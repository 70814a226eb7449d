"""Rows of a split that labels of earlier stages choose: how many is known beforehand, which once these have run."""

import dataclasses
from typing import Any

import numpy as np

from selw2s_jax.data import batches, by_id, splits
from selw2s_jax.method import stages_of_labels
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import examples
from selw2s_jax.stages import stage as stage_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """All rows of a split; the other kinds are parts of them.

    Attributes:
        split: that they are of.
    """

    split: splits.Split

    def __len__(self) -> int:
        return len(self.split)

    @property
    def needs(self) -> tuple[stage_lib.Stage, ...]:
        """The stages that they are chosen by."""
        return ()

    @property
    def inputs(self) -> Any:
        """What the choice is a function of besides the split's texts, as a JSON value."""
        return "all"

    def ids(self, store: artifacts.Store) -> list[str]:
        """Their example_ids, once the stages that they need have run."""
        return self.split.ids

    def mask(self, store: artifacts.Store) -> np.ndarray:
        """Which rows of the split they are, `[N]` bool."""
        chosen = set(self.ids(store))
        return np.array([name in chosen for name in self.split.ids], bool)


@dataclasses.dataclass(frozen=True, eq=False)
class _Share(Rows):
    """A share of other rows.

    Attributes:
        of: the other rows.
        share: how many of them are kept, in [0, 1].
    """

    of: Rows
    share: float

    def __len__(self):
        return stages_of_labels.num_kept(len(self.of), self.share)


@dataclasses.dataclass(frozen=True, eq=False)
class MostConfident(_Share):
    """The share that labels are surest of; see `stages_of_labels.most_confident`.

    Attributes:
        labels: a column `[N, 2]` of the split.
    """

    labels: examples.Column

    @property
    def needs(self):
        return (*self.of.needs, *self.labels.needs)

    @property
    def inputs(self):
        # The number and not the share, which may be another with the same rows.
        return {"most confident": len(self), "of": self.of.inputs, "labels": self.labels.inputs}

    def ids(self, store):
        probs = dict(zip(self.split.ids, self.labels.read(self.split, store)[:, 1], strict=True))
        candidates = self.of.ids(store)
        return stages_of_labels.most_confident(candidates, [probs[name] for name in candidates], self.share)


@dataclasses.dataclass(frozen=True, eq=False)
class AtRandom(_Share):
    """As many rows, drawn by their ids; those of a smaller share are among those of a larger one.

    Attributes:
        seed: of the draws.
    """

    seed: int

    @property
    def needs(self):
        return self.of.needs

    @property
    def inputs(self):
        return {"at random": len(self), "of": self.of.inputs, "seed": self.seed}

    def ids(self, store):
        candidates = self.of.ids(store)
        draws = [by_id.keyed_uniform(self.seed, "random rows", name) for name in candidates]
        return stages_of_labels.highest(candidates, draws, self.share)


@dataclasses.dataclass(frozen=True, eq=False)
class Others(Rows):
    """The rows of the split that are not among others."""

    without: Rows

    def __len__(self):
        return len(self.split) - len(self.without)

    @property
    def needs(self):
        return self.without.needs

    @property
    def inputs(self):
        return {"not": self.without.inputs}

    def ids(self, store):
        left_out = set(self.without.ids(store))
        return [name for name in self.split.ids if name not in left_out]


@dataclasses.dataclass(frozen=True, eq=False)
class Union(Rows):
    """Rows of two kinds that have none in common."""

    first: Rows
    second: Rows

    def __len__(self):
        return len(self.first) + len(self.second)

    @property
    def needs(self):
        return (*self.first.needs, *self.second.needs)

    @property
    def inputs(self):
        return [self.first.inputs, self.second.inputs]

    def ids(self, store):
        return [*self.first.ids(store), *self.second.ids(store)]


@dataclasses.dataclass(frozen=True, eq=False)
class Spliced(examples.Column):
    """The values of one column on some rows and of another elsewhere.

    Attributes:
        rows: of the split that is read.
        on_rows, elsewhere: the columns.
    """

    rows: Rows
    on_rows: examples.Column
    elsewhere: examples.Column

    @property
    def needs(self):
        return (*self.rows.needs, *self.on_rows.needs, *self.elsewhere.needs)

    @property
    def inputs(self):
        return {
            "on rows": self.on_rows.inputs,
            "rows": self.rows.inputs,
            "elsewhere": self.elsewhere.inputs,
        }

    def read(self, split, store):
        on_rows, elsewhere = (column.read(split, store) for column in (self.on_rows, self.elsewhere))
        chosen = set(self.rows.ids(store))
        is_chosen = np.array([name in chosen for name in split.ids], bool)
        return np.where(is_chosen.reshape(-1, *[1] * (on_rows.ndim - 1)), on_rows, elsewhere)


@dataclasses.dataclass(frozen=True, eq=False)
class ChosenExamples(examples.Examples):
    """Some rows of a split, in its order, with the columns that its examples carry.

    Columns are read of the whole split, so that every row has the value that it has where all are trained on.
    """

    rows: Rows

    def __len__(self):
        return len(self.rows)

    @property
    def needs(self):
        return (*super().needs, *self.rows.needs)

    @property
    def inputs(self):
        return {**super().inputs, "rows": self.rows.inputs}

    def read(self, model, store):
        every = super().read(model, store)
        index = np.flatnonzero(self.rows.mask(store))
        return batches.ExampleSet(
            [every.example_ids[row] for row in index],
            None if every.tokens is None else [every.tokens[row] for row in index],
            {name: values[index] for name, values in every.columns.items()},
            {name: values[:, index] for name, values in every.columns_by_step.items()},
        )


def carrying(
    split: splits.Split, columns: dict[str, examples.Column], rows: Rows | None = None
) -> examples.Examples:
    """Examples of these rows of a split; of all where there are no others, or no rows are named."""
    if rows is None or len(rows) == len(split):
        return examples.Examples(split, columns)
    return ChosenExamples(split, columns, rows)
