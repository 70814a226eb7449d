"""What a report says of the gains that a run could have seen, and of the items and seeds that others need."""

from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats, power
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import power_figures, power_numbers, section, stored

_TITLE = "What this run could have seen"
_MAX_DRAWN = 4
_MAX_ROWS = 12
_NOTES = (
    "A gain that a run is too small to see is not shown to be absent. The variance of a difference of two methods is "
    "taken apart into what belongs to test items, to seeds, and to neither, from this run's own answers; from that "
    "follows how large a gain has to be to be found in four of five such runs, by the test that this page makes (the "
    "bootstrap over items and seeds, which is a little stricter than need be).",
)
_CAPTION = (
    "The least gain that is found with {power:.0f} % power against the number of test items, for several numbers of "
    "seeds; the point is this run. A line that stays level is held up by the spread of the seeds: there more seeds "
    "help, more items do not."
)
_FIRST = (
    Column("first", "method", "the first of two methods"),
    Column("second", "compared with", "the second"),
)


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run with a pair to compare; of several, behind a line that opens it."""
    found = {name: (run, power_numbers.components(run)) for name, run in stored.names(runs).items()}
    found = {name: one for name, one in found.items() if any(pair.total for pair in one[1].values())}
    return [
        _section(run, pairs, f"{_TITLE}: {name}", number, is_folded=len(found) > 1)
        for number, (name, (run, pairs)) in enumerate(found.items(), start=1)
    ]


def _section(
    run: stored.Run, pairs: power_numbers.Pairs, title: str, number: int, *, is_folded: bool
) -> section.Section:
    test = power_numbers.test_of(run)
    drawn = {
        f"{first} - {second}": (found, power_numbers.seed_counts(found))
        for (first, second), found in pairs.items()
        if found.total > 0
    }
    hidden = list(drawn)[_MAX_DRAWN:]
    drawn = {name: drawn[name] for name in list(drawn)[:_MAX_DRAWN]}
    name = f"power-{number}"
    picture = power_figures.draw_detectable(drawn, test=test, title=run.title)
    return section.Section(
        title,
        {"task": run.task, "weak": run.weak or "", "strong": run.strong}
        | {key: stored.setting_text(value) for key, value in run.settings.items()},
        [_seen_table(run, pairs, test), _plan_table(run, pairs)],
        {name: (picture, _CAPTION.format(power=100 * test.power))},
        is_folded=is_folded,
        above={name: "power"},
        notes=[*_NOTES, *_remarks(pairs, test, hidden)],
        max_rows=_MAX_ROWS,
    )


def _remarks(pairs: power_numbers.Pairs, test: power.Test, hidden: Sequence[str]) -> list[str]:
    """What has to be known of these numbers."""
    lines = [f"Two-sided, at a level of {test.level:g}"]
    if test.num_tests > 1:
        lines[0] += (
            f", Holm's correction over {test.num_tests} (by its first step, which the others are easier than)"
        )
    lines[0] += "."
    one_seed = [found for found in pairs.values() if found.seeds is None]
    if one_seed:
        lines.append(
            "One seed says nothing of the spread between seeds, which is often the larger part: these numbers are "
            "of new items for the same trained models, and a run of other seeds sees less."
        )
    if clipped := {_named(pair): found.clipped for pair, found in pairs.items() if found.clipped}:
        words = "; ".join(f"{name}: {' and '.join(of)}" for name, of in clipped.items())
        lines.append(
            f"Estimates below zero, set to zero: {words}. The run is too small to tell them from zero."
        )
    if alike := [_named(pair) for pair, found in pairs.items() if not found.total]:
        lines.append(f"No variance to plan with: {', '.join(alike)} give the same answers throughout.")
    if hidden:
        lines.append(f"The picture has no room for {', '.join(hidden)}; the tables have them.")
    return lines


def _named(pair: tuple[str, str]) -> str:
    return " - ".join(pair)


def _seen_table(run: stored.Run, pairs: power_numbers.Pairs, test: power.Test) -> formats.Table:
    of_variance = "share of the variance of the mean difference that is"
    columns = [
        *_FIRST,
        Column(
            "error",
            "standard error",
            "of the mean difference over items and seeds, points; 95 % interval by chi-squared (Satterthwaite), wide "
            "where it is mostly of few seeds",
            "percent",
            "error_interval",
        ),
        Column(
            "gain", "detectable", f"least gain found with {100 * test.power:.0f} % power, points", "percent"
        ),
        Column("pgr", "in PGR", "the same as a share of ceiling less weak", "ratio"),
        Column(
            "differ",
            "answers differ",
            "items, of all seeds, on which just one of the two is right",
            "percent",
        ),
        Column("from_seeds", "from seeds", f"{of_variance} that of seeds: more seeds lessen it", "percent"),
        Column("from_items", "from items", f"{of_variance} that of items: more items lessen it", "percent"),
        Column("from_residual", "from both", f"{of_variance} of neither alone: either lessens it", "percent"),
        Column("n", "n", "number of test items", "count"),
        Column("num_seeds", "seeds", "number of seeds that both are finished for", "count"),
    ]
    return formats.Table("power", "What it could have seen", columns, power_numbers.seen_rows(run, pairs))


def _plan_table(run: stored.Run, pairs: power_numbers.Pairs) -> formats.Table:
    columns: list[Any] = [
        *_FIRST,
        Column("num_seeds", "seeds", "number of seeds of a run that is planned", "count"),
        Column("is_own", "as here", "whether that is the number of seeds of this run"),
        Column("gain", "detectable", "least gain found with as many items as here, points", "percent"),
    ]
    needed = (
        "test items that a gain of so many points needs; - where no number is enough, for the spread of seeds"
    )
    columns += [
        Column(f"items {gain}", f"items for {100 * gain:g} %", needed, "count")
        for gain in power_numbers.GAINS
    ]
    rows: Sequence[Mapping[str, Any]] = power_numbers.plan_rows(run, pairs)
    return formats.Table("power_plan", "Items and seeds that a gain needs", columns, rows)
