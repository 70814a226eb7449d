"""What a report says of several runs together: sections of its page, with their tables and pictures."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax import results, run_pooled, run_results, run_statistics, run_sweep_tables
from selw2s_jax.analysis import page, report_figures, tables

_CAPTIONS = {
    "averages": "Mean over tasks of test accuracy and PGR of each method, with 95 % intervals bootstrapped over items "
    "and seeds within each task. Intervals of PGR that leave the panel are cut at its edge.",
    "axis": "Test accuracy and PGR with 95 % intervals against the setting, whose values stand at equal distances; "
    "points of one value stand side by side.",
    "accuracy": "Test accuracy in per cent of each student, by weak and strong model.",
    "pgr": "PGR of each student, by weak and strong model: 0 is the weak model of the pair, 1 its ceiling.",
}


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        labels: what tells its rows from those of other sections, by column of the CSV.
        tables, pictures: pictures with their captions, by name of their files, without the ending.
        is_folded: whether the page shows it behind its title, as another section has the same at a glance.
        above: the table that a picture stands above, by name of the picture; the others stand first.
        notes: paragraphs before everything else.
        max_rows: tables of more rows stand behind a line that opens them; None for no table.
    """

    title: str
    labels: Mapping[str, str]
    tables: Sequence[tables.Table]
    pictures: Mapping[str, tuple[bytes, str]]
    is_folded: bool = False
    above: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    max_rows: int | None = None

    def parts(self, anchor: str) -> list[str]:
        """As HTML."""
        names = {table.name for table in self.tables}
        parts = [page.paragraph(note) for note in self.notes]
        parts += [
            page.picture(*picture)
            for name, picture in self.pictures.items()
            if self.above.get(name) not in names
        ]
        for table in self.tables:
            parts.append(page.heading(3, table.title))
            parts += [
                page.picture(*picture)
                for name, picture in self.pictures.items()
                if self.above.get(name) == table.name
            ]
            shown = tables.to_html(table)
            is_long = self.max_rows is not None and len(table.rows) > self.max_rows
            parts.append(page.folded(f"{len(table.rows)} rows", [shown]) if is_long else shown)
        if self.is_folded:
            return [page.folded(self.title, parts, anchor)]
        return [page.heading(2, self.title, anchor), *parts]


def sections(runs: Sequence[run_results.Run]) -> list[Section]:
    """Along the axes of a sweep, by task, by pair of models; of one run, and where runs cannot be told apart, none.

    Runs of P(IK) alone have no part in them.
    """
    runs = [run for run in runs if run.has_classifiers]
    groups = run_pooled.make_groups(runs) if len(runs) > 1 else []
    rows_of = {group.title: run_pooled.method_rows(group) for group in groups}
    lines = run_pooled.make_lines(groups)
    return [
        *(_line_section(line, number, rows_of) for number, line in enumerate(lines, start=1)),
        *(
            _group_section(group, number, rows_of)
            for number, group in enumerate(groups, start=1)
            if len(group.runs) > 1
        ),
        *(_pair_sections(runs) if groups else []),
    ]


def _labels(group: run_pooled.Group, *, but: str = "") -> dict[str, str]:
    settings = {key: run_results.setting_text(value) for key, value in group.settings.items() if key != but}
    return {"weak": group.weak, "strong": group.strong, **settings}


def _group_section(
    group: run_pooled.Group, number: int, rows_of: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Section:
    rows = rows_of[group.title]
    averages = run_sweep_tables.average_rows(rows)
    pictures = {}
    if averages:
        title = f"Mean over {', '.join(group.runs)}: {group.title}"
        png = report_figures.draw_results(
            averages,
            title=title,
            styles=report_figures.method_styles(group.methods),
            chance=run_pooled.average_majority_class(group),
        )
        pictures[f"averages-{number}"] = png, _CAPTIONS["averages"]
    made = run_sweep_tables.of_group(group, rows)
    return Section(f"By task: {group.title}", _labels(group), made, pictures, is_folded=bool(group.settings))


def _line_section(
    line: run_pooled.Line, number: int, rows_of: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Section:
    pictures = {}
    if line.is_numeric:
        png = report_figures.draw_axis(
            {task: _points(line, task) for task in line.tasks},
            title=line.title,
            key=line.key,
            values=[run_results.setting_text(value) for value in line.values],
            styles=report_figures.method_styles(line.methods),
        )
        pictures[f"axis-{number}"] = png, _CAPTIONS["axis"]
    table = run_sweep_tables.line_table(line, rows_of)
    labels = {"axis": line.key} | _labels(line.groups[0], but=line.key)
    return Section(f"Along {line.key}: {line.title}", labels, [table], pictures)


def _points(line: run_pooled.Line, task: str) -> dict[str, list[dict[str, Any] | None]]:
    """By method, its main results at each value of the axis; None where a run or the method in it is missing."""
    found = [
        {row["method"]: row for row in run_statistics.main_results(group.runs[task])}
        if task in group.runs
        else {}
        for group in line.groups
    ]
    return {
        method: [rows.get(method) for rows in found]
        for method in line.methods
        if any(method in rows for rows in found)
    }


def _pair_sections(runs: Sequence[run_results.Run]) -> list[Section]:
    made = []
    for number, (title, of_set) in enumerate(run_pooled.transfer_sets(runs).items(), start=1):
        rows = [row for row in run_pooled.pair_rows(of_set) if row["method"] not in results.REFERENCES]
        if not rows:
            continue
        pictures = {}
        for name in ("accuracy", "pgr"):
            by_method: dict[str, dict[tuple[str, str], float | None]] = {}
            for row in rows:
                by_method.setdefault(row["method"], {})[row["weak"], row["strong"]] = row[name]
            png = report_figures.draw_transfer(
                by_method,
                title=f"{title}: " + ("PGR" if name == "pgr" else "accuracy in per cent"),
                is_pgr=name == "pgr",
            )
            pictures[f"transfer-{name}-{number}"] = png, _CAPTIONS[name]
        first = of_set[0]
        settings = {key: run_results.setting_text(value) for key, value in first.settings.items()}
        labels = {"task": first.task, **settings}
        table = run_sweep_tables.pair_table(of_set)
        made.append(Section(f"Transfer between models: {title}", labels, [table], pictures))
    return made
