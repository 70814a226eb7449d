"""A report over runs: its tables, pictures and page, as the content of files."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats
from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.report import (
    audit_sections,
    blind_spots_sections,
    calibration_sections,
    continual_sections,
    curve_sections,
    disagreement_sections,
    figures,
    finding,
    kernel_sections,
    member_sections,
    misfit_sections,
    numbers,
    p_ik_sections,
    page,
    power_sections,
    registration_sections,
    reliability_sections,
    selection_sections,
    stored,
    sweep_sections,
    tables,
    taught_label_sections,
    warnings,
)
from selw2s_jax.report import section as section_lib

PAGE = "report.html"
# What a report says of its runs together, in the order of the page. A new analysis is a module with `sections(runs)`,
# which has none where the runs give no ground for it, and a row here.
_ANALYSES: tuple[Callable[[Sequence[stored.Run]], list[section_lib.Section]], ...] = (
    sweep_sections.sections,
    curve_sections.sections,
    member_sections.sections,
    continual_sections.sections,
    reliability_sections.sections,
    audit_sections.sections,
    taught_label_sections.sections,
    disagreement_sections.sections,
    selection_sections.sections,
    calibration_sections.sections,
    kernel_sections.sections,
    p_ik_sections.sections,
    misfit_sections.sections,
    blind_spots_sections.sections,
    power_sections.sections,
)
_TITLE = "Weak-to-strong generalization: report"
_P_IK_TITLE = "What a model knows it knows: report"  # where no run has students
_STUDENTS = (
    "A weak model is fine-tuned on ground truth and labels new data; a strong one, the student, is trained on those "
    "flawed labels. The ceiling is the strong model trained on ground truth instead. PGR, performance gap recovered, "
    "says how much of the gap between weak model and ceiling a student closes.",
    "All numbers of a task are of the same test items for every method and seed, and computed from the predictions "
    "that the runs stored. A gain of a method that selects labels is evidence for selection only where it is also a "
    "gain over the controls.",
)
_P_IK = (
    "P(IK) is the strong model's own estimate of whether it knows the answer to a question (IK) or not (IDK). A head "
    "on the model is trained on questions of one task, with whether the untouched model's few-shot answer is right as "
    "its target, and is tested on questions of that task (in distribution) or of another one (out of distribution): "
    "its AUROC says how well it tells known from unknown questions, its calibration whether it can be taken for a "
    "probability."
)

_CAPTIONS = {
    "results": "Test accuracy and PGR of each method, with 95 % intervals; the values stand to the right. Intervals "
    "of PGR that leave the panel are cut at its edge.",
    "labels": "How many training labels are right before selection, after it and after smoothing, and how many test "
    "questions the trained student gets right. Thin lines are seeds, thick ones their mean.",
    "training": "What was logged in training, as running means over a twenty-fifth of the steps. Thin lines are seeds, "
    "thick ones their mean.",
}
_OPEN = ("main", "auroc", "comparisons")  # tables of a run that are shown, however long
_MAX_ROWS = 24
_BESIDE = {"results": "main", "labels": "labels", "training": None}  # the table that a picture stands above


@dataclasses.dataclass(frozen=True)
class _Titled:
    """A table of a file: under which title, and by column of the CSV what tells it from the others."""

    title: str
    labels: Mapping[str, str]
    table: formats.Table


class _Files:
    """The tables and pictures of a report, as they are collected."""

    def __init__(self):
        self._pictures: dict[str, bytes] = {}
        self._by_kind: dict[str, list[_Titled]] = {}

    def add(
        self,
        name: str,
        labels: Mapping[str, str],
        of_part: Sequence[formats.Table],
        pictures: Mapping[str, tuple[bytes, str]],
    ) -> None:
        """What a run or section has; see `_Titled` and `section.Section`."""
        for table in of_part:
            title = f"{table.title}: {name}" if name else table.title
            self._by_kind.setdefault(table.name, []).append(_Titled(title, labels, table))
        self._pictures |= {f"{picture}.png": png for picture, (png, _) in pictures.items()}

    def contents(self) -> dict[str, bytes]:
        """By name of the file."""
        files = dict(self._pictures)
        for kind, of_kind in self._by_kind.items():
            files |= _table_files(kind, of_kind)
        return files


def files(runs: Sequence[stored.Run], *, absent: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file of the report, by name; equal runs give equal bytes.

    `report.html`; a `.md`, `.csv` and `.tex` for each kind of table, with the tables of all runs; and pictures,
    numbered by run or by section.

    Args:
        absent: a line for each run of a sweep that has not begun or cannot be read.
    """
    names = stored.names(runs)
    findings = [(name, one) for name, run in names.items() for one in warnings.find(run)]
    has_students = any(run.has_classifiers for run in runs)
    all_sections = itertools.chain(*(sections_of(runs) for sections_of in _ANALYSES))
    sections = {f"part-{n}": one for n, one in enumerate(all_sections, start=1)}
    collected = _Files()
    registered, of_sections = [], []
    for number, section in enumerate(registration_sections.sections(runs), start=1):
        registered += _headed(section, names).parts(f"registered-{number}")
        collected.add(section.title, section.labels, section.tables, section.pictures)
    for anchor, section in sections.items():
        of_sections += _headed(section, names).parts(anchor)
        collected.add(section.title, section.labels, section.tables, section.pictures)
    of_runs = _each_run(names, collected)
    examples = _example_parts(runs)

    has_p_ik = any(run.has_probabilities or run.p_ik for run in runs)
    texts = (*(_STUDENTS if has_students else ()), *([_P_IK] if has_p_ik else []))
    parts = [*registered, *(page.paragraph(text) for text in texts), *_answer_parts(runs)]
    parts.append(page.warnings(_first_things(names, findings, absent)))
    titles = {anchor: _headed(section, names).title for anchor, section in sections.items()}
    titles |= {"runs": "Each run"} if len(names) > 1 else {}
    titles |= {"examples": "Examples"} if examples else {}
    if len(names) > 1 or len(titles) > 2:
        parts.append(page.links(titles | {"methods": "Methods", "settings": "Settings"}))
    # Of one run with students, its main results are what a reader looks for first.
    parts += [*of_sections, *of_runs] if len(names) > 1 or not has_students else [*of_runs, *of_sections]
    parts += examples
    parts += [page.heading(2, "Methods", "methods"), page.definitions(_describe_methods(runs).items())]
    parts += _provenance_parts(names)
    if findings:
        collected.add("", {}, [tables.finding_table(findings)], {})
    document = page.document(_TITLE if has_students else _P_IK_TITLE, parts)
    # A damaged file can hold half of a character, which no encoding has.
    return collected.contents() | {PAGE: document.encode(errors="backslashreplace")}


