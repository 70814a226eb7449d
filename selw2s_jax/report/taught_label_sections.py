"""What a report says of labels that earlier students hand on: how many are right, kept and dropped."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import section, stored

_TITLE = "Labels of later stages"
_NOTES = (
    "Some methods learn from an earlier student instead of the weak model. A chain and rounds hand the labels of all "
    "rows on from one model to the next. Of two stages the first learns weak labels on the rows A, and the second "
    "these and the first one's labels on the rows B, which are of those that A left out; what neither has is dropped.",
    "A label of a later stage helps where it is right more often than the weak model's on the same rows. A choice of "
    "rows helps where its labels are right more often than those of as many random rows, which the control has. All of "
    "it is of the student's half, whose ground truth is used here alone.",
)
_MAX_ROWS = 24  # of a table that the page shows open
_LINK = ("method", "of", "by", "is_taught")  # what an entry is of, besides its seed
_COLUMNS = (
    Column("method", "method", "whose teacher it is"),
    Column("of", "rows", "rows of the student's half: all, A, B, or those that are dropped"),
    Column("by", "labels of", "whose labels are counted"),
    Column("learnt", "learnt", "whether the student of the method learns these labels on these rows"),
)
_RIGHT = "share of these rows whose label is right, in per cent"


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run with such methods; of several, behind a line that opens it."""
    names = {name: run for name, run in stored.names(runs).items() if run.taught_labels}
    return [_section(run, f"{_TITLE}: {name}", is_folded=len(names) > 1) for name, run in names.items()]


def _section(run: stored.Run, title: str, *, is_folded: bool) -> section.Section:
    labels = {"task": run.task, "weak": run.weak or "", "strong": run.strong}
    labels |= {key: stored.setting_text(value) for key, value in run.settings.items()}
    is_of_one_seed = len({entry["seed"] for entry in run.taught_labels}) == 1
    tables = [_mean_table(run), *([] if is_of_one_seed else [_seed_table(run)])]
    return section.Section(title, labels, tables, {}, is_folded=is_folded, notes=_NOTES, max_rows=_MAX_ROWS)


def _mean_table(run: stored.Run) -> formats.Table:
    by_link: dict[tuple, list[Mapping[str, Any]]] = {}
    for entry in run.taught_labels:
        by_link.setdefault(tuple(entry[key] for key in _LINK), []).append(entry)
    rows = [
        _named(entries[0])
        | {
            "num_seeds": len(entries),
            "n": round(statistics.fmean(entry["n"] for entry in entries)),
            "right": _mean(entry["right"] for entry in entries),
        }
        for entries in by_link.values()
    ]
    columns = (
        *_COLUMNS,
        Column("num_seeds", "seeds", "number of seeds", "count"),
        Column("n", "n", "number of these rows, the mean over seeds", "count"),
        Column("right", "right", f"{_RIGHT}, the mean over seeds", "percent"),
    )
    return formats.Table("taught_labels", "Mean over seeds", columns, rows)


def _seed_table(run: stored.Run) -> formats.Table:
    columns = (
        *_COLUMNS,
        Column("seed", "seed", "base seed", "count"),
        Column("n", "n", "number of these rows", "count"),
        Column("right", "right", _RIGHT, "percent"),
    )
    rows = [
        _named(entry) | {key: entry[key] for key in ("seed", "n", "right")} for entry in run.taught_labels
    ]
    return formats.Table("taught_labels_by_seed", "By seed", columns, rows)


def _named(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("method", "of", "by")} | {
        "learnt": "yes" if entry["is_taught"] else None
    }


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None
