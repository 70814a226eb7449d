"""A replay as a table, as files and as pictures."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats
from selw2s_jax.analysis.formats import Column
from selw2s_jax.replay import figures, results, settings

TABLE, DATA = "replay.csv", "replay.json"
_NUMBERS = (
    Column("chosen", "chosen", "rows whose self label is taken, per cent", "percent"),
    Column(
        "changed", "changed", "labels whose class is another than the one that the run trained on, per cent", "percent"
    ),
    Column("right", "right", "labels that are right, after smoothing, per cent", "percent"),
    Column(
        "right_disagreeing",
        "where labels differ",
        "the same on rows where weak and self label differ",
        "percent",
    ),
    Column("brier", "Brier", "their mean squared error as probabilities; lower is better", "ratio"),
    Column("right_before", "before smoothing", "labels that are right before smoothing, per cent", "percent"),
    Column(
        "right_at_random",
        "at random",
        "what is expected of that column where as many random rows have the self label, and where 95 of 100 such "
        "choices lie",
        "percent",
        "right_at_random_interval",
    ),
    Column(
        "exact",
        "exact",
        "labels that are known exactly, per cent; of the others the mean label of the neighbours is not known",
        "percent",
    ),
    Column("undecided", "undecided", "labels of which not even the class is known, per cent", "percent"),
)  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]], *, notes: Sequence[str] = ()) -> formats.Table:
    """The rows of `results.Found`, of seeds or as means; settings that never vary are left out."""
    several = len({row["run"] for row in rows}) > 1
    varied = [axis for axis in settings.AXES if len({row[axis] for row in rows}) > 1]
    columns = [
        *([Column("run", "run", "of the sweep")] if several else []),
        Column("method", "method", "whose labels they are"),
        *(
            [Column("seed", "seed", "of the run", "count")]
            if "seed" in rows[0]
            else [Column("num_seeds", "seeds", "number of seeds in the mean", "count")]
        ),
        *(Column(axis, settings.AXES[axis].heading, settings.AXES[axis].meaning, "count") for axis in varied),
        Column("own", "run's", "* where all settings are those of the run"),
        *_NUMBERS,
    ]
    shown = [
        {
            **row,
            **{axis: f"{row[axis]:.10g}" for axis in varied},
            "own": "*" if row["is_own"] else "",
            "right_at_random_interval": (row["right_at_random_low"], row["right_at_random_high"]),
        }
        for row in rows
    ]
    return formats.Table("replay", "Labels under other settings", columns, shown, notes)


def to_text(made: formats.Table) -> str:
    """For a terminal, with what the columns mean."""
    header = [column.heading for column in made.columns]
    left = [place for place, column in enumerate(made.columns) if column.format == "text"]
    meanings = [f"  {', '.join(names)}: {meaning}" for meaning, names in made.meanings().items()]
    return "\n".join([formats.aligned([header, *made.cells()], left=left), "", *meanings])


def files(found: results.Found) -> dict[str, bytes]:
    """By name: the rows of all seeds as CSV, these and their means as JSON, and pictures."""
    means = found.means()
    content = {"by_seed": found.rows, "mean": means, "notes": found.notes}
    made = {
        TABLE: formats.to_csv([({}, table(found.rows))]).encode(),
        DATA: (json.dumps(content, indent=1) + "\n").encode(),
    }
    return made | {f"replay_{axis}.png": png for axis, png in figures.draw_all(means).items()}
