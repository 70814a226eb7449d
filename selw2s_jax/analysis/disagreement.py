"""Where a weak label and the strong model's own label differ, and whether P(IK) tells which of the two is right.

Selection puts the strong model's label in the place of the weak one, which changes nothing where they are the same. So
it can gain only as far as P(IK) is high where the weak label is wrong. With two classes exactly one of two labels that
differ is right: there "the self label is right" and "the weak label is wrong" are one event, and the AUROC of P(IK) for
it, with the share of such rows on which it happens, says what selection has to work with. Ground truth is joined
after training, for analysis alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import distributions, metrics

NUM_BINS = 10  # of equal width on [0, 1] of P(IK)
ENOUGH_AUROC = 0.6  # on rows where the labels differ: above it, selection is expected to gain


def describe(
    truth: npt.ArrayLike,
    weak: npt.ArrayLike,
    own: npt.ArrayLike | None,
    *,
    p_ik: npt.ArrayLike | None = None,
    target: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """Weak, self and trained-on labels of one seed, on all rows, where the first two differ, and by P(IK).

    Args:
        truth: `[N]` 0 or 1.
        weak, own: `[N]` weak labels and self labels, as probabilities of class 1; `own` is None where there are none
            before training.
        p_ik: `[N]` probabilities of knowing; NaN for a row without one, None where there are none.
        target: `[N]` the labels that a student was trained on, as probabilities of class 1; NaN and None as before.

    Returns:
        A JSON value:
        `all`, `disagreeing`: the rows and those of them on which weak and self label differ (None without self
            labels), each with `n` and, for the labels `self`, `weak` and `target`, the share `*_right` and the mean
            squared error `*_brier`; None where there is nothing to average.
        `auroc`, `auroc_low`, `auroc_high`: of P(IK) for "the self label is right", where the labels differ;
            `auroc_all` on all rows.
        `error_correlation`, `error_correlation_low`, `error_correlation_high`: see `error_correlation`.
        `bins`: for each bin of P(IK) that has rows, `low`, `high`, `all` and `disagreeing`.
    """
    truth = np.asarray(truth).astype(bool)
    of_weak = np.asarray(weak, np.float64)
    own_one, of_target = (None if one is None else np.asarray(one, np.float64) for one in (own, target))
    labels = {"self": own_one, "weak": of_weak, "target": of_target}
    everything = np.ones(len(truth), bool)
    result: dict[str, Any] = {"all": _summary(everything, truth, labels), "disagreeing": None}
    result |= dict.fromkeys(("auroc", "auroc_low", "auroc_high", "auroc_all"))
    result |= dict.fromkeys(f"error_correlation{end}" for end in ("", "_low", "_high"))
    differ = None
    if own_one is not None:
        differ = (own_one > 0.5) != (of_weak > 0.5)
        right = (own_one > 0.5) == truth
        result["disagreeing"] = _summary(differ, truth, labels)
        correlation, interval = error_correlation(~right, (of_weak > 0.5) != truth)
        result |= _with_bounds("error_correlation", correlation, interval)
        if p_ik is not None:
            result |= _areas(np.asarray(p_ik, np.float64), right, differ)
    result["bins"] = [] if p_ik is None else _bins(np.asarray(p_ik, np.float64), differ, truth, labels)
    return result


def error_correlation(
    first: npt.ArrayLike, second: npt.ArrayLike, confidence: float = 0.95
) -> tuple[float | None, tuple[float, float] | None]:
    """Correlation (phi) of the errors of two models on the same rows, with its interval.

    Two models that fail independently of each other have 0, those that fail on the same rows 1. The interval is the
    delta method's for a correlation of any distribution, from the influence of each row, on Fisher's scale, so that it
    stays within [-1, 1].

    Args:
        first, second: `[N]` bool, whether each is wrong.

    Returns:
        phi, None where one of them is always or never wrong; and its interval, None without phi or without a variance.
    """
    pair = np.array([first, second], np.float64)
    if not pair.size or (pair.std(axis=1) == 0).any():
        return None, None
    x, y = (pair - pair.mean(axis=1, keepdims=True)) / pair.std(axis=1, keepdims=True)
    phi = float(np.clip(np.mean(x * y), -1, 1))  # rounding takes it a little beyond
    error = np.sqrt(np.mean((x * y - phi * (x**2 + y**2) / 2) ** 2) / len(x))
    if error == 0 or not abs(phi) < 1:
        return phi, None
    half = distributions.normal_quantile((1 + confidence) / 2) * error / (1 - phi**2)
    return phi, (float(np.tanh(np.arctanh(phi) - half)), float(np.tanh(np.arctanh(phi) + half)))


def last_of_trace(trace: Mapping[str, np.ndarray], example_ids: Sequence[str], column: str) -> np.ndarray:
    """What a student's trace has of each example in the last step that it was in.

    Args:
        trace: an entry per task example and step, with `step` and `example_id`.
        example_ids: `[N]`.
        column: of the trace.

    Returns:
        `[N]` float64, NaN for an example that no step had, as where training ends before its first epoch does.
    """
    order = np.argsort(trace["step"], kind="stable")
    last = dict(zip(np.asarray(trace["example_id"])[order], np.asarray(trace[column])[order], strict=True))
    return np.array([last.get(name, np.nan) for name in example_ids], np.float64)


def _areas(p_ik: np.ndarray, right: np.ndarray, differ: np.ndarray) -> dict[str, float | None]:
    """AUROC of P(IK) where it is there."""
    there = ~np.isnan(p_ik)
    rows = there & differ
    found = dict.fromkeys(("auroc", "auroc_low", "auroc_high", "auroc_all"))
    if rows.any():
        interval = metrics.auroc_interval(p_ik[rows], right[rows])
        found |= _with_bounds("auroc", metrics.auroc(p_ik[rows], right[rows]), interval)
    if there.any():
        found["auroc_all"] = metrics.auroc(p_ik[there], right[there])
    return found


def _bins(
    p_ik: np.ndarray, differ: np.ndarray | None, truth: np.ndarray, labels: Mapping[str, np.ndarray | None]
) -> list[dict[str, Any]]:
    there = ~np.isnan(p_ik)
    places = np.where(there, metrics.probability_bins(np.where(there, p_ik, 0.0), NUM_BINS), -1)
    return [
        {
            "low": place / NUM_BINS,
            "high": (place + 1) / NUM_BINS,
            "all": _summary(places == place, truth, labels),
            "disagreeing": None if differ is None else _summary((places == place) & differ, truth, labels),
        }
        for place in np.unique(places[there]).tolist()
    ]


def _summary(
    rows: np.ndarray, truth: np.ndarray, labels: Mapping[str, np.ndarray | None]
) -> dict[str, float | int | None]:
    """Share right and mean squared error of each kind of label on some rows, of those that have one."""
    summary: dict[str, float | int | None] = {"n": int(rows.sum())}
    for name, values in labels.items():
        summary |= {f"{name}_right": None, f"{name}_brier": None}
        there = rows if values is None else rows & ~np.isnan(values)
        if values is not None and there.any():
            summary[f"{name}_right"] = float(np.mean((values[there] > 0.5) == truth[there]))
            summary[f"{name}_brier"] = metrics.brier_score(values[there], truth[there])
    return summary


def _with_bounds(
    name: str, value: float | None, interval: tuple[float, float] | None
) -> dict[str, float | None]:
    low, high = (None, None) if interval is None else interval
    return {name: value, f"{name}_low": low, f"{name}_high": high}
