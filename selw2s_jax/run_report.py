"""A report over runs: its tables, pictures and page, as the content of files."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax import results, run_results, run_statistics, run_sweep_report, run_tables, run_warnings
from selw2s_jax.analysis import page, report_figures, tables

PAGE = "report.html"
_TITLE = "Weak-to-strong generalization: report"
_INTRODUCTION = (
    "A weak model is fine-tuned on ground truth and labels new data; a strong one, the student, is trained on those "
    "flawed labels. The ceiling is the strong model trained on ground truth instead. PGR, performance gap recovered, "
    "says how much of the gap between weak model and ceiling a student closes. P(IK) is the strong model's own "
    "estimate of whether it knows the answer to a question (IK) or not (IDK).",
    "All numbers of a task are of the same test items for every method and seed, and computed from the predictions "
    "that the runs stored. A gain of a method that selects labels is evidence for selection only where it is also a "
    "gain over the controls.",
)

_CAPTIONS = {
    "results": "Test accuracy and PGR of each method, with 95 % intervals; the values stand to the right. Intervals "
    "of PGR that leave the panel are cut at its edge.",
    "labels": "How many training labels are right before selection, after it and after smoothing, and how many test "
    "questions the trained student gets right. Thin lines are seeds, thick ones their mean.",
    "training": "What was logged in training, as running means over a twenty-fifth of the steps. Thin lines are seeds, "
    "thick ones their mean.",
}
_BESIDE = {"results": "main", "labels": "labels", "training": None}  # the table that a picture stands above


@dataclasses.dataclass(frozen=True)
class _Titled:
    """A table of a file: under which title, and by column of the CSV what tells it from the others."""

    title: str
    labels: Mapping[str, str]
    table: tables.Table


def files(runs: Sequence[run_results.Run], *, absent: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file of the report, by name; equal runs give equal bytes.

    `report.html`; a `.md`, `.csv` and `.tex` for each kind of table, with the tables of all runs; and pictures,
    numbered by run or by section.

    Args:
        absent: a line for each run of a sweep that has not begun or cannot be read.
    """
    names = _names(runs)
    found = [(name, one) for name, run in names.items() for one in run_warnings.find(run)]
    parts = [page.paragraph(text) for text in _INTRODUCTION]
    parts.append(page.warnings(_first_things(names, found, absent)))
    made: dict[str, bytes] = {}
    by_kind: dict[str, list[_Titled]] = {}
    sections = {f"part-{n}": one for n, one in enumerate(run_sweep_report.sections(runs), start=1)}
    if len(names) > 1:
        titles = {anchor: section.title for anchor, section in sections.items()}
        parts.append(page.links(titles | {"runs": "Each run", "methods": "Methods", "settings": "Settings"}))
    for anchor, section in sections.items():
        parts += section.parts(anchor)
        made |= {f"{name}.png": png for name, (png, _) in section.pictures.items()}
        for table in section.tables:
            title = f"{table.title}: {section.title}"
            by_kind.setdefault(table.name, []).append(_Titled(title, section.labels, table))
    parts += [page.heading(2, "Each run", "runs")] if len(names) > 1 else []
    for number, (name, run) in enumerate(names.items(), start=1):
        pictures = _draw(run)
        made |= {f"{kind}-{number}.png": png for kind, (png, _) in pictures.items()}
        of_run = run_tables.of_run(run)
        labels = {"run": name, "task": run.task, "weak": run.weak, "strong": run.strong}
        labels |= {key: run_results.setting_text(value) for key, value in run.settings.items()}
        for table in of_run:
            by_kind.setdefault(table.name, []).append(_Titled(f"{table.title}: {name}", labels, table))
        inner = _run_parts(of_run, pictures)
        if len(names) > 1:
            parts.append(page.folded(name, inner, f"run-{number}"))
        else:
            parts += [page.heading(2, name, f"run-{number}"), *inner]
    parts += [page.heading(2, "Methods", "methods"), page.definitions(_describe_methods(runs).items())]
    parts += _provenance_parts(names)
    if found:
        table = run_tables.finding_table(found)
        by_kind["warnings"] = [_Titled(table.title, {}, table)]
    for kind, of_kind in by_kind.items():
        made |= _table_files(kind, of_kind)
    made[PAGE] = page.document(_TITLE, parts).encode()
    return made


def _names(runs: Sequence[run_results.Run]) -> dict[str, run_results.Run]:
    """The runs by title, with the workdir where several share one."""
    counts = collections.Counter(run.title for run in runs)
    return {run.title if counts[run.title] == 1 else f"{run.title} ({run.workdir})": run for run in runs}


