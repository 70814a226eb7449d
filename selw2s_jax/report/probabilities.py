"""Test probabilities of several models in the seeds that all are finished for, as arrays."""

from collections.abc import Iterable

import numpy as np

from selw2s_jax.report import stored


def common_seeds(run: stored.Run, *methods: str) -> tuple[int, ...]:
    """The seeds, sorted, in which all of these methods give every item a probability; none where they write answers."""
    if not run.has_probabilities or not len(run.truth):
        return ()
    return tuple(
        seed
        for seed in run.common_seeds(*methods)
        if all(_are_probabilities(run.predictions[method][seed]) for method in methods)
    )


def by_seeds(run: stored.Run, methods: Iterable[str], *references: str) -> dict[tuple[int, ...], list[str]]:
    """The methods by the seeds that each has in common with the references; those without any are left out."""
    found: dict[tuple[int, ...], list[str]] = {}
    for method in methods:
        if seeds := common_seeds(run, method, *references):
            found.setdefault(seeds, []).append(method)
    return found


def of_method(run: stored.Run, method: str, seeds: Iterable[int]) -> np.ndarray:
    """The probability of class 1 of each item in each seed, `[S, N]` float64."""
    return np.stack([run.predictions[method][seed] for seed in seeds]).astype(np.float64)


def _are_probabilities(values: np.ndarray) -> bool:
    """A model with weights that are not finite has NaN."""
    return bool(((values >= 0) & (values <= 1)).all())
