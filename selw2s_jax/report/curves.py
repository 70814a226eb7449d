"""What models said while they were trained, as runs store it: `stages.curve` has the tables."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from selw2s_jax.data import by_id
from selw2s_jax.runtime import artifacts

_STAGE, _TEST = "train", "curve.parquet"
OF_THE_HALF = {"held_out": "curve_held_out.parquet", "trained": "curve_trained.parquet"}


class Compared(NamedTuple):
    """A student on rows of its half.

    Attributes:
        probs: `[K, M]` float32, its probability of class 1 by step.
        weak: `[M]` float32, that of the weak labels.
    """

    probs: np.ndarray
    weak: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A model under training.

    Attributes:
        steps: `[K]` after which it was asked, in order: 0 the first, the last the end of its training.
        test: `[K, N]` float32, its probability of class 1 of each test item, in the order of the run's truth.
        of_half: by name in `OF_THE_HALF`, the same of rows of the student's half.
    """

    steps: np.ndarray
    test: np.ndarray
    of_half: Mapping[str, Compared]


def read_all(
    store: artifacts.Store, manifest: Mapping[str, Any], ids: Sequence[str]
) -> dict[str, dict[int, Curve]]:
    """The curves of finished trainings by method and seed; none where the run did not ask for them.

    Args:
        ids: sorted example_ids of the test set.

    Raises:
        UserError, ValueError: a table is not what a run writes.
    """
    curves: dict[str, dict[int, Curve]] = {}
    if not manifest["config"].get("evaluation", {}).get("every_steps"):
        return curves
    for entry in manifest["students"]:
        artifact = store.find_by_key(_STAGE, entry["key"])
        if artifact is not None and _TEST in artifact.files:
            curves.setdefault(entry["method"], {})[entry["seed"]] = _read(artifact, ids, entry["key"])
    return curves


def _read(artifact: artifacts.Artifact, ids: Sequence[str], key: str) -> Curve:
    steps, found, (test,) = _columns(artifact.read_table(_TEST), "prob_1")
    rows = dict(zip(found, test.T, strict=True))
    of_half = {}
    for name, file in OF_THE_HALF.items():
        if file in artifact.files:
            steps_there, _, (probs, weak) = _columns(artifact.read_table(file), "prob_1", "weak_1")
            if not np.array_equal(steps_there, steps):
                raise ValueError(f"{file} is of other steps than {_TEST}")
            of_half[name] = Compared(probs, weak[0])
    return Curve(steps, by_id.join(rows, ids, f"artifact {_STAGE}/{key}").T, of_half)


def _columns(table: Mapping[str, np.ndarray], *names: str) -> tuple[np.ndarray, list[str], list[np.ndarray]]:
    """Steps `[K]`, example_ids `[N]`, and `[K, N]` of each of the columns, of a table that goes step by step."""
    steps = np.unique(table["step"])
    if not len(steps) or len(table["step"]) % len(steps):
        raise ValueError("not every example is there at every step")
    shape = len(steps), -1
    ids = table["example_id"].reshape(shape)
    if (table["step"].reshape(shape) != steps[:, None]).any() or (ids != ids[0]).any():
        raise ValueError("a table of a curve does not go step by step")
    return steps, list(ids[0]), [np.asarray(table[name]).reshape(shape) for name in names]