def _headed(section: section_lib.Section, names: Mapping[str, stored.Run]) -> section_lib.Section:
    """A section as the page has it: of a single run, whose name stands once, without that name."""
    if len(names) > 1:
        return section
    return dataclasses.replace(section, title=section.title.removesuffix(f": {next(iter(names))}"))


def _answer_parts(runs: Sequence[stored.Run]) -> list[str]:
    """Of one run, what its methods gain over their controls; where that was registered, the page opens with it."""
    if len(runs) > 1 or any(run.registration is not None for run in runs):
        return []
    lines = [
        f"{first} less {second}: {numbers.points(change.mean, numbers.interval(change))}, "
        f"{numbers.verdict(change)} (seeds: {len(run.common_seeds(first, second))})"
        for run in runs
        for first, second in [
            (method, control) for method in run.predictions for control in numbers.own_controls(run, method)
        ]
        or methods_lib.default_pairs({name: run.facts(name) for name in run.predictions})
        if (change := numbers.difference(run, first, second)) is not None
    ]
    return [page.heading(2, "Gains, in short"), page.items(lines)] if lines else []


def _each_run(names: Mapping[str, stored.Run], collected: _Files) -> list[str]:
    """The parts of every run, of several each behind a line of its own."""
    parts = [page.heading(2, "Each run", "runs")] if len(names) > 1 else []
    for number, (name, run) in enumerate(names.items(), start=1):
        pictures, of_run = _draw(run), tables.of_run(run)
        labels = {"run": name, "task": run.task, "weak": run.weak or "", "strong": run.strong}
        labels |= {key: stored.setting_text(value) for key, value in run.settings.items()}
        numbered = {f"{kind}-{number}": picture for kind, picture in pictures.items()}
        collected.add(name, labels, of_run, numbered)
        inner = _run_parts(of_run, pictures)
        if len(names) > 1:
            parts.append(page.folded(name, inner, f"run-{number}"))
        else:
            parts += [page.heading(2, name, f"run-{number}"), *inner]
    return parts


