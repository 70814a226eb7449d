"""What a report says of several runs together: sections of its page, with their tables and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import method_looks, result_figures
from selw2s_jax.method import registry
from selw2s_jax.report import figures, numbers, section, stored, sweep_numbers, sweep_tables

_CAPTIONS = {
    "averages": "Mean over tasks of test accuracy and PGR of each method, with 95 % intervals bootstrapped over items "
    "and seeds within each task. Intervals of PGR that leave the panel are cut at its edge.",
    "axis": "Test accuracy and PGR with 95 % intervals against the setting, whose values stand at equal distances; "
    "points of one value stand side by side.",
    "accuracy": "Test accuracy in per cent of each student, by weak and strong model.",
    "pgr": "PGR of each student, by weak and strong model: 0 is the weak model of the pair, 1 its ceiling.",
}


def sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    """Along the axes of a sweep, by task, by pair of models; of one run, and where runs cannot be told apart, none.

    Runs of P(IK) alone have no part in them.
    """
    runs = [run for run in runs if run.has_classifiers]
    groups = sweep_numbers.make_groups(runs) if len(runs) > 1 else []
    rows_of = {group.title: sweep_numbers.method_rows(group) for group in groups}
    lines = sweep_numbers.make_lines(groups)
    return [
        *(_line_section(line, number, rows_of) for number, line in enumerate(lines, start=1)),
        *(
            _group_section(group, number, rows_of)
            for number, group in enumerate(groups, start=1)
            if len(group.runs) > 1
        ),
        *(_pair_sections(runs) if groups else []),
    ]


def _labels(group: sweep_numbers.Group, *, but: str = "") -> dict[str, str]:
    settings = {key: stored.setting_text(value) for key, value in group.settings.items() if key != but}
    return {"weak": group.weak, "strong": group.strong, **settings}


def _group_section(
    group: sweep_numbers.Group, number: int, rows_of: Mapping[str, Sequence[Mapping[str, Any]]]
) -> section.Section:
    rows = rows_of[group.title]
    averages = sweep_tables.average_rows(rows)
    pictures = {}
    if averages:
        title = f"Mean over {', '.join(group.runs)}: {group.title}"
        picture = result_figures.draw_results(
            averages,
            title=title,
            facts=group.facts,
            chance=sweep_numbers.average_majority_class(group),
        )
        pictures[f"averages-{number}"] = picture, _CAPTIONS["averages"]
    tables = sweep_tables.of_group(group, rows)
    return section.Section(
        f"By task: {group.title}", _labels(group), tables, pictures, is_folded=bool(group.settings)
    )


def _line_section(
    line: sweep_numbers.Line, number: int, rows_of: Mapping[str, Sequence[Mapping[str, Any]]]
) -> section.Section:
    pictures = {}
    if line.is_numeric:
        picture = figures.draw_axis(
            {task: _points(line, task) for task in line.tasks},
            title=line.title,
            key=line.key,
            values=[stored.setting_text(value) for value in line.values],
            styles=method_looks.styles(line.facts),
        )
        pictures[f"axis-{number}"] = picture, _CAPTIONS["axis"]
    table = sweep_tables.line_table(line, rows_of)
    labels = {"axis": line.key} | _labels(line.groups[0], but=line.key)
    return section.Section(f"Along {line.key}: {line.title}", labels, [table], pictures)


def _points(line: sweep_numbers.Line, task: str) -> dict[str, list[dict[str, Any] | None]]:
    """By method, its main results at each value of the axis; None where a run or the method in it is missing."""
    by_value = [
        {row["method"]: row for row in numbers.main_results(group.runs[task])} if task in group.runs else {}
        for group in line.groups
    ]
    return {
        method: [rows.get(method) for rows in by_value]
        for method in line.methods
        if any(method in rows for rows in by_value)
    }


def _pair_sections(runs: Sequence[stored.Run]) -> list[section.Section]:
    sections = []
    for number, (title, of_set) in enumerate(sweep_numbers.transfer_sets(runs).items(), start=1):
        rows = [row for row in sweep_numbers.pair_rows(of_set) if row["method"] not in registry.REFERENCES]
        if not rows:
            continue
        pictures = {}
        for name in ("accuracy", "pgr"):
            by_method: dict[str, dict[tuple[str, str], float | None]] = {}
            for row in rows:
                by_method.setdefault(row["method"], {})[row["weak"], row["strong"]] = row[name]
            picture = figures.draw_transfer(
                by_method,
                title=f"{title}: " + ("PGR" if name == "pgr" else "accuracy in per cent"),
                is_pgr=name == "pgr",
            )
            pictures[f"transfer-{name}-{number}"] = picture, _CAPTIONS[name]
        first = of_set[0]
        settings = {key: stored.setting_text(value) for key, value in first.settings.items()}
        labels = {"task": first.task, **settings}
        table = sweep_tables.pair_table(of_set)
        sections.append(section.Section(f"Transfer between models: {title}", labels, [table], pictures))
    return sections
