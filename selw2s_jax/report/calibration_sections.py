"""What a report says of the calibration of weak labels and P(IK), which posterior labels are made with."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats, metrics
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import calibration_figures, section, stored

_TITLE = "Calibration of both labels"
_KINDS = {"weak": "confidence of weak labels", "p_ik": "P(IK) of self labels"}
_TIMES = ("before", "after")
_NOTES = (
    "A posterior label adds the log-odds of two witnesses, the weak label and the self label, each for what it is "
    "worth. The weak label's log-odds are multiplied by a factor that is fitted on the weak model's half, to labels by "
    "models that had not seen the row; P(IK) becomes the probability that the self label is right by a logistic fit on "
    "held-out questions of the task that P(IK) is trained on. No ground truth of the student's half is used.",
)
_CAPTION = (
    "Reliability before and after calibration, on the rows that the fits are made on: the share of weak labels that "
    "are right against their own probability of being so, and of self labels against P(IK), with Wilson's 95 % "
    "intervals and the number of rows of all seeds in each bin below. A calibrated score lies on the diagonal."
)
_SEED = Column("seed", "seed", "base seed", "count")


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run that has calibrated its labels; of several, behind a line that opens it."""
    names = {name: run for name, run in stored.names(runs).items() if run.calibration}
    return [
        _section(run, f"{_TITLE}: {name}", number, is_folded=len(names) > 1)
        for number, (name, run) in enumerate(names.items(), start=1)
    ]


def _section(run: stored.Run, title: str, number: int, *, is_folded: bool) -> section.Section:
    of_kinds = {
        name: [entry[kind] for entry in run.calibration if entry[kind] is not None]
        for kind, name in _KINDS.items()
    }
    bins = {
        name: {when: _bins(of_kind, when) for when in _TIMES} for name, of_kind in of_kinds.items() if of_kind
    }
    picture = calibration_figures.draw_calibration(bins, title=run.title)
    labels = {"task": run.task, "weak": run.weak or "", "strong": run.strong}
    labels |= {key: stored.setting_text(value) for key, value in run.settings.items()}
    return section.Section(
        title,
        labels,
        [_fit_table(run), _score_table(run)],
        {f"calibration-{number}": (picture, _CAPTION)},
        is_folded=is_folded,
        above={f"calibration-{number}": "calibration"},
        notes=_NOTES,
    )


def _bins(calibrated: Sequence[Mapping[str, Any]], when: str) -> list[metrics.Bin]:
    """Those that have rows, over the rows of all seeds."""
    found: dict[tuple[float, float], list[Mapping[str, Any]]] = {}
    for one in calibrated:
        for of_seed in one[f"bins_{when}"]:
            if of_seed["n"] and None not in (of_seed["mean_score"], of_seed["right"]):
                found.setdefault((of_seed["low"], of_seed["high"]), []).append(of_seed)
    pooled = []
    for (low, high), of_bin in sorted(found.items()):
        weights = [of_seed["n"] for of_seed in of_bin]
        score, share = (
            statistics.fmean([of_seed[name] for of_seed in of_bin], weights)
            for name in ("mean_score", "right")
        )
        pooled.append(metrics.Bin(low, high, sum(weights), score, share))
    return pooled


def _fit_table(run: stored.Run) -> formats.Table:
    columns = [
        _SEED,
        Column(
            "weak_slope",
            "weak slope",
            "b, by which the weak label's log-odds are multiplied: below 1 the weak model is surer than it is right",
            "ratio",
        ),
        Column("p_ik_intercept", "P(IK) intercept", "c_0 of sigmoid(c_0 + c_1 log-odds of P(IK))", "ratio"),
        Column(
            "p_ik_slope",
            "P(IK) slope",
            "c_1: 1 leaves P(IK) as steep as it is; at 0 or below P(IK) says nothing of which self labels are right",
            "ratio",
        ),
        Column(
            "constant_reliability",
            "constant reliability",
            "the probability that a self label is right, one for all rows, as a control takes it",
            "ratio",
        ),
    ]
    return formats.Table("calibration_fits", "What was fitted", columns, run.calibration)


def _score_table(run: stored.Run) -> formats.Table:
    columns = [
        _SEED,
        Column(
            "score",
            "score",
            "probability of being right, of weak labels by themselves and of self labels by P(IK)",
        ),
        Column("n", "n", "number of rows", "count"),
    ]
    measures = {
        "log_loss": ("log loss", "mean log loss of the score; lower is better"),
        "brier": ("Brier", "mean squared error of the score as a probability; lower is better"),
        "ece": ("ECE", "expected calibration error of the score; lower is better"),
    }
    columns += [
        Column(f"{name}_{when}", f"{heading} {when}", meaning, "ratio")
        for name, (heading, meaning) in measures.items()
        for when in _TIMES
    ]
    rows = [
        {"seed": entry["seed"], "score": name} | entry[kind]
        for entry in run.calibration
        for kind, name in _KINDS.items()
        if entry[kind] is not None
    ]
    return formats.Table("calibration", "Before and after", columns, rows)
