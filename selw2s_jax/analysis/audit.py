"""Of what a gain in accuracy is made: errors of the weak model corrected, right answers spoiled, and what chance gives.

Everything is a difference of two counts over the same items and seeds, so that parts add up to the whole gain exactly.
"""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import comparisons, replay


class Change(NamedTuple):
    """What becomes of right answers from one model to another.

    Attributes:
        gained, lost: answers that are right only after, only before; of all items and seeds.
        total: number of all answers.
        low, high: 95 % bootstrap interval of `mean`.
    """

    gained: int
    lost: int
    total: int
    low: float
    high: float

    @property
    def mean(self) -> float:
        """The difference in accuracy."""
        return (self.gained - self.lost) / self.total

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high


class Step(NamedTuple):
    """A change, and its parts on items that the weak model gets wrong and right, as shares of all items."""

    all: Change
    weak_wrong: Change
    weak_right: Change


def steps(weak: npt.ArrayLike, *path: npt.ArrayLike) -> list[Step]:
    """The changes from each model of a path to the next one.

    Their means add up to the difference in accuracy of the last and the first; each is the sum of its two parts. Items
    and seeds are drawn as for `comparisons.bootstrap_accuracies`, the same ones for all parts.

    Args:
        weak, path: `[S, N]` bool, whether the weak model, and each of two or more models, gets item n right in seed s.
    """
    weak, models = np.asarray(weak, bool), [np.asarray(correct, bool) for correct in path]
    if len(models) < 2 or any(correct.shape != weak.shape for correct in models):
        raise ValueError(
            f"need two models or more of shape {weak.shape}, got {[correct.shape for correct in models]}"
        )
    events = [
        (after & ~before & area, before & ~after & area)
        for before, after in itertools.pairwise(models)
        for area in (~weak, weak)
    ]
    draws = comparisons.bootstrap_accuracies([event for pair in events for event in pair])
    nets = draws[:, 0::2] - draws[:, 1::2]
    counts = [(int(gained.sum()), int(lost.sum())) for gained, lost in events]
    found = []
    for place in range(0, len(events), 2):
        parts = [_change(*counts[number], weak.size, nets[:, number]) for number in (place, place + 1)]
        gained, lost = (counts[place][which] + counts[place + 1][which] for which in (0, 1))
        whole = _change(gained, lost, weak.size, nets[:, place] + nets[:, place + 1])
        found.append(Step(whole, *parts))
    return found


def _change(gained: int, lost: int, total: int, draws: np.ndarray) -> Change:
    low, high = np.quantile(draws, (0.025, 0.975))
    return Change(gained, lost, total, float(low), float(high))


def label_changes(
    truth: npt.ArrayLike,
    weak: npt.ArrayLike,
    own: npt.ArrayLike | None,
    *,
    chosen: npt.ArrayLike,
    prior: npt.ArrayLike,
    target: npt.ArrayLike,
) -> dict[str, float | int | None]:
    """What the choice between labels, and then smoothing, did to the training labels of one seed.

    Args:
        truth: `[N]` 0 or 1.
        weak, own: `[N]` weak and self labels as probabilities of class 1; `own` None where they were made in training.
        chosen, prior, target: `[N]` of the labels that a student had when it last saw a row: whether its self label
            outweighs, and labels before and after smoothing; NaN for a row that it never saw, which is left out.

    Returns:
        A JSON value: `n` rows; `choice_corrected`, `choice_spoiled`, those whose label is right only after, only before
        the choice; `smoothing_corrected`, `smoothing_spoiled` likewise; `random` and `random_deviation`, the mean and
        deviation of corrected less spoiled, as a share of the rows, where as many random rows have the self label, None
        without `own`.
    """
    there = ~np.isnan(np.asarray(target, np.float64))
    truth = np.asarray(truth).astype(bool)[there]
    right = {
        name: (np.asarray(values, np.float64)[there] > 0.5) == truth
        for name, values in {"weak": weak, "prior": prior, "target": target}.items()
    }
    found: dict[str, float | int | None] = {"n": int(there.sum())}
    found |= _moved("choice", right["weak"], right["prior"]) | _moved(
        "smoothing", right["prior"], right["target"]
    )
    found |= {"random": None, "random_deviation": None}
    if own is not None and there.any():
        own_right = (np.asarray(own, np.float64)[there] > 0.5) == truth
        number = int(np.asarray(chosen)[there].astype(bool).sum())
        random = replay.random_choice(own_right, right["weak"], number)
        found |= {
            "random": random.mean - float(right["weak"].mean()),
            "random_deviation": random.deviation,
        }
    return found


def _moved(name: str, before: np.ndarray, after: np.ndarray) -> dict[str, int]:
    return {
        f"{name}_corrected": int((after & ~before).sum()),
        f"{name}_spoiled": int((before & ~after).sum()),
    }


def net_interval(corrected: int, spoiled: int, total: int) -> tuple[float, float]:
    """95 % interval of (corrected - spoiled) / total for one seed, of independent rows that are each +1, -1 or 0."""
    mean = (corrected - spoiled) / total
    half = 1.96 * np.sqrt(max((corrected + spoiled) / total - mean**2, 0.0) / total)
    return float(mean - half), float(mean + half)
