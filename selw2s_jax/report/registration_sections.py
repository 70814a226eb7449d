"""What a report opens with where the study was registered: whether that holds, and what became of it.

Comparisons are of the registered seeds alone, and decided once all of these are finished; Holm's correction is over all
that are registered, whether finished or not.
"""

from collections.abc import Sequence
from typing import Any

from selw2s_jax.analysis import comparisons, formats
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import numbers, section, stored
from selw2s_jax.run import registrations

TITLE = "Registered before the first student was trained"
_NOT_HELD = "A registration that does not hold"


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """A section for each run whose workdir has, or had, a registration."""
    return [
        section.Section(
            f"{TITLE if run.registration.holds else _NOT_HELD}: {name}",
            {"task": run.task, "weak": run.weak or "", "strong": run.strong}
            | {key: stored.setting_text(value) for key, value in run.settings.items()},
            [_table(run)] if pairs(run) else [],
            {},
            notes=statements(run),
        )
        for name, run in stored.names(runs).items()
        if run.registration is not None
    ]


def pairs(run: stored.Run) -> list[tuple[str, str]]:
    """The comparisons of the registration, whether it holds or not."""
    found = None if run.registration is None else run.registration.found
    return [] if found is None else found.pairs


def are_registered(run: stored.Run, first: str, second: str) -> bool:
    """Whether a comparison was fixed before, in one order or the other."""
    if run.registration is None or not run.registration.holds:
        return False
    return {first, second} in [{*pair} for pair in pairs(run)]


def statements(run: stored.Run) -> list[str]:
    """What is to be said of the registration, in sentences."""
    found, entry = run.registration
    if found is None:
        return [
            f"The run began with a registration (sha256 {entry['sha256']}), and {registrations.FILE} is no longer "
            "there. Nothing on this page can be told to have been decided before."
        ]
    if found.content is None:
        return [
            f"{registrations.FILE} is not what python -m selw2s_jax.preregister wrote: it is damaged, or was edited. "
            + (
                ""
                if entry is None
                else f"The run began with the sha256 {entry['sha256']}, it now has {found.sha256}."
            )
        ]
    lines = [_of_standing(found, entry), _of_test(found.content)]
    if not _registered_runs(run):
        lines.append(
            "The test items of this run, or their labels, are not those that were registered: "
            f"{run.manifest['test']['n']} items, hash {run.manifest['test']['labels_hash'][:16]}."
        )
    for one in entry["differing"] if entry else ():
        was, now = stored.setting_text(one["registered"]), stored.setting_text(one["run"])
        lines.append(f"Not as registered: {one['key']} was {was}, and the run has {now}.")
    lines.append(
        "Every other comparison on this page was decided after the registration, and its p-value is corrected for "
        "nothing."
    )
    return lines


def _of_standing(found: registrations.Registration, entry: dict[str, Any] | None) -> str:
    when = found.content["time"]
    if entry is None:
        return (
            f"{registrations.FILE}, which says that it is of {when}, was not there when this run was started: what it "
            "lists was not shown to be decided before."
        )
    if entry["sha256"] != found.sha256:
        return (
            f"{registrations.FILE} was changed after the run began: it then had the sha256 {entry['sha256']}, and now "
            f"has {found.sha256}. What it lists was decided after."
        )
    if number := entry["students_before"]:
        return (
            f"{registrations.FILE}, which says that it is of {when}, came to a workdir that had {number} trained "
            "students: what it lists was not decided before."
        )
    return (
        f"Registered at {when}, before the first student was trained here (sha256 {found.sha256}); the run's manifest "
        "has the same hash, and nothing was changed since."
    )


def _of_test(content: dict[str, Any]) -> str:
    test = content["test"]
    return (
        f"Test: {test['kind']}, at a familywise level of {test['level']:g}, by {test['correction']}'s correction over "
        f"the {test['num_tests']} registered comparisons of a run."
    )


def _registered_runs(run: stored.Run) -> list[dict[str, Any]]:
    """Those of the registration that have this run's test items."""
    test = run.manifest["test"]
    return [
        one
        for one in run.registration.found.content["runs"]
        if (one["n"], one["labels_hash"]) == (test["n"], test["labels_hash"])
    ]


def rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per registered comparison the difference over the registered seeds that are finished, and the decision."""
    content = run.registration.found.content
    # Of the test items of this run; several runs of a sweep over seeds are one here.
    planned = {seed for one in _registered_runs(run) or content["runs"] for seed in one["seeds"]}
    made = []
    for first, second in pairs(run):
        seeds = [seed for seed in run.common_seeds(first, second) if seed in planned]
        change = None
        if seeds:
            change = comparisons.bootstrap_difference(run.correct(first, seeds), run.correct(second, seeds))
        made.append(
            {
                "first": first,
                "second": second,
                "difference": None if change is None else change.mean,
                "difference_interval": None if change is None else numbers.interval(change),
                "p_value": None if change is None else change.p_value,
                "num_seeds": len(seeds),
                "num_planned": len(planned),
            }
        )
    # One that is not finished counts among the tests, as one that will reject nothing.
    corrected = comparisons.holm([1.0 if row["p_value"] is None else row["p_value"] for row in made])
    for row, p_value in zip(made, corrected, strict=True):
        row["p_value_holm"] = None if row["p_value"] is None else p_value
        row["decision"] = _decide(row, content["test"]["level"])
    return made


def _decide(row: dict[str, Any], level: float) -> str:
    if row["num_seeds"] < row["num_planned"]:
        return f"not yet: {row['num_seeds']} of {row['num_planned']} seeds"
    if row["p_value_holm"] >= level or row["difference"] == 0:
        return "no difference shown"
    return "gain" if row["difference"] > 0 else "loss"


def _table(run: stored.Run) -> formats.Table:
    columns = [
        Column("first", "method", "the first of two models"),
        Column("second", "compared with", "the second"),
        Column("difference", "difference", "accuracy of the first less that of the second, points", "points"),
        Column(
            "difference_interval",
            "95 % interval",
            "of the difference, bootstrapped over items and seeds",
            "points interval",
        ),
        Column("p_value", "p", "two-sided, of the same draws", "p"),
        Column("p_value_holm", "p (Holm)", "corrected over all registered comparisons of the run", "p"),
        Column("decision", "decision", "gain or loss where the corrected p is below the registered level"),
        Column("num_seeds", "seeds", "registered seeds that both are finished for", "count"),
    ]
    title = "Registered comparisons" if run.registration.holds else "Comparisons that the file lists"
    return formats.Table("registered", title, columns, rows(run))
