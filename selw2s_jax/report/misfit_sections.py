"""What a report says of misfit: whether the distance of students from their weak labels predicts their gain."""

from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats, method_looks
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import misfit_figures, misfit_numbers, section, stored

_TITLE = "Gain and misfit"
_NOTES = (
    "The misfit is how far a student's probabilities are from those of its weak model, on the test items. Where the "
    "student is the nearest model to the weak labels of a convex class that holds the target, its error is at most "
    "that of the weak model less the misfit: the gain is at least the misfit, and the more a student disagrees with "
    "its teacher, the better it is. Of cross-entropy the misfit is KL(student || weak).",
    "Whole networks are no such class, and most students are trained to something else than the nearest model, so a "
    "negative slack (gain less misfit) is a finding, not an error: there the student went away from its teacher more "
    "than it came nearer to the target. Errors here are of probabilities; they may fall while accuracy does not rise.",
)
_CAPTION = (
    "Gain of each student over its weak model against its misfit, a point for each seed. On and above the dashed line "
    "the gain is at least what the misfit promises; below it the slack is negative. Hollow markers "
    "lie beyond the edge of the panel."
)
_CAPTION_OF_PAIRS = (
    "Gain of each student over its weak model against its misfit, a point for each seed and pair. "
)
_METHOD = Column("method", "method", "the student; what each name stands for is listed under Methods")
_ERROR = Column("error", "error", "mean squared error of the probability, or KL in nats")
_TARGET = Column("target", "against", "the target: ground truth, or the probabilities of the ceiling")
_SEEDS = Column("num_seeds", "seeds", "number of seeds finished", "count")
_BOOTSTRAP = "the 95 % interval is bootstrapped over items and seeds, the same ones for all students"


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """Two sections for each run whose models give probabilities, and of several pairs the choice between them first."""
    names = {name: run for name, run in stored.names(runs).items() if misfit_numbers.rows(run)}
    found = _choices(runs)
    for number, (name, run) in enumerate(names.items(), start=1):
        found += _of_run(run, name, number, is_folded=len(names) > 1)
    return found


def _of_run(run: stored.Run, name: str, number: int, *, is_folded: bool) -> list[section.Section]:
    rows = misfit_numbers.rows(run)
    first = [row for row in rows if (row["target"], row["error"]) == (rows[0]["target"], rows[0]["error"])]
    picture = misfit_figures.draw_gain(
        _panels({run.title: run}, misfit_numbers.TARGETS.values()),
        title=f"Gain against misfit: {run.title}",
        styles=method_looks.styles({row["method"]: run.facts(row["method"]) for row in rows}),
    )
    leading = section.Section(
        f"{_TITLE}: {name}",
        _labels(run),
        [_table(first, "Squared error against ground truth")],
        {f"misfit-{number}": (picture, _CAPTION)},
        is_folded=is_folded,
        notes=_NOTES,
    )
    others = [row for row in rows if row not in first]
    seeds = formats.Table(
        "misfit_seeds",
        "Each seed",
        [
            _METHOD,
            Column("seed", "seed", "base seed", "count"),
            _ERROR,
            _TARGET,
            *(Column(name, heading, meaning, "ratio") for name, heading, meaning in _MEASURES),
        ],
        misfit_numbers.seed_rows(run),
    )
    tables = [_table(others, "Other errors and targets"), seeds]
    details = section.Section(
        f"{_TITLE}, other errors, targets and each seed: {name}", _labels(run), tables, {}, is_folded=True
    )
    return [leading, details]


_MEASURES = (
    ("gain", "gain", "error of the weak model less that of the student; above 0 the student is nearer to the target"),
    ("misfit", "misfit", "distance of the student from the weak model, in the same error"),
    ("slack", "slack", "gain less misfit; below 0 the student gained less than its misfit promises"),
    ("error_weak", "weak error", "of the weak model against the target"),
    ("predicted_error", "predicted error", "the weak model's less the misfit, the most that the student's should be"),
    ("error_student", "student's error", "against the target"),
)  # fmt: skip
_WITH_INTERVALS = ("gain", "misfit", "slack")


def _table(rows: Sequence[Mapping[str, Any]], title: str) -> formats.Table:
    columns = [_METHOD, _ERROR, _TARGET]
    for name, heading, meaning in _MEASURES:
        if name in _WITH_INTERVALS:
            columns.append(Column(name, heading, f"{meaning}; {_BOOTSTRAP}", "ratio", f"{name}_interval"))
        else:
            columns.append(Column(name, heading, meaning, "ratio"))
    return formats.Table("misfit", title, [*columns, _SEEDS], rows)


def _panels(runs: Mapping[str, stored.Run], targets: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """By kind of error and target, the seeds of the runs, whose names are the pairs."""
    rows = [row | {"pair": name} for name, run in runs.items() for row in misfit_numbers.seed_rows(run)]
    panels = {
        f"{error} error against {target}": [
            row for row in rows if (row["error"], row["target"]) == (error, target)
        ]
        for target in targets
        for error in misfit_numbers.KINDS.values()
    }
    return {name: of_panel for name, of_panel in panels.items() if of_panel}


def _choices(runs: Sequence[stored.Run]) -> list[section.Section]:
    found = []
    for number, (title, of_set) in enumerate(misfit_numbers.choice_sets(runs).items(), start=1):
        rows = misfit_numbers.choice_rows(of_set)
        if not rows:
            continue
        facts = {method: run.facts(method) for run in of_set for method in run.predictions}
        picture = misfit_figures.draw_gain(
            _panels({f"{run.weak} teaches {run.strong}": run for run in of_set}, ["ground truth"]),
            title=f"Gain against misfit: {title}",
            styles=method_looks.styles(facts),
        )
        settings = {key: stored.setting_text(value) for key, value in of_set[0].settings.items()}
        found.append(
            section.Section(
                f"{_TITLE} over pairs of models: {title}",
                {"task": of_set[0].task, **settings},
                [_choice_table(rows)],
                {f"misfit-pairs-{number}": (picture, _CAPTION_OF_PAIRS + _CAPTION.partition(". ")[2])},
                notes=_NOTES,
            )
        )
    return found


def _choice_table(rows: Sequence[Mapping[str, Any]]) -> formats.Table:
    columns = [
        Column("choice", "choice", "what is chosen: a weak model for one strong model, or any pair"),
        _METHOD,
        _ERROR,
        Column("chosen", "chosen", "the pair with the least predicted error: the weak model's less the misfit"),
        Column("predicted_error", "predicted", "that error, on the test set, mean over seeds", "ratio"),
        Column("chosen_error", "real", "the error that the student of this pair has", "ratio"),
        Column("best", "truly best", "the pair whose student has the least error"),
        Column("best_error", "its error", "of that student", "ratio"),
        Column("regret", "regret", "what the choice costs: real error of the chosen less that of the best", "ratio"),
        Column(
            "rank_correlation",
            "rank correlation",
            "Spearman's, of predicted and real error over the pairs; - for fewer than three pairs",
            "ratio",
        ),
        Column("num_pairs", "pairs", "to choose from", "count"),
    ]  # fmt: skip
    return formats.Table("misfit_choice", "The choice by predicted error", columns, rows)


def _labels(run: stored.Run) -> dict[str, str]:
    settings = {key: stored.setting_text(value) for key, value in run.settings.items()}
    return {"task": run.task, "weak": run.weak or "", "strong": run.strong, **settings}
