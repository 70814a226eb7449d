"""A node of the plan: what its artifact is a function of, what it needs, and how it is made.

A stage's inputs name everything that its result depends on, earlier stages by their keys, and nothing else:
how a model is laid out over devices, micro-batched, rematerialised or logged is not among them. They are worked out
when they are asked for, so that a plan can list stages of data that is not at hand.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Hashable, Iterable
from typing import Any, ClassVar

import numpy as np

from selw2s_jax.data import by_id, splits, written_splits
from selw2s_jax.runtime import artifacts

# Raised when a stage's code changes what it computes, so that older artifacts are no longer found.
VERSION = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """What all kinds have; each kind is a file with a subclass.

    Attributes:
        name: kind of the stage and folder of its artifacts.
        label: what it is, for people.
    """

    name: ClassVar[str]
    label: str

    @property
    def needs(self) -> tuple["Stage", ...]:
        """The stages whose artifacts it reads."""
        return ()

    @property
    def inputs(self) -> dict[str, Any]:
        """Everything its result is a function of, as JSON values."""
        raise NotImplementedError

    @property
    def detail(self) -> str:
        """Its size, for the plan."""
        return ""

    @property
    def language_model(self) -> str | None:
        """Fingerprint of the untouched model that it asks or reads with, None where it needs none."""
        return None

    @property
    def num_bytes(self) -> int:
        """Of the weights or arrays that it writes."""
        return 0

    @property
    def state_bytes(self) -> int:
        """Of one state that it saves under way."""
        return 0

    @functools.cached_property
    def key(self) -> str:
        """The name of its artifact."""
        return artifacts.artifact_key(self.name, self.inputs)

    def check(self) -> None:
        """Checks, before any device work, that it can be made.

        Raises:
            UserError: it cannot.
        """

    def write(self, folder: pathlib.Path, bench: Any) -> None:
        """Fills the artifact's folder; all processes call this together.

        Args:
            bench: the `workbench.Workbench` that makes it.
        """
        raise NotImplementedError


def in_order(
    targets: Iterable[Stage], identity: Callable[[Stage], Hashable] = lambda s: s.key
) -> list[Stage]:
    """The targets and all that they need, each once and after what it needs.

    Args:
        identity: equal for stages that are the same one.
    """
    ordered: dict[Hashable, Stage] = {}
    visited: set[Stage] = set()  # stages that need one another's needs would be visited by every path

    def visit(stage: Stage) -> None:
        if stage in visited:
            return
        visited.add(stage)
        for needed in stage.needs:
            visit(needed)
        ordered.setdefault(identity(stage), stage)

    for target in targets:
        visit(target)
    return list(ordered.values())


def find(store: artifacts.Store, stage: Stage) -> artifacts.Artifact | None:
    """The finished artifact of a stage, None where it has not run."""
    return store.find(stage.name, stage.inputs)


def read_column(
    store: artifacts.Store,
    stage: Stage,
    file: str,
    column: str,
    split: splits.Split | written_splits.WrittenSplit,
) -> np.ndarray:
    """A column of a finished stage's table in the order of a split: `[N]` float32, joined by example_id."""
    table = find(store, stage).read_table(file)
    values = dict(zip(table["example_id"], table[column], strict=True))
    return by_id.join(values, split.ids, f"artifact {stage.name}/{stage.key}")
