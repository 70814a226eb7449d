"""What a report says of how often each row of the student's half was chosen over training."""

from collections.abc import Sequence

from selw2s_jax.analysis import formats
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import section, selection_numbers, stored

_TITLE = "How often rows are chosen"
_NOTES = (
    "A row's selection frequency is the share of the steps that it was in, in which the strong model's own label took "
    "the place of the weak one (of methods that weigh both labels: decided the class). Selection finds what it is for "
    "where rows with a wrong weak label are chosen more often than those with a right one. Rows that are chosen "
    "sometimes, neither never nor always, are those on which P(IK) changed sides while it was trained.",
    "All of it is of the student's half of the data, whose ground truth is used here alone.",
)
_METHOD = Column("method", "method", "the student; what each name stands for is listed under Methods")
_SEEDS = Column("num_seeds", "seeds", "number of seeds", "count")
_MEASURES = (
    Column("mean", "chosen", "mean selection frequency of the rows, per cent", "percent"),
    Column("never", "never", "rows that were never chosen, per cent", "percent"),
    Column("always", "always", "rows that were chosen at every step that they were in, per cent", "percent"),
)
_MAX_ROWS = 24


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run that chose among labels; of several, behind a line that opens it."""
    names = {name: run for name, run in stored.names(runs).items() if run.selection_frequency}
    return [
        section.Section(
            f"{_TITLE}: {name}",
            {"task": run.task, "weak": run.weak or "", "strong": run.strong}
            | {key: stored.setting_text(value) for key, value in run.settings.items()},
            [_overview_table(run), _group_table(run)],
            {},
            is_folded=len(names) > 1,
            notes=_NOTES,
            max_rows=_MAX_ROWS,
        )
        for name, run in names.items()
    ]


def _overview_table(run: stored.Run) -> formats.Table:
    columns = [
        _METHOD,
        *_MEASURES,
        Column("wrong", "chosen, weak wrong", "mean frequency of rows whose weak label is wrong", "percent"),
        Column("right", "chosen, weak right", "the same of rows whose weak label is right", "percent"),
        Column(
            "difference",
            "wrong less right",
            "points by which rows with a wrong weak label are chosen more often; 0 for rows chosen at random. The 95 % "
            "interval is Student's t over seeds",
            "points",
            "difference_interval",
        ),
        Column("unseen", "unseen", "rows that no step had, where training ends before its first epoch does", "ratio"),
        _SEEDS,
    ]  # fmt: skip
    rows = selection_numbers.overview_rows(run)
    return formats.Table("selection_frequency", "Selection frequency", columns, rows)


def _group_table(run: stored.Run) -> formats.Table:
    columns = [
        _METHOD,
        Column("confidence", "weak confidence", "the weak label's probability of the class it names", "ratio interval"),
        Column("label", "weak label", "whether it is right"),
        Column("n", "n", "number of rows, mean over seeds", "count"),
        *_MEASURES,
        _SEEDS,
    ]  # fmt: skip
    rows = selection_numbers.group_rows(run)
    return formats.Table("selection_frequency_by_confidence", "By weak confidence", columns, rows)
