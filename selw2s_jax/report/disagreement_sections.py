"""What a report says of rows on which weak and self label differ: whether selection has anything to gain."""

from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import disagreement, formats
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import disagreement_figures, disagreement_numbers, section, stored

_TITLE = "Where weak and self label differ"
_NOTES = (
    "A self label is the strong model's own answer before training. Selection puts it in the place of the weak label "
    "where P(IK) is high, which changes something only on the rows where the two labels differ; of two such labels "
    "exactly one is right. So selection can gain only as far as P(IK) is high where the weak label is wrong: what "
    "counts is how often the self label is right on these rows, and the AUROC of P(IK) on them rather than on all. "
    f"A gain is to be expected where that AUROC is above {disagreement.ENOUGH_AUROC:g}; at 0.5 as many random rows do "
    "as well. Errors of the two models that are correlated leave little to gain: both fail on the same rows.",
    "All of it is of the student's half of the data, whose ground truth is used here alone.",
)
_CAPTION = (
    "Self labels and weak labels that are right, by P(IK), with Wilson's 95 % intervals, and the number of rows of all "
    "seeds in each bin below. Taking the self label gains where its line is above that of the weak label, on the rows "
    "where the two differ."
)
_MAX_ROWS = 12  # of a table that the page shows open
_MAX_DRAWN = 4  # P(IK)s that one picture has room for
_SEEDS = Column("num_seeds", "seeds", "number of seeds finished", "count")
_WHOSE = Column(
    "p_ik_of",
    "P(IK) of",
    "the method whose P(IK) it is: at the end of its training, or of p_ik_only, trained before and frozen",
)
_SPREAD = "with the spread of the seeds (Student's t) added in squares"


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run with self labels; of several runs, one over all before them."""
    names = {name: run for name, run in stored.names(runs).items() if disagreement_numbers.by_p_ik(run)}
    if not names:
        return []
    rows = [
        {"run": name} | row for name, run in names.items() for row in disagreement_numbers.overview_rows(run)
    ]
    if len(names) == 1:
        ((name, run),) = names.items()
        return [_of_run(run, f"{_TITLE}: {name}", 1, [_overview_table(rows)])]
    first = section.Section(_TITLE, {}, [_overview_table(rows, with_run=True)], {}, notes=_NOTES)
    return [first] + [
        _of_run(run, f"{_TITLE}: {name}", number) for number, (name, run) in enumerate(names.items(), start=1)
    ]


def _of_run(
    run: stored.Run, title: str, number: int, overview: Sequence[formats.Table] = ()
) -> section.Section:
    """A run, with the overview of itself where no other section has it."""
    tables = [*overview, _label_table(run), _bin_table(run)]
    name, bins = f"labels_by_p_ik-{number}", _bins(run)
    shown, hidden = list(bins)[:_MAX_DRAWN], list(bins)[_MAX_DRAWN:]
    notes = [f"The picture has no room for P(IK) of {', '.join(hidden)}; the tables have it."] * bool(hidden)
    pictures = {}
    if bins:
        picture = disagreement_figures.draw_labels_by_p_ik(
            {whose: bins[whose] for whose in shown}, title=run.title, gamma=run.config["p_ik"]["gamma"]
        )
        pictures[name] = picture, _CAPTION
    return section.Section(
        title,
        {"task": run.task, "weak": run.weak or "", "strong": run.strong}
        | {key: stored.setting_text(value) for key, value in run.settings.items()},
        [table for table in tables if table.rows],
        pictures,
        is_folded=not overview,
        above={name: "labels_by_p_ik"},
        notes=[*(_NOTES if overview else ()), *notes],
        max_rows=_MAX_ROWS,
    )


def _bins(run: stored.Run) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By whose P(IK) it is and by part of the rows, what is drawn."""
    return {
        whose: {part: disagreement_numbers.pooled_bins(entries, part) for part in disagreement_numbers.PARTS}
        for whose, entries in disagreement_numbers.by_p_ik(run).items()
        if whose is not None and any(entry["bins"] for entry in entries)
    }


def _overview_table(rows: Sequence[Mapping[str, Any]], *, with_run: bool = False) -> formats.Table:
    columns = [
        *([Column("run", "run", "task and models")] if with_run else []),
        _WHOSE,
        Column("share", "rows that differ", "share of the rows on which weak and self label differ", "percent"),
        Column(
            "self_right_there",
            "self right there",
            "self labels that are right on those rows, per cent; below 50 the weak label is the better one there. The "
            f"95 % interval is Wilson's, {_SPREAD}",
            "percent",
            "self_right_there_interval",
        ),
        Column("weak_right_there", "weak right there", "weak labels that are right on those rows", "percent"),
        Column(
            "auroc",
            "AUROC there",
            "of P(IK) for the self label being right, on those rows; 0.5 is chance. The 95 % interval is DeLong's, "
            f"{_SPREAD}",
            "ratio",
            "auroc_interval",
        ),
        Column("auroc_all", "AUROC on all", "the same on all rows", "ratio"),
        Column(
            "error_correlation",
            "error correlation",
            "phi of the weak label and the self label being wrong: 0 where the two fail independently, 1 where they "
            f"fail on the same rows. The 95 % interval is the delta method's, {_SPREAD}",
            "ratio",
            "error_correlation_interval",
        ),
        Column("self_right", "self right", "self labels that are right on all rows, per cent", "percent"),
        Column("weak_right", "weak right", "weak labels that are right on all rows, per cent", "percent"),
        Column("n", "n", "number of rows of the student's half", "count"),
        _SEEDS,
    ]  # fmt: skip
    return formats.Table("disagreement", "What selection has to work with", columns, rows)


def _label_table(run: stored.Run) -> formats.Table:
    columns = [
        Column(
            "labels",
            "labels",
            "weak labels, self labels, and those that each method was trained on, as they were when it last saw a row",
        ),
        Column("right_all", "right", "share of the rows on which they are right, per cent", "percent"),
        Column(
            "right_disagreeing",
            "right where labels differ",
            "the same on rows where weak and self label differ",
            "percent",
        ),
        Column("brier_all", "Brier", "their mean squared error as probabilities; lower is better", "ratio"),
        Column(
            "brier_disagreeing",
            "Brier where labels differ",
            "the same on rows where weak and self label differ",
            "ratio",
        ),
        _SEEDS,
    ]
    rows = disagreement_numbers.label_rows(run)
    return formats.Table("trained_labels", "Labels of the student's half", columns, rows)


def _bin_table(run: stored.Run) -> formats.Table:
    columns = [
        Column("method", "method", "whose labels they are"),
        _WHOSE,
        Column("p_ik", "P(IK)", "bounds of the bin", "ratio interval"),
    ]
    words = {"all": "", "disagreeing": " where labels differ"}
    labels = {"self": "self", "weak": "weak", "target": "trained on"}
    for part, where in words.items():
        columns.append(Column(f"n_{part}", f"n{where}", f"rows of all seeds{where}", "count"))
        for label, name in labels.items():
            columns.append(
                Column(
                    f"{label}_right_{part}",
                    f"{name} right{where}",
                    f"labels right{where}, per cent",
                    "percent",
                )
            )
        columns.append(
            Column(f"target_brier_{part}", f"Brier{where}", f"of the labels trained on{where}", "ratio")
        )
    rows = disagreement_numbers.bin_rows(run)
    return formats.Table("labels_by_p_ik", "Labels by P(IK)", columns, rows)