def _first_things(
    names: Mapping[str, run_results.Run],
    found: Sequence[tuple[str, run_warnings.Finding]],
    absent: Sequence[str],
) -> list[str]:
    """Warnings, what is missing, and notes; of several runs each behind a line of its own."""
    parts = [page.heading(2, "Warnings")]
    if absent:
        parts += [
            page.paragraph(
                f"{len(absent)} runs of the sweep are not here, and in none of the numbers below."
            ),
            page.items(absent),
        ]
    if not found:
        parts.append(page.paragraph("None of the known ways to fail was seen."))
    for name, run in names.items():
        of_run = [one for title, one in found if title == name]
        counts, inner = [], []
        if of_run:
            counts.append(f"warnings: {len(of_run)}")
            inner.append(
                page.definitions(
                    (f"{one.method}, seed {one.seeds}", f"{one.observation}. Try: {one.remedy}.")
                    for one in of_run
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
        if counts and len(names) > 1:
            parts.append(page.folded(f"{name} ({', '.join(counts)})", inner))
        else:
            parts += inner
    return parts


def _run_parts(of_run: Sequence[tables.Table], pictures: Mapping[str, tuple[bytes, str]]) -> list[str]:
    parts = []
    for table in of_run:
        parts.append(page.heading(3, table.title))
        parts += [page.picture(*pictures[kind]) for kind in pictures if _BESIDE[kind] == table.name]
        parts.append(tables.to_html(table))
    if "training" in pictures:
        parts += [page.heading(3, "Training"), page.picture(*pictures["training"])]
    return parts


def _draw(run: run_results.Run) -> dict[str, tuple[bytes, str]]:
    """The pictures of a run by kind, each with its caption."""
    rows = run_statistics.main_results(run)
    styles = report_figures.method_styles(list(dict.fromkeys([*run.predictions, *run.logs])))
    chance = run_statistics.majority_class_accuracy(run)
    pictures = {
        "results": report_figures.draw_results(rows, title=run.title, styles=styles, chance=chance)
        if rows
        else None,
        "labels": report_figures.draw_labels(
            _label_stages(run), title="Labels of the second half of training", styles=styles
        ),
        "training": report_figures.draw_training(run.logs, title=run.title, styles=styles),
    }
    return {kind: (png, _CAPTIONS[kind]) for kind, png in pictures.items() if png is not None}


def _label_stages(run: run_results.Run) -> dict[str, list[list[float]]]:
    """By method and seed, the shares right of weak, selected and smoothed labels, and of the student's answers."""
    stages: dict[str, list[list[float]]] = {}
    for entry in run.diagnostics:
        method, seed = entry["method"], entry["seed"]
        if seed in run.common_seeds(method):
            labels = [entry[key] for key in ("weak_accuracy", "prior_accuracy", "target_accuracy")]
            trained = float(run.correct(method, [seed]).mean())
            stages.setdefault(method, []).append([*labels, trained])
    return stages


def _describe_methods(runs: Sequence[run_results.Run]) -> dict[str, str]:
    methods = dict.fromkeys(
        method for run in runs for method in (*results.REFERENCES, *run.config["methods"])
    )
    return {method: results.DESCRIPTIONS.get(method, "a method of the config") for method in methods}


def _provenance_parts(names: Mapping[str, run_results.Run]) -> list[str]:
    parts = [page.heading(2, "Settings and manifest", "settings")]
    for name, run in names.items():
        others = {key: value for key, value in run.manifest.items() if key != "config"}
        inner = [
            page.paragraph(f"Workdir {run.workdir}. The config:"),
            page.listing(_listed(run.config)),
            page.paragraph(
                "The rest of the manifest: code, libraries, devices, models, students and stages."
            ),
            page.listing(_listed(others)),
        ]
        parts += [page.folded(name, inner)] if len(names) > 1 else [page.heading(3, name), *inner]
    return parts


def _listed(values: dict[str, Any]) -> str:
    """JSON with a line for each key, and for each member of a list of objects."""
    lines = []
    for key, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{key}:", *(f"  {json.dumps(member, ensure_ascii=False)}" for member in value)]
        else:
            lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines)


def _table_files(kind: str, parts: Sequence[_Titled]) -> dict[str, bytes]:
    texts = {
        "md": "\n".join(tables.to_markdown(one.table, one.title) for one in parts),
        "tex": "\n".join(tables.to_latex(one.table, one.title) for one in parts),
        "csv": tables.to_csv([(one.labels, one.table) for one in parts]),
    }
    return {f"{kind}.{ending}": text.encode() for ending, text in texts.items()}
