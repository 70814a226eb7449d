"""For smoothing over a whole set: labels as a rule chooses them, and the stage of the means of those of neighbours."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from selw2s_jax.data import splits
from selw2s_jax.method import label_rules, objectives
from selw2s_jax.runtime import artifacts, distributed
from selw2s_jax.stages import embed, examples, workbench
from selw2s_jax.stages import stage as stage_lib

FILE = "neighbours.parquet"
_CLASSES = ("prob_0", "prob_1")  # columns of the file
_ROWS = 1024  # whose neighbours are found at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Chosen(examples.Column):
    """Labels `[N, 2]` as a rule chooses them that looks at no model in training, before any smoothing.

    Attributes:
        objective: with that rule, as `objectives.without_smoothing` gives it.
        columns: that the rule reads.
    """

    objective: objectives.Objective
    columns: dict[str, examples.Column]

    @property
    def needs(self):
        return tuple(stage for column in self.columns.values() for stage in column.needs)

    @property
    def inputs(self):
        return {
            "rule": [self.objective.label_rule, self.objective.rule_options],
            "columns": {name: column.inputs for name, column in self.columns.items()},
        }

    def read(self, split, store):
        values = {name: jnp.asarray(column.read(split, store)) for name, column in self.columns.items()}
        num = len(split)
        inputs = label_rules.RuleInputs(
            class_logits=jnp.zeros((num, 2)),
            p_ik=jnp.full(num, 0.5),
            embeddings=jnp.zeros((num, 1)),
            columns=values,
            example_mask=jnp.ones(num, bool),
            step_fraction=jnp.zeros(()),
        )
        rule = label_rules.get(self.objective.label_rule, **dict(self.objective.rule_options))
        return np.asarray(rule(inputs).prior)


@dataclasses.dataclass(frozen=True, eq=False)
class Means(stage_lib.Stage):
    """The mean label of each row's neighbours in the whole set; its own where it has none.

    A stage, as it takes time with the square of the rows, and several students may read the same means: all of weak
    labels, whatever weight they give to neighbours.

    Attributes:
        split: the set.
        prior: the labels.
        embedded: the stage of the embeddings that say who is a neighbour.
        graph: keywords of `mean_of_neighbours`.
    """

    name = "neighbours"
    split: splits.Split
    prior: examples.Column
    embedded: embed.Embed
    graph: Mapping[str, Any]

    @property
    def needs(self):
        return (*self.prior.needs, self.embedded)

    @property
    def detail(self):
        return f"{len(self.split)} examples"

    @property
    def averaged(self) -> dict[str, Any]:
        """What the means are a function of."""
        return {
            "prior": self.prior.inputs,
            "embeddings": self.embedded.key,
            "graph": dict(self.graph),
        }

    @functools.cached_property
    def inputs(self):
        return {"version": stage_lib.VERSION, **self.averaged}

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes `FILE`: example_id, prob_0, prob_1."""
        columns = {"example_id": self.split.ids}

        def average() -> None:
            embeddings = embed.read(bench.store, (self.embedded,), self.split)
            means = mean_of_neighbours(embeddings, self.prior.read(self.split, bench.store), **self.graph)
            columns.update(zip(_CLASSES, means.T, strict=True))

        distributed.main_only(average)
        artifacts.write_table(folder / FILE, columns)


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours(examples.Column):
    """The mean label `[N, 2]` of each row's neighbours in the whole set.

    Attributes:
        means: the stage that has them.
    """

    means: Means

    @property
    def needs(self):
        return (self.means,)

    @property
    def inputs(self):
        return self.means.averaged

    def read(self, split, store):
        columns = [stage_lib.read_column(store, self.means, FILE, name, split) for name in _CLASSES]
        return np.stack(columns, axis=-1)


def mean_of_neighbours(
    embeddings: np.ndarray,
    prior: np.ndarray,
    *,
    tau: float,
    normalize: bool,
    include_self: bool,
    center: bool,
) -> np.ndarray:
    """sum_j a_ij l(j) with the weights of `graph_smoothing.neighbour_weights`, of more rows than have a matrix.

    Args:
        embeddings: `[N, D]`.
        prior: `[N, 2]` labels l.
        tau, normalize, include_self, center: as there.

    Returns:
        `[N, 2]` float32, worked out in float64.
    """
    z, prior = embeddings.astype(np.float64), prior.astype(np.float64)
    if center:
        z = z - z.mean(axis=0)
    if normalize:
        z = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    means = np.empty_like(prior)
    for start in range(0, len(z), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(z)))
        logits = z[rows] @ z.T / tau
        if not include_self:
            logits[np.arange(len(rows)), rows] = -np.inf
        peak = logits.max(axis=1, keepdims=True)
        weights = np.exp(logits - np.where(np.isfinite(peak), peak, 0.0))
        total = weights.sum(axis=1, keepdims=True)
        means[rows] = np.where(total > 0, weights @ prior / np.where(total > 0, total, 1.0), prior[rows])
    return means.astype(np.float32)
