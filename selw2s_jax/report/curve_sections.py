"""What a report says of training: accuracy and agreement with the weak labels by step, and where to stop."""

from collections.abc import Sequence

from selw2s_jax.analysis import formats, method_looks, plotting
from selw2s_jax.analysis.formats import Column
from selw2s_jax.method import registry
from selw2s_jax.report import curve_figures, curve_numbers, numbers, section, stored

_TITLE = "Over training"
_NOTES = (
    "A student of weak labels may be best before its training ends: it first learns what is right in them and then "
    "their errors (Burns et al. 2023, arXiv 2312.09390; arXiv 2503.04249). That is so where accuracy falls while "
    "agreement with the weak model rises, most of all where the weak model is wrong.",
    "The oracle's step is the best one on the truth of the test set, which nobody has who trains on weak labels: it "
    "says what there is to gain, and a little more, as the highest of many numbers is partly chance. Its gain on other "
    "items has none of that: each half of the test items is scored at the step that is best on the other half.",
)
_STOPPED = (
    "The stopped step is the earliest of those at which the student agrees most with the weak labels of rows of its "
    "half that it is not trained on: no truth is needed for it. Its accuracy is that of the test predictions at that "
    "step. The last of the steps counts too; step 0, before training, does not."
)
_NOT_STOPPED = (
    "No row was held out of the student's half, to choose a step without the truth: evaluation.held_out."
)
_CAPTION = (
    "Answers of the students by step of training: right ones, with 95 % intervals as bands where students are few, and "
    "those that are as the weak model's. Thin lines are seeds, thick ones their mean. Horizontal lines are weak model "
    "and ceiling at the end; a triangle is where held-out weak labels stop a student, on average over its seeds."
)
_MAX_ROWS = 24
_SEEDS = Column("num_seeds", "seeds", "number of seeds whose training is finished", "count")
_BOOTSTRAP = "bootstrapped over items and seeds, the chosen steps as they are"


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run that asked its models during training; behind a line each, where there are several."""
    names = {name: run for name, run in stored.names(runs).items() if run.curves and run.has_probabilities}
    return [
        _of_run(run, f"{_TITLE}: {name}", number, is_folded=len(names) > 1)
        for number, (name, run) in enumerate(names.items(), start=1)
    ]


def _of_run(run: stored.Run, title: str, number: int, *, is_folded: bool) -> section.Section:
    stops = _stop_table(run)
    is_stopped = any(row["stopped"] is not None for row in stops.rows)
    picture = f"training_curves-{number}"
    return section.Section(
        title,
        {"task": run.task, "weak": run.weak or "", "strong": run.strong}
        | {key: stored.setting_text(value) for key, value in run.settings.items()},
        [stops, _step_table(run)],
        {picture: (_draw(run), _CAPTION)} if set(run.curves) - {*registry.REFERENCES, *run.members} else {},
        is_folded=is_folded,
        above={picture: stops.name},
        notes=[*_NOTES, _STOPPED if is_stopped else _NOT_STOPPED],
        max_rows=_MAX_ROWS,
    )


def _draw(run: stored.Run) -> plotting.Picture:
    # Several weak models are teachers: the table has them.
    students = [method for method in run.curves if method not in (*registry.REFERENCES, *run.members)]
    rows, stops = curve_numbers.step_rows(run), curve_numbers.stop_rows(run)
    references = [name for name in registry.REFERENCES if run.common_seeds(name)]
    return curve_figures.draw_curves(
        {method: [row for row in rows if row["method"] == method] for method in students},
        {method: list(curve_numbers.seed_curves(run, method).values()) for method in students},
        levels={name: float(run.correct(name, run.common_seeds(name)).mean()) for name in references},
        stopped={
            row["method"]: row["stopped_step"]
            for row in stops
            if row["method"] in students and row["stopped_step"] is not None
        },
        title=run.title,
        styles=method_looks.styles({name: run.facts(name) for name in (*references, *students)}),
    )


def _stop_table(run: stored.Run) -> formats.Table:
    rows = curve_numbers.stop_rows(run)
    columns = [
        Column("method", "method", "the model; weak model and ceiling are trained on the truth"),
        Column("last_step", "last step", "steps of its training, mean over seeds", "step"),
        Column("last", "accuracy", "on the test set at the last step, per cent", "percent", "last_interval"),
    ]
    if any(row["stopped"] is not None for row in rows):
        columns += [
            Column(
                "stopped_step",
                "stopped at",
                "where the weak labels of held-out rows stop it, mean over seeds",
                "step",
            ),
            Column("stopped", "stopped", "accuracy at that step, per cent", "percent", "stopped_interval"),
            Column(
                "stopped_gain",
                "minus last",
                f"accuracy there less that at the last step, points, {_BOOTSTRAP}",
                "points",
                "stopped_gain_interval",
            ),
            Column(
                "missed", "minus oracle", "accuracy there less that at the oracle's step, points", "points"
            ),
        ]
    columns += [
        Column("oracle_step", "oracle's step", "the best step on the truth of the test set, mean over seeds", "step"),
        Column("oracle", "oracle", "accuracy at the oracle's step, per cent", "percent", "oracle_interval"),
        Column("oracle_gain", "oracle minus last", "accuracy there less that at the last step, points", "points"),
        Column(
            "crossed_gain", "on other items", "the same where each half of the items is scored at the step that is "
            f"best on the other half, points, {_BOOTSTRAP}", "points", "crossed_gain_interval",
        ),
    ]  # fmt: skip
    if any(row["oracle_pgr"] is not None for row in rows):
        pgr = "of weak model and ceiling as they are at their last steps"
        if any(row["stopped_pgr"] is not None for row in rows):
            columns.append(Column("stopped_pgr", "stopped PGR", f"PGR at the stopped step, {pgr}", "ratio"))
        columns.append(Column("oracle_pgr", "oracle PGR", f"PGR at the oracle's step, {pgr}", "ratio"))
    return formats.Table("stops", "When to stop", [*columns, _SEEDS], rows)


def _step_table(run: stored.Run) -> formats.Table:
    rows = curve_numbers.step_rows(run)
    agreements = {
        "agreement": ("as weak", "share of test items answered as the weak model answers them, per cent"),
        "agreement_weak_right": ("where weak is right", "the same of items that the weak model gets right"),
        "agreement_weak_wrong": ("where weak is wrong", "the same of items that it gets wrong: inherited errors"),
        "trained": ("as weak label, trained on", "share of rows trained on, of those asked, answered as labelled"),
        "held_out": ("as weak label, held out", "share of rows held out answered as the weak model labels them"),
    }  # fmt: skip
    columns = [
        Column("method", "method", "the model"),
        Column("step", "step", "steps of training that were done", "count"),
        Column(
            "accuracy",
            "accuracy",
            "on the test set, mean over seeds, per cent",
            "percent",
            "accuracy_interval",
        ),
        *(
            Column(name, heading, meaning, "percent")
            for name, (heading, meaning) in agreements.items()
            if any(row[name] is not None for row in rows)
        ),
        _SEEDS,
    ]
    return formats.Table("curves", "By step", columns, rows)


def warning(run: stored.Run, method: str) -> tuple[str, str] | None:
    """That a student overfits to its weak labels: what was seen and what to try; None where it does not."""
    found = curve_numbers.overfitting(run, method)
    if found is None:
        return None
    fall = found.fall
    interval = numbers.interval(fall)
    return (
        f"it overfits to the weak labels: from about step {found.first:.0f} to {found.last:.0f} its accuracy falls by "
        f"{100 * fall.mean:.1f} points ({100 * interval[0]:.1f} to {100 * interval[1]:.1f}) and its agreement with the "
        f"weak model rises by {100 * found.rise:.1f}",
        "train it for fewer steps (training.epochs), stop it by weak labels of rows held out (evaluation.held_out), or "
        "take a loss that trusts labels less (confidence, reverse_kl)",
    )
