"""What a report says of errors where the ceiling knows and the weak model does not, and of blind spots."""

from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import blind_spots, formats, method_looks, plotting
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import (
    blind_spots_figures,
    blind_spots_numbers,
    misfit_numbers,
    section,
    stored,
)

_TITLE = "Errors where the ceiling knows and the weak model does not"
_T = f"{blind_spots.THRESHOLD:g}"
_NOTES = (
    f"The ceiling knows an item where it gives the right class a probability of at least T = {_T}, the weak model does "
    "not where it gives that class less. An error there is one of an item that the strong model can learn to answer, "
    "and that its teacher could not teach. The score, the share of a student's errors that lie there, is above 0 for "
    "errors that are merely inherited, so by itself it is no sign of anything. What counts is the lift, score over the "
    "share of such items: at 1 errors are as frequent there as anywhere. And the lift of the weak model's own errors "
    "is that of a student which copies its teacher.",
)
_NARROW = "{} on {:.1f} per cent of the items at T = {}: the four areas say little there; the curves over T have more."
_CAPTION = (
    "Left: lift of each model's errors with its 95 % interval; the grey line is 1, the dotted one the weak model's "
    "own errors, which a student that copies it makes too. Right: lift, and score with the share of items in grey, "
    "against the threshold; each line has the colour of its model."
)
_SPOTS_CAPTION = (
    "Blind spots of each student against how many times as large the strong model is as the weak one, a point for each "
    "pair of models."
)
_METHOD = Column("method", "method", "the model; what each name stands for is listed under Methods")
_SEEDS = Column("num_seeds", "seeds", "number of seeds, whose items count together", "count")
_N = Column("n", "n", "number of items, of all seeds together", "count")
_BOOTSTRAP = "the 95 % interval is bootstrapped over items and seeds, the same ones for all models"
_LIFT = "score over share of items: above 1 where errors are more frequent there than elsewhere"
_SCORE = Column("score", "score", "share of the errors that lie there, per cent", "percent")
_SHARE = Column(
    "share_of_area", "share of items", "items that the ceiling knows and the weak model does not", "percent"
)
_RATES = {
    "strong_known_weak_unknown": ("wrong: ceiling knows", "items wrong where the ceiling knows, the weak model not"),
    "strong_known_weak_known": ("both know", "the same where both know"),
    "strong_unknown_weak_unknown": ("neither", "the same where neither knows"),
    "strong_unknown_weak_known": ("weak alone", "the same where the weak model alone knows"),
}  # fmt: skip
_MAX_ROWS = 12


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """Two sections for each run with weak model and ceiling; over several pairs blind spots by size first."""
    names = {name: run for name, run in stored.names(runs).items() if blind_spots_numbers.rows(run)}
    found = _over_pairs(runs)
    for number, (name, run) in enumerate(names.items(), start=1):
        found += _of_run(run, name, number, is_folded=len(names) > 1)
    return found


def _of_run(run: stored.Run, name: str, number: int, *, is_folded: bool) -> list[section.Section]:
    rows, curves = blind_spots_numbers.rows(run), blind_spots_numbers.curves(run)
    picture = blind_spots_figures.draw_known_errors(
        rows,
        curves,
        thresholds=blind_spots_numbers.THRESHOLDS,
        threshold=blind_spots.THRESHOLD,
        title=f"{_TITLE}: {run.title}",
        styles=method_looks.styles({method: run.facts(method) for method in curves}),
    )
    leading = section.Section(
        f"{_TITLE}: {name}",
        _labels(run),
        [_known_table(rows, "All errors")],
        {f"known_errors-{number}": (picture, _CAPTION)},
        is_folded=is_folded,
        notes=[*_NOTES, *_narrow(run)],
    )
    of_references = [
        row
        for reference in blind_spots_numbers.REFERENCES
        if reference is not None and reference in run.predictions
        for row in blind_spots_numbers.rows(run, reference)
    ]
    tables = [
        _spot_table(run),
        _known_table(of_references, "Errors on what another model gets right"),
        _curve_table(curves),
        _seed_table(run),
    ]
    tables = [table for table in tables if table.rows]
    title = f"Blind spots, other errors, thresholds and seeds: {name}"
    details = section.Section(title, _labels(run), tables, {}, is_folded=True, max_rows=_MAX_ROWS)
    return [leading, details]


def _narrow(run: stored.Run) -> list[str]:
    """Notes where an area is all or nothing, so that its complement has next to no items."""
    known, unknown = blind_spots_numbers.area_shares(run)
    words = (("The ceiling knows", known), ("The weak model does not know", unknown))
    return [_NARROW.format(what, 100 * share, _T) for what, share in words if not 0.02 <= share <= 0.98]


