"""How many labels are right on the way from the weak model to a student that earlier students teach."""

from typing import Any

import numpy as np

from selw2s_jax.experiments import selective, teachers
from selw2s_jax.runtime import artifacts


def describe(
    experiment: selective.Experiment, store: artifacts.Store, seed: int, name: str
) -> list[dict[str, Any]]:
    """An entry for each link of what a method is taught, in order, once all stages are finished.

    Ground truth of the student's half is joined here, for analysis alone.

    Returns:
        `method`, `seed`; `by`, whose labels; `of`, on which rows; `is_taught`, whether the student learns these labels
        on these rows; `n`, how many, and `right`, the share of them whose label is right, None where there are none.
    """
    half = experiment.inputs.by_seed[seed].student_half
    is_one = half.labels.astype(bool)

    def describe_link(link: teachers.Link) -> dict[str, Any]:
        right = (link.labels.read(half, store)[:, 1] > 0.5) == is_one
        chosen = np.ones(len(half), bool) if link.rows is None else link.rows.mask(store)
        return {
            "method": name,
            "seed": seed,
            "by": link.by,
            "of": link.of,
            "is_taught": link.is_taught,
            "n": int(chosen.sum()),
            "right": float(right[chosen].mean()) if chosen.any() else None,
        }

    return [describe_link(link) for link in experiment.lesson(seed, name).links]
