"""What reports read of results.json on the labels of the student's half: where they differ, how they are calibrated.

And of labels that earlier students handed on, how many are right.
"""

from typing import Any

from selw2s_jax.runtime import json_forms

_NUMBER = (int, float)
_NUMBER_OR_NONE = (int, float, type(None))
_LABELS = {"n": int} | {
    f"{label}_{measure}": _NUMBER_OR_NONE
    for label in ("self", "weak", "target")
    for measure in ("right", "brier")
}
_RANGE = {"low": _NUMBER, "high": _NUMBER}
_DISAGREEMENT = {
    "method": str,
    "seed": int,
    "p_ik_of": (str, type(None)),
    "all": _LABELS,
    **dict.fromkeys(("auroc", "auroc_low", "auroc_high", "auroc_all"), _NUMBER_OR_NONE),
    **{f"error_correlation{end}": _NUMBER_OR_NONE for end in ("", "_low", "_high")},
    "bins": [_RANGE | {"all": _LABELS}],
}
_BIN = _RANGE | {"n": int, "mean_score": _NUMBER_OR_NONE, "right": _NUMBER_OR_NONE}
_CALIBRATED = {
    "n": int,
    **{f"{name}_{when}": _NUMBER for name in ("log_loss", "brier", "ece") for when in ("before", "after")},
    "bins_before": [_BIN],
    "bins_after": [_BIN],
}
_CALIBRATION = {
    "seed": int,
    **dict.fromkeys(("weak_slope", "p_ik_intercept", "p_ik_slope", "constant_reliability"), _NUMBER),
    "p_ik": _CALIBRATED,
}
_CHANGES = {
    "method": str,
    "seed": int,
    "n": int,
    **{f"{step}_{kind}": int for step in ("choice", "smoothing") for kind in ("corrected", "spoiled")},
    **dict.fromkeys(("random", "random_deviation"), _NUMBER_OR_NONE),
}
_FREQUENCY = {
    "method": str,
    "seed": int,
    "unseen": int,
    "groups": [_RANGE | {"weak_right": bool, "n": int} | dict.fromkeys(("mean", "never", "always"), _NUMBER)],
}
_TAUGHT = {
    **dict.fromkeys(("method", "by", "of"), str),
    **dict.fromkeys(("seed", "n"), int),
    "is_taught": bool,
    "right": _NUMBER_OR_NONE,
}
FORMS = {
    "disagreement": _DISAGREEMENT,
    "label_changes": _CHANGES,
    "selection_frequency": _FREQUENCY,
    "taught_labels": _TAUGHT,
    "calibration": _CALIBRATION,
}
_NARROWEST = 1e-3  # bin
_ROUNDING = 1e-6  # of the bounds of bins


_MEMBER = {
    "seed": int,
    "member": str,
    "model": str,
    "task": str,
    **dict.fromkeys(("rows", "n", "test_n", "test_correct", "together_correct"), int),
    **dict.fromkeys(("accuracy", "entropy", "agreement"), _NUMBER),
}


def checked_member(entry: Any) -> dict[str, Any]:
    """An entry of the list of several weak models.

    Raises:
        ValueError: it is none.
    """
    json_forms.check(entry, _MEMBER)
    _check_within(0, 1, entry["accuracy"], entry["agreement"])
    _check_within(1, None, entry["test_n"])
    _check_within(0, entry["test_n"], entry["test_correct"], entry["together_correct"])
    return entry


def checked(name: str, entry: Any) -> dict[str, Any]:
    """An entry of the list of that name.

    Raises:
        ValueError: it is none.
    """
    json_forms.check(entry, FORMS[name])
    if name == "disagreement":
        _check_parts(entry)
        bounds = ("auroc", "auroc_low", "auroc_high", "auroc_all")
        _check_within(0, 1, *(entry[bound] for bound in bounds))
        _check_within(-1, 1, *(entry[f"error_correlation{end}"] for end in ("", "_low", "_high")))
        _check_bins(entry["bins"])
        for one in entry["bins"]:
            _check_parts(one)
    elif name == "label_changes":
        _check_changes(entry)
    elif name == "selection_frequency":
        _check_within(0, None, entry["unseen"])
        for one in entry["groups"]:
            _check_within(1, None, one["n"])
            _check_within(one["low"], 1, one["high"])
            _check_within(0, 1, *(one[share] for share in ("low", "mean", "never", "always")))
    elif name == "taught_labels":
        _check_within(0, None, entry["n"])
        _check_within(0, 1, entry["right"])
    else:
        if entry["weak"] is not None:  # weak labels may be taken as they are
            json_forms.check(entry["weak"], _CALIBRATED)
        for calibrated in filter(None, (entry["weak"], entry["p_ik"])):
            for bins in (calibrated["bins_before"], calibrated["bins_after"]):
                _check_bins(bins)
            for one in (*calibrated["bins_before"], *calibrated["bins_after"]):
                _check_within(0, 1, one["mean_score"], one["right"])
                _check_within(0, None, one["n"])
    return entry


def _check_parts(entry: dict[str, Any]) -> None:
    """Checks labels of all rows, and of those on which weak and self label differ; null without self labels."""
    parts = [entry["all"]]
    if entry["disagreeing"] is not None:
        json_forms.check(entry["disagreeing"], _LABELS)
        _check_within(0, entry["all"]["n"], entry["disagreeing"]["n"])
        parts.append(entry["disagreeing"])
    for part in parts:
        _check_within(0, None, part["n"])
        _check_within(0, 1, *(part[f"{label}_right"] for label in ("self", "weak", "target")))


def _check_changes(entry: dict[str, Any]) -> None:
    """Checks that no more labels change than there are."""
    _check_within(0, None, entry["n"], entry["random_deviation"])
    _check_within(-1, 1, entry["random"])
    if (entry["random"] is None) != (entry["random_deviation"] is None):
        raise ValueError("a mean of random choices is there without its deviation, or the other way round")
    for step in ("choice", "smoothing"):
        moved = [entry[f"{step}_{kind}"] for kind in ("corrected", "spoiled")]
        _check_within(0, entry["n"], *moved, sum(moved))


def _check_bins(bins: list[dict[str, Any]]) -> None:
    """Checks that bins are some of those that [0, 1] has of one width."""
    for one in bins:
        _check_within(0, 1, one["low"], one["high"])
        width = bins[0]["high"] - bins[0]["low"]
        if width < _NARROWEST or abs(one["high"] - one["low"] - width) > _ROUNDING:
            raise ValueError(f"{one['low']} to {one['high']} is no bin")
        for place in (1 / width, one["low"] / width):
            if abs(place - round(place)) > _ROUNDING:
                raise ValueError(f"{one['low']} to {one['high']} is no bin")


def _check_within(low: float, high: float | None, *values: float | None) -> None:
    for value in values:
        if value is not None and not (low <= value and (high is None or value <= high)):
            raise ValueError(f"{value} is out of range")