def _known_table(rows: Sequence[Mapping[str, Any]], title: str) -> formats.Table:
    columns = [
        _METHOD,
        Column("reference", "right by", "errors are items that the model gets wrong and this one right"),
        Column("lift", "lift", f"{_LIFT}; {_BOOTSTRAP}", "ratio", "lift_interval"),
        Column(
            "excess",
            "minus inherited",
            f"lift less that of the weak model's own errors; {_BOOTSTRAP}",
            "ratio",
            "excess_interval",
        ),
        _SCORE,
        _SHARE,
        *(Column(f"{area}_rate", heading, meaning, "percent") for area, (heading, meaning) in _RATES.items()),
        Column("errors", "errors", "number of them, of all seeds together", "count"),
        _N,
        _SEEDS,
    ]
    return formats.Table("known_errors", title, columns, rows)


def _curve_table(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> formats.Table:
    columns = [
        _METHOD,
        Column("threshold", "T", "threshold of the probability of the right class", "ratio"),
        Column("lift", "lift", _LIFT, "ratio"),
        _SCORE,
        _SHARE,
    ]
    rows = blind_spots_numbers.curve_rows(curves)
    return formats.Table("known_errors_by_threshold", "By threshold", columns, rows)


def _seed_table(run: stored.Run) -> formats.Table:
    columns = [
        _METHOD,
        Column("seed", "seed", "base seed", "count"),
        Column("lift", "lift", _LIFT, "ratio"),
        _SCORE,
        _SHARE,
        Column("errors", "errors", "number of them", "count"),
        Column("n", "n", "number of items", "count"),
    ]
    return formats.Table("known_errors_seeds", "Each seed", columns, blind_spots_numbers.seed_rows(run))


_SPOTS = (
    Column(
        "share",
        "blind spots",
        f"items on which the student is wrong with a confidence of at least {_T} and the weak model's confidence is "
        f"below that, per cent; {_BOOTSTRAP}",
        "percent",
        "share_interval",
    ),
    Column("share_of_errors", "of errors", "share of the student's errors that are such", "percent"),
    Column("variance", "variance", "of the student's probability of class 1 over the items", "ratio"),
    Column("spots", "number", "of blind spots", "count"),
    _N,
    _SEEDS,
)


def _spot_table(run: stored.Run) -> formats.Table:
    rows = blind_spots_numbers.spot_rows(run)
    return formats.Table("blind_spots", "Blind spots", (_METHOD, *_SPOTS), rows)


def _over_pairs(runs: Sequence[stored.Run]) -> list[section.Section]:
    """Blind spots by pair, against the gap of sizes."""
    found = []
    for number, (title, of_set) in enumerate(misfit_numbers.choice_sets(runs).items(), start=1):
        rows = [
            {"weak": run.weak, "strong": run.strong, "size_ratio": blind_spots_numbers.size_ratio(run), **row}
            for run in of_set
            for row in blind_spots_numbers.spot_rows(run)
        ]
        if not rows:
            continue
        rows.sort(key=lambda row: (row["size_ratio"] is None, row["size_ratio"]))
        columns = [
            Column("weak", "weak model", "the teacher"),
            Column("strong", "strong model", "the student"),
            Column(
                "size_ratio",
                "size ratio",
                "how many times as large the strong model is, by layers times width squared; - where a manifest has "
                "no sizes",
                "ratio",
            ),
            _METHOD,
            *_SPOTS,
        ]
        settings = {key: stored.setting_text(value) for key, value in of_set[0].settings.items()}
        found.append(
            section.Section(
                f"Blind spots over pairs of models: {title}",
                {"task": of_set[0].task, **settings},
                [formats.Table("blind_spots_by_pair", "Blind spots by pair", columns, rows)],
                _spot_pictures(rows, of_set, title, number),
                max_rows=_MAX_ROWS,
            )
        )
    return found


def _spot_pictures(
    rows: Sequence[Mapping[str, Any]], of_set: Sequence[stored.Run], title: str, number: int
) -> dict[str, tuple[plotting.Picture, str]]:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["size_ratio"] is not None:
            points.setdefault(row["method"], []).append((row["size_ratio"], row["share"]))
    if not any(len({ratio for ratio, _ in of_method}) > 1 for of_method in points.values()):
        return {}
    facts = {method: run.facts(method) for run in of_set for method in points}
    picture = blind_spots_figures.draw_spots(
        points, title=f"Blind spots: {title}", styles=method_looks.styles(facts)
    )
    return {f"blind_spots-pairs-{number}": (picture, _SPOTS_CAPTION)}


def _labels(run: stored.Run) -> dict[str, str]:
    settings = {key: stored.setting_text(value) for key, value in run.settings.items()}
    return {"task": run.task, "weak": run.weak or "", "strong": run.strong, **settings}
