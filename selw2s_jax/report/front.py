"""What a page opens with: what was run and when, the main results, warnings and notes."""

from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats
from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.analysis.formats import Column
from selw2s_jax.method import registry
from selw2s_jax.report import finding, numbers, page, provenance, stored

_MANY = 3  # tasks that a title has room for


def title(names: Mapping[str, stored.Run]) -> str:
    """Of the page: the run's, or of several what they have in common."""
    runs = list(names.values())
    if len(runs) == 1:
        return next(iter(names))
    tasks = list(dict.fromkeys(run.task for run in runs))
    listed = ", ".join(tasks) if len(tasks) <= _MANY else f"{len(tasks)} tasks"
    with_students = [run for run in runs if run.has_classifiers]
    pairs = list(dict.fromkeys((run.weak, run.strong) for run in with_students))
    if not pairs:
        strong = ", ".join(dict.fromkeys(run.strong for run in runs))
        return f"P(IK) of {strong}: {len(runs)} runs, tested on {listed}"
    models = f"{pairs[0][0]} teaches {pairs[0][1]}" if len(pairs) == 1 else f"{len(pairs)} pairs of models"
    alone = " and P(IK) alone" if len(with_students) < len(runs) else ""
    return f"{listed}: {models}{alone} ({len(runs)} runs)"


def short_names(names: Mapping[str, stored.Run]) -> dict[str, str]:
    """What the runs are called in a list: by that in which they differ, where that tells them apart."""
    described = [_described(run) for run in names.values()]
    keys = dict.fromkeys(key for one in described for key in one)
    varied = [key for key in keys if len({one.get(key) for one in described}) > 1]
    labels = [", ".join(one[key] for key in varied if one.get(key)) for one in described]
    return dict(zip(names, labels if len(set(labels)) == len(labels) else names, strict=True))


def _described(run: stored.Run) -> dict[str, str]:
    """Task, models and what a sweep varied; of P(IK) alone also what it is trained on."""
    trained = {} if run.has_classifiers else {"p_ik.task": f"P(IK) of {run.config['p_ik']['task']}"}
    settings = {key: f"{key}={stored.setting_text(value)}" for key, value in run.settings.items()}
    return {"task": run.task, "weak": run.weak or "", "strong": run.strong} | settings | trained


def facts(runs: Sequence[stored.Run]) -> list[str]:
    """Date, command and version of the runs and their sizes, as HTML; runs of earlier versions say less."""
    entries = [
        ("run", _listed([_started(run, "date") for run in runs])),
        ("command", _listed([_started(run, "command") for run in runs])),
        ("version", _listed([_version(run.manifest) for run in runs])),
        ("seeds", _listed([", ".join(map(str, run.config["seeds"])) for run in runs])),
        ("test items", _listed([str(len(run.truth)) if run.has_classifiers else "" for run in runs])),
        ("methods", _listed([", ".join(_students(run)) for run in runs])),
    ]
    return [page.definitions([entry for entry in entries if entry[1]], "facts")]


def _listed(values: Sequence[str]) -> str:
    """Each once."""
    return "; ".join(value for value in dict.fromkeys(values) if value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _started(run: stored.Run, key: str) -> str:
    """What its manifest says of its last start; "" where it was started from Python or by an earlier version."""
    started = provenance.without_folders(run.manifest.get("started"))
    return _text(started.get(key)) if isinstance(started, dict) else ""


def _version(manifest: Mapping[str, Any]) -> str:
    version, commit = _text(manifest.get("version")), _text(manifest.get("commit"))
    words = [f"selw2s_jax {version}"] * bool(version) + [f"commit {commit[:12]}"] * bool(commit)
    return ", ".join(words)


def _students(run: stored.Run) -> list[str]:
    return [method for method in run.methods if method not in registry.REFERENCES]


def gains(run: stored.Run) -> list[str]:
    """What methods gain over their controls, a line each."""
    pairs = [(method, control) for method in run.predictions for control in numbers.own_controls(run, method)]
    pairs = pairs or methods_lib.default_pairs({name: run.facts(name) for name in run.predictions})
    return [
        f"{first} minus {second}: {numbers.points(change.mean, numbers.interval(change))}, "
        f"{numbers.verdict(change)} (seeds: {len(run.common_seeds(first, second))})"
        for first, second in pairs
        if (change := numbers.difference(run, first, second)) is not None
    ]


def glance_table(names: Mapping[str, stored.Run]) -> formats.Table:
    """Of several runs a row each: accuracies of what is compared most; without rows where no run has students."""
    tested = dict.fromkeys(method for run in names.values() for method in run.predictions)
    shown = methods_lib.weak_first(methods_lib.compared(tested))
    columns = [Column("run", "run", "what it is of")]
    columns += [
        Column(name, name, "test accuracy in per cent, mean over seeds, with its 95 % interval", "percent",
               f"{name}_interval")
        for name in shown
    ]  # fmt: skip
    columns.append(Column("n", "n", "number of test items, the same ones for every seed and method", "count"))
    rows = []
    for name, run in names.items():
        if run.predictions:
            of_run = {row["method"]: row for row in numbers.main_results(run)}
            row: dict[str, Any] = {"run": name, "n": len(run.truth)}
            for method in shown:
                found = of_run.get(method, {})
                row |= {method: found.get("accuracy"), f"{method}_interval": found.get("accuracy_interval")}
            rows.append(row)
    return formats.Table("glance", "The runs at a glance", columns, rows)


def warnings(
    names: Mapping[str, stored.Run],
    findings: Sequence[tuple[str, finding.Finding]],
    absent: Sequence[str],
) -> str:
    """Warnings, what is missing, and notes; of several runs each behind a line of its own."""
    parts = [page.heading(2, "Warnings", "warnings")]
    if absent:
        parts += [
            page.paragraph(
                f"{len(absent)} runs of the sweep are not here, and in none of the numbers below."
            ),
            page.items(absent),
        ]
    if not findings:
        parts.append(page.paragraph("None of the known ways to fail was seen."))
    for name, run in names.items():
        counts, inner = _of_run(name, run, [one for title, one in findings if title == name])
        if counts and len(names) > 1:
            parts.append(page.folded(f"{name} ({', '.join(counts)})", inner))
        else:
            parts += inner
    return page.warnings(parts)


def _of_run(name: str, run: stored.Run, findings: Sequence[finding.Finding]) -> tuple[list[str], list[str]]:
    """How many of each kind there are, and the parts."""
    counts, inner = [], []
    if findings:
        counts.append(f"warnings: {len(findings)}")
        inner.append(
            page.definitions(
                (f"{one.method}, seed {one.seeds}", f"{one.observation}. Try: {one.remedy}.")
                for one in findings
            )
        )
    if run.missing:
        counts.append(f"missing outcomes: {len(run.missing)}")
        inner += [
            page.heading(3, f"Not finished: {name}"),
            page.paragraph(
                f"The numbers below are of a part of the run; {len(run.missing)} of its outcomes are missing. The "
                "command that started it goes on from what is saved."
            ),
            page.items(run.missing),
        ]
    if run.notes:
        counts.append(f"notes: {len(run.notes)}")
        inner += [page.heading(3, f"Notes: {name}"), page.items(run.notes)]
    return counts, inner
