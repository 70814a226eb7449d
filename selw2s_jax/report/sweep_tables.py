"""The tables of a report over several runs, in the shape of the paper's Tables 2 to 5."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats, paper
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import numbers, stored, sweep_numbers

_METHOD = Column("method", "method", "the model; what each name stands for is listed under Methods")
_ACCURACY = "accuracy in per cent, mean over seeds, with its 95 % interval"
_PGR = (
    "performance gap recovered by the mean accuracies, with its 95 % interval where that is finite; - where the "
    "ceiling is not above the weak model"
)
_BOOTSTRAP = "bootstrapped over items and seeds within each task, the same ones drawn for all models"


def of_group(group: sweep_numbers.Group, rows: Sequence[Mapping[str, Any]]) -> list[formats.Table]:
    """Methods by task, ablations by task, and differences over tasks: those that have rows.

    Args:
        rows: of `sweep_numbers.method_rows`.
    """
    ablated = group.of_role("ablation")
    ablations = _ablation_rows(group, rows) if ablated else []
    others = [row for row in rows if row["method"] not in ablated]
    if ablations and all(row in ablations for row in others):
        others = []
    tasks = [sweep_numbers.AVERAGE] * group.has_averages + list(group.runs)
    columns = [_METHOD, *_task_columns(tasks, rows, group.strong_model)]
    notes = _notes(group)
    tables = (
        formats.Table("overview", "Methods by task", columns, others, notes),
        formats.Table("ablations", "Ablations and controls by task", columns, ablations, notes),
        _difference_table(group),
    )
    return [table for table in tables if table.rows]


def _ablation_rows(group: sweep_numbers.Group, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """In the order of the paper's Table 4: what a part of the subject adds, between the baseline and the whole."""
    by_method = {row["method"]: row for row in rows}
    roles = (group.of_role(role) for role in ("control", "ablation", "subject"))
    methods = ("weak", numbers.BASELINE, *itertools.chain(*roles), "ceiling")
    return [by_method[method] for method in methods if method in by_method]


def _task_columns(tasks: Sequence[str], rows: Sequence[Mapping[str, Any]], strong: str) -> list[Column]:
    """Accuracy and PGR of each task, and the paper's where it has any."""
    columns, published, worked_out = [], paper.published(strong), paper.worked_out(strong)
    for task in tasks:
        is_average = task == sweep_numbers.AVERAGE
        title, pooled = ("mean", f"; over tasks, {_BOOTSTRAP}") if is_average else (task, "")
        columns += [
            Column(f"{task} accuracy", title, _ACCURACY + pooled, "percent", f"{task} accuracy_interval"),
            Column(f"{task} pgr", f"{title}: PGR", _PGR + pooled, "ratio", f"{task} pgr_interval"),
        ]
        for name, heading, form in (
            ("paper_accuracy", "paper's accuracy", "percent"),
            ("paper_pgr", "paper's PGR", "ratio"),
        ):
            is_printed = not is_average and (name == "paper_accuracy" or paper.prints_pgr(strong))
            meaning = published if is_printed else worked_out
            if any(row.get(f"{task} {name}") is not None for row in rows):
                columns.append(Column(f"{task} {name}", f"{title}: {heading}", meaning, form))
    return columns


def _notes(group: sweep_numbers.Group) -> list[str]:
    shares = ", ".join(
        f"{100 * numbers.majority_class_accuracy(run):.2f} ({task})" for task, run in group.runs.items()
    )
    seeds = {len(run.config["seeds"]) for run in group.runs.values()}
    notes = [
        f"Always giving the commonest answer is right on, per cent: {shares}.",
        f"Planned seeds: {' or '.join(map(str, sorted(seeds)))}; each task's own table says how many are finished.",
    ]
    if len(group.runs) > 1 and not group.has_averages:
        notes.append("No means over tasks, as these runs differ in more of their config than the task.")
    return notes


def _difference_table(group: sweep_numbers.Group) -> formats.Table:
    rows = sweep_numbers.difference_rows(group)
    columns = [
        Column("first", "method", "the first of two methods"),
        Column("second", "less", "the second, whose accuracy is taken from that of the first"),
    ]
    for task in (sweep_numbers.AVERAGE, *group.runs):
        meaning = "difference of the accuracies in percentage points, with its 95 % interval, bootstrapped"
        title = "mean" if task == sweep_numbers.AVERAGE else task
        columns.append(Column(f"{task} difference", title, meaning, "points", f"{task} difference_interval"))
    columns += [
        Column("p_value", "p", "two-sided, of the same draws, for a mean difference of zero", "p"),
        Column("num_tasks", "tasks", "number of tasks, each of which counts once", "count"),
    ]
    notes = [
        f"Intervals and p: {_BOOTSTRAP}. They say how sure the mean over these tasks is, not what another task would "
        "give; the p-values are not corrected for their number."
    ]
    title = f"{' and '.join(group.of_role('subject'))} minus other students, over tasks"
    return formats.Table("pooled_differences", title, columns, rows, notes)


def line_table(line: sweep_numbers.Line, rows_of: Mapping[str, Sequence[Mapping[str, Any]]]) -> formats.Table:
    """Accuracy and PGR along an axis.

    Args:
        rows_of: `sweep_numbers.method_rows` by title of the group.
    """
    rows = sweep_numbers.line_rows(line, rows_of)
    tasks = [sweep_numbers.AVERAGE] * any(group.has_averages for group in line.groups) + line.tasks
    columns = [
        _METHOD,
        Column("value", line.key, "config key that varies; - where the method does not depend on it"),
        *_task_columns(tasks, rows, line.groups[0].strong_model),
    ]
    title = "The task that P(IK) is trained on" if line.key == "p_ik.task" else f"Along {line.key}"
    return formats.Table("axes", title, columns, rows)


def pair_table(runs: Sequence[stored.Run]) -> formats.Table:
    columns = [
        Column(
            "weak", "weak model", "the teacher: fine-tuned on ground truth, labels the strong model's data"
        ),
        Column("strong", "strong model", "the student, and on ground truth the ceiling"),
        _METHOD,
        Column("accuracy", "accuracy", _ACCURACY, "percent", "accuracy_interval"),
        Column("pgr", "PGR", _PGR, "ratio", "pgr_interval"),
        Column("num_seeds", "seeds", "number of seeds finished", "count"),
    ]
    rows = sweep_numbers.pair_rows(runs)
    if any(row["paper_accuracy"] is not None for row in rows):
        published = paper.published(runs[0].strong_model)
        columns.append(Column("paper_accuracy", "paper's accuracy", published, "percent"))
    return formats.Table("transfer", "Methods by pair of models", columns, rows)


def average_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The averages of `sweep_numbers.method_rows` as pictures take them: `accuracy`, `pgr` and their intervals."""
    names = ("accuracy", "accuracy_interval", "pgr", "pgr_interval")
    return [
        {"method": row["method"], **{name: row[f"{sweep_numbers.AVERAGE} {name}"] for name in names}}
        for row in rows
        if row.get(f"{sweep_numbers.AVERAGE} accuracy") is not None
    ]
