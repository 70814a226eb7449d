"""What training labels are worth that a run would have had under other settings, beside those that it had.

Ground truth is joined after training, for analysis alone.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import metrics


class RandomChoice(NamedTuple):
    """The share of labels that are right where as many random rows have the self label: its mean and deviation."""

    mean: float
    deviation: float

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds that about 95 of 100 random choices lie within, in [0, 1]."""
        reach = 1.96 * self.deviation
        return max(self.mean - reach, 0.0), min(self.mean + reach, 1.0)


def random_choice(own_right: npt.ArrayLike, weak_right: npt.ArrayLike, num_chosen: int) -> RandomChoice:
    """What a choice of `num_chosen` rows at random, each set of them as likely, makes of the labels.

    A row that is chosen has the self label, another one the weak label. So the number of right labels is that of the
    weak ones plus the sum over the chosen rows of d = own_right - weak_right, a sample without replacement: of N rows
    k are chosen, its mean is k mean(d), its variance k (N - k) / (N - 1) var(d) (Cochran 1977, Eq. 2.8).

    Args:
        own_right, weak_right: `[N]` bool, N > 0.
    """
    own, weak = np.asarray(own_right, np.float64), np.asarray(weak_right, np.float64)
    size, difference = len(own), own - weak
    mean = weak.mean() + num_chosen / size * difference.mean()
    variance = num_chosen * (size - num_chosen) / max(size - 1, 1) * difference.var()
    return RandomChoice(float(mean), float(np.sqrt(variance)) / size)


def describe(
    truth: npt.ArrayLike,
    weak: npt.ArrayLike,
    own: npt.ArrayLike,
    *,
    chosen: npt.ArrayLike,
    prior: npt.ArrayLike,
    target: npt.ArrayLike,
    trained: npt.ArrayLike,
) -> dict[str, Any]:
    """The labels of one seed under one setting.

    Args:
        truth: `[N]` 0 or 1, N > 0.
        weak, own: `[N]` weak labels and self labels, as probabilities of class 1.
        chosen: `[N]` bool, whether the self label is taken.
        prior, target: `[N]` the labels before and after smoothing, as probabilities of class 1.
        trained: `[N]` those that the run trained on.

    Returns:
        A JSON value: `n`; `chosen`, the share of rows; `changed`, the share whose class is another than in the run;
        `moved`, the mean absolute difference to the run's; `right` and `brier`, share right and mean squared error of
        the targets; `right_disagreeing`, the former where weak and self label differ (None where they never do);
        `right_before`, of the priors; `right_at_random`, with `_low` and `_high`, what is expected of the priors where
        as many random rows have the self label.
    """
    truth, chosen = np.asarray(truth).astype(bool), np.asarray(chosen).astype(bool)
    weak, own, prior, target, trained = (
        np.asarray(values, np.float64) for values in (weak, own, prior, target, trained)
    )
    classes = {"weak": weak > 0.5, "own": own > 0.5, "prior": prior > 0.5, "target": target > 0.5}
    right = {name: values == truth for name, values in classes.items()}
    differ = classes["weak"] != classes["own"]
    random = random_choice(right["own"], right["weak"], int(chosen.sum()))
    low, high = random.interval
    return {
        "n": len(truth),
        "chosen": float(chosen.mean()),
        "changed": float(np.mean(classes["target"] != (trained > 0.5))),
        "moved": float(np.mean(np.abs(target - trained))),
        "right": float(right["target"].mean()),
        "right_disagreeing": float(right["target"][differ].mean()) if differ.any() else None,
        "brier": metrics.brier_score(target, truth),
        "right_before": float(right["prior"].mean()),
        "right_at_random": random.mean,
        "right_at_random_low": low,
        "right_at_random_high": high,
    }
