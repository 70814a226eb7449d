"""What a report says of what gains over `finetune` are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import audit_figures, audit_numbers, numbers, section, stored

_TITLE = "What gains are made of"
_NOTES = (
    f"The gain of a student over {numbers.BASELINE} is the number of answers that it alone gets right less those that "
    f"{numbers.BASELINE} alone does. They are counted apart on items that the weak model gets wrong, where the gain is "
    "errors corrected, and on those that it gets right, where the loss is answers spoiled. A control does all that its "
    "method does but for the choice, which is random: what it gains is gained by chance, by self labels as such; what "
    "the method has more is of its own choice. All parts add up to the gain.",
)
_CAPTION = (
    f"Left: answers that a student gets right and {numbers.BASELINE} does not (right of 0) and the other way round "
    "(left of 0), by whether the weak model is right, in points of all items; the dot is their sum, the gain. Right: "
    "what control and choice add to it, where a method has a control of its own. Lines are 95 % intervals."
)
_SEEDS = Column("num_seeds", "seeds", "number of seeds that all of the compared have finished", "count")
_BOOTSTRAPPED = "95 % intervals are bootstrapped over items and seeds"


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run that has students beside `numbers.BASELINE`; folded where there are several."""
    names = {name: run for name, run in stored.names(runs).items() if audit_numbers.audited(run)}
    return [
        _of_run(run, f"{_TITLE}: {name}", number, is_folded=len(names) > 1)
        for number, (name, run) in enumerate(names.items(), start=1)
    ]


def _of_run(run: stored.Run, title: str, number: int, *, is_folded: bool) -> section.Section:
    tables = [_gain_table(run), _chance_table(run), _label_table(run)]
    gains, splits = audit_numbers.gain_rows(run), {}
    for row in audit_numbers.chance_rows(run):
        if row["control"] in numbers.own_controls(run, row["method"]):
            splits.setdefault(row["method"], row)
    picture = f"gain_parts-{number}"
    return section.Section(
        title,
        {"task": run.task, "weak": run.weak or "", "strong": run.strong}
        | {key: stored.setting_text(value) for key, value in run.settings.items()},
        [table for table in tables if table.rows],
        {picture: (audit_figures.draw(gains, splits, title=run.title), _CAPTION)},
        is_folded=is_folded,
        notes=[*filter(None, [audit_numbers.finding(run)]), *_NOTES],
    )


def _points(key: str, heading: str, meaning: str) -> Column:
    return Column(key, heading, meaning, "points", f"{key}_interval")


def _gain_table(run: stored.Run) -> formats.Table:
    words = {"weak_wrong": "weak wrong", "weak_right": "weak right"}
    done = {"weak_wrong": ("corrected", "no longer corrected"), "weak_right": ("kept", "spoiled")}
    columns = [
        Column("method", "method", "of the student"),
        _points("gain", "gain", f"accuracy less that of {numbers.BASELINE}, in points; {_BOOTSTRAPPED}"),
    ]
    for area, where in words.items():
        gained, lost = done[area]
        columns += [
            _points(
                area,
                where,
                f"part of the gain on items where the weak model is {where.split()[1]}, in points of all items",
            ),
            Column(
                f"{area}_gained",
                gained,
                f"items, {where}, that the student gets right and {numbers.BASELINE} does not, per cent of all",
                "percent",
            ),
            Column(
                f"{area}_lost",
                lost,
                f"items, {where}, that {numbers.BASELINE} gets right and the student does not, per cent of all",
                "percent",
            ),
        ]
    rows = audit_numbers.gain_rows(run)
    return formats.Table("gain_parts", f"Gains over {numbers.BASELINE}, by item", [*columns, _SEEDS], rows)


def _chance_table(run: stored.Run) -> formats.Table:
    columns = [
        Column("method", "method", "of the student"),
        Column("control", "control", "its own controls first, then those of every method"),
        _points("gain", "gain", f"accuracy less that of {numbers.BASELINE}, in points; {_BOOTSTRAPPED}"),
        _points("chance", "of the control", f"accuracy of the control less that of {numbers.BASELINE}"),
        _points("own", "of its own", "accuracy of the student less that of the control"),
        _points("own_weak_wrong", "weak wrong", "part of that on items where the weak model is wrong"),
        _points("own_weak_right", "weak right", "part of that on items where the weak model is right"),
        _SEEDS,
    ]
    rows: list[Mapping[str, Any]] = audit_numbers.chance_rows(run)
    return formats.Table("gain_by_chance", "Gains that a control has too", columns, rows)


def _label_table(run: stored.Run) -> formats.Table:
    columns = [
        Column("method", "method", "whose training labels they are, as they were when it last saw a row"),
        Column(
            "gain", "gain", "training labels right less weak labels right, in points of all rows", "points"
        ),
        Column("random", "by chance", "expected where as many random rows have the self label", "points"),
        _points(
            "own",
            "by choice",
            "what the choice between weak and self label adds to that; the 95 % interval is of the spread of random "
            "choices, with that of the seeds (Student's t) added in squares",
        ),
        _points(
            "smoothing",
            "by smoothing",
            "right after smoothing less right before; the 95 % interval is of independent rows, with the spread of the "
            "seeds added in squares",
        ),
    ]
    for step, name in (("choice", "choice"), ("smoothing", "smoothing")):
        for kind, meaning in (("corrected", "right only after"), ("spoiled", "right only before")):
            columns.append(
                Column(
                    f"{step}_{kind}",
                    f"{kind} by {name}",
                    f"labels that are {meaning} {name}, per cent",
                    "percent",
                )
            )
    rows = audit_numbers.label_rows(run)
    return formats.Table(
        "label_changes", "What became of the weak labels in training", [*columns, _SEEDS], rows
    )