def _first_things(
    names: Mapping[str, stored.Run],
    findings: Sequence[tuple[str, finding.Finding]],
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
    if not findings:
        parts.append(page.paragraph("None of the known ways to fail was seen."))
    for name, run in names.items():
        of_run = [one for title, one in findings if title == name]
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


def _run_parts(of_run: Sequence[formats.Table], pictures: Mapping[str, tuple[bytes, str]]) -> list[str]:
    parts = []
    for table in of_run:
        parts.append(page.heading(3, table.title))
        parts += [page.picture(*pictures[kind]) for kind in pictures if _BESIDE[kind] == table.name]
        shown = formats.to_html(table)
        is_long = len(table.rows) > _MAX_ROWS and table.name not in _OPEN
        parts.append(page.folded(f"{len(table.rows)} rows", [shown]) if is_long else shown)
    if "training" in pictures:
        parts += [page.heading(3, "Training"), page.picture(*pictures["training"])]
    return parts


def _draw(run: stored.Run) -> dict[str, tuple[bytes, str]]:
    """The pictures of a run by kind, each with its caption."""
    drawn = dict.fromkeys([*run.predictions, *run.logs])
    styles = figures.method_styles({method: run.facts(method) for method in drawn})
    pictures = {
        "results": figures.draw_results(
            numbers.main_results(run),
            title=run.title,
            styles=styles,
            chance=numbers.majority_class_accuracy(run),
        )
        if run.predictions
        else None,
        "labels": figures.draw_labels(
            _label_stages(run), title="Labels of the second half of training", styles=styles
        ),
        "training": figures.draw_training(run.logs, title=run.title, styles=styles),
    }
    return {kind: (png, _CAPTIONS[kind]) for kind, png in pictures.items() if png is not None}


def _label_stages(run: stored.Run) -> dict[str, list[list[float]]]:
    """By method and seed, the shares right of weak, selected and smoothed labels, and of the student's answers."""
    stages: dict[str, list[list[float]]] = {}
    for entry in run.diagnostics:
        method, seed = entry["method"], entry["seed"]
        if seed in run.common_seeds(method):
            labels = [entry[key] for key in ("weak_accuracy", "prior_accuracy", "target_accuracy")]
            trained = float(run.correct(method, [seed]).mean())
            stages.setdefault(method, []).append([*labels, trained])
    return stages


def _describe_methods(runs: Sequence[stored.Run]) -> dict[str, str]:
    described: dict[str, str] = {}
    options: dict[str, dict[str, None]] = {}
    for run in runs:
        # P(IK) alone may be tested without being listed.
        for method in (*run.methods, *(entry["method"] for entry in run.p_ik)):
            facts = run.facts(method)
            described[method] = facts.description
            options.setdefault(method, {})[facts.options or "none of its own"] = None
    return {
        method: f"{text}; options: {' or '.join(given)}"
        if (given := [*options[method]]) != ["none of its own"]
        else text
        for method, text in described.items()
    }


def _example_parts(runs: Iterable[stored.Run]) -> list[str]:
    """One question per task as each model reads it, folded; nothing where the manifests have none."""
    texts: dict[tuple[str, str], str] = {}
    for run in runs:
        for example in run.manifest.get("examples", []):
            texts.setdefault((example["task"], example["reader"]), example["text"])
    if not texts:
        return []
    parts = [page.heading(2, "One question of each task, as each model reads it", "examples")]
    return parts + [
        page.folded(f"{task}: {reader}", [page.listing(text)])
        for (task, reader), text in sorted(texts.items())
    ]


def _provenance_parts(names: Mapping[str, stored.Run]) -> list[str]:
    parts = [page.heading(2, "Settings and manifest", "settings")]
    for name, run in names.items():
        others = {key: value for key, value in run.manifest.items() if key not in ("config", "examples")}
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
        "md": "\n".join(formats.to_markdown(one.table, one.title) for one in parts),
        "tex": "\n".join(formats.to_latex(one.table, one.title) for one in parts),
        "csv": formats.to_csv([(one.labels, one.table) for one in parts]),
    }
    return {f"{kind}.{ending}": text.encode(errors="backslashreplace") for ending, text in texts.items()}
