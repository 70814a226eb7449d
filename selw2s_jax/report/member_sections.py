"""What a report says of several weak models that teach together: each of them, and what a student made of them."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats, members, metrics
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import member_figures, numbers, section, stored

_TITLE = "Several weak models"
_NOTES = (
    "The weak models label the student's half together: what every method learns from, and what the tables call weak, "
    "is their labels as one. PGR is measured against the mean of their own test accuracies. The best of them is chosen "
    "by the truth of the test set: an oracle's choice, which no method could have made.",
)
_CAPTION = (
    "The weight of each weak model over the steps of training. A model that is sure of itself is followed more easily "
    "than one that is right, and two models with one error outvote a better third: compare the table above."
)
_WEIGHT = "train/weight_"


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run with several weak models; of several, behind a line that opens it."""
    names = {name: run for name, run in stored.names(runs).items() if run.member_labels}
    return [
        _section(run, f"{_TITLE}: {name}", number, is_folded=len(names) > 1)
        for number, (name, run) in enumerate(names.items(), start=1)
    ]


def _section(run: stored.Run, title: str, number: int, *, is_folded: bool) -> section.Section:
    labels = {"task": run.task, "weak": run.weak or "", "strong": run.strong}
    labels |= {key: stored.setting_text(value) for key, value in run.settings.items()}
    called = {entry["member"]: _called(entry) for entry in run.member_labels}
    weights = {method: curves for method, logs in run.logs.items() if (curves := _weights(logs))}
    pictures = {}
    if weights:
        picture = member_figures.draw_weights(weights, title=run.title, names=list(called.values()))
        pictures[f"member_weights-{number}"] = (picture, _CAPTION)
    tables = [_of_each(run), _together(run)]
    below = dict.fromkeys(pictures, "members_together")
    return section.Section(title, labels, tables, pictures, is_folded=is_folded, above=below, notes=_NOTES)


def _called(entry: Mapping[str, Any]) -> str:
    return f"{entry['member']}: {entry['model']} on {entry['task']}"


def _weights(
    logs: Mapping[int, Sequence[Mapping[str, float]]],
) -> list[list[tuple[list[float], list[float]]]]:
    """Of each weak model the curves of the seeds, steps and weights; nothing where none were logged."""
    found = []
    for number in itertools.count():
        name = f"{_WEIGHT}{number}"
        curves = [[(step["step"], step[name]) for step in steps if name in step] for steps in logs.values()]
        curves = [curve for curve in curves if curve]
        if not curves:
            return found
        found.append([tuple(map(list, zip(*curve, strict=True))) for curve in curves])
    return found


def _of_each(run: stored.Run) -> formats.Table:
    columns = [
        Column("called", "weak model", "a weak model, with the task whose truth it learnt"),
        Column("num_seeds", "seeds", "seeds that are finished; the other numbers are their means", "count"),
        Column("rows", "rows", "examples that it learnt from", "count"),
        Column("accuracy", "labels right", "of its labels of the student's half, in per cent", "percent"),
        Column(
            "entropy",
            "entropy",
            "mean entropy of these labels in nats: 0 is sure, 0.693 knows nothing",
            "ratio",
        ),
        Column(
            "agreement", "agreement", "rows to which another one gives the same class, in per cent", "percent"
        ),
        Column("test_accuracy", "test accuracy", "of its own answers to the test, in per cent", "percent"),
    ]
    rows = []
    for called in dict.fromkeys(map(_called, run.member_labels)):
        mine = [entry for entry in run.member_labels if _called(entry) == called]
        names = ("accuracy", "entropy", "agreement")
        row: dict[str, Any] = {name: numbers.mean([entry[name] for entry in mine]) for name in names}
        row["rows"] = round(statistics.fmean(entry["rows"] for entry in mine))
        row["test_accuracy"] = numbers.mean([entry["test_correct"] / entry["test_n"] for entry in mine])
        rows.append({"called": called, "num_seeds": len(mine)} | row)
    return formats.Table("members", "Each of them", columns, rows)


def _together(run: stored.Run) -> formats.Table:
    columns = [
        Column("which", "weak performance", "of the weak models"),
        Column("num_seeds", "seeds", "seeds that are finished", "count"),
        Column("accuracy", "test accuracy", "mean over seeds, in per cent", "percent", "accuracy_interval"),
    ]
    of_seeds = members.summarize(run.member_labels)
    names = {
        "mean_accuracy": "the mean of each of them, which PGR is measured against",
        "together_accuracy": "their labels as one, as they teach",
        "best_accuracy": "the best by the truth: an oracle's",
    }
    rows = []
    for key, which in names.items():
        counts = [row[key] * row["n"] for row in of_seeds]
        interval = metrics.accuracy_interval(counts, of_seeds[0]["n"])
        accuracy = numbers.mean([row[key] for row in of_seeds])
        row = {
            "which": which,
            "num_seeds": len(of_seeds),
            "accuracy": accuracy,
            "accuracy_interval": interval,
        }
        rows.append(row)
    return formats.Table("members_together", "Together", columns, rows)
