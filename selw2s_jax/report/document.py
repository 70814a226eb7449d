"""A report over runs: its tables, pictures and page, as the content of files."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

from etils import epath

from selw2s_jax.analysis import formats, plotting
from selw2s_jax.report import (
    audit_sections,
    blind_spots_sections,
    calibration_sections,
    continual_sections,
    curve_sections,
    disagreement_sections,
    frequency_sections,
    front,
    glossary,
    kernel_sections,
    member_sections,
    misfit_sections,
    p_ik_sections,
    page,
    power_sections,
    provenance,
    registration_sections,
    reliability_sections,
    run_parts,
    selection_sections,
    stored,
    sweep_sections,
    tables,
    taught_label_sections,
    warnings,
)
from selw2s_jax.report import section as section_lib
from selw2s_jax.runtime import places, storage

PAGE = "report.html"
# What a report says of its runs together, in the order of the page. A new analysis is a module with `sections(runs)`,
# which has none where the runs give no ground for it, and a row here.
_ANALYSES: tuple[Callable[[Sequence[stored.Run]], list[section_lib.Section]], ...] = (
    sweep_sections.sections,
    frequency_sections.sections,
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
        pictures: Mapping[str, tuple[plotting.Picture, str]],
        *,
        is_section: bool = False,
    ) -> None:
        """What a run or section of that name has; see `_Titled` and `section.Section`."""
        for table in of_part:
            title = _caption(table.title, name, is_section=is_section)
            self._by_kind.setdefault(table.name, []).append(_Titled(title, labels, table))
        for picture, (drawn, _) in pictures.items():
            self._pictures |= {f"{picture}.svg": drawn.svg, f"{picture}.pdf": drawn.pdf}

    def contents(self) -> dict[str, bytes]:
        """By name of the file."""
        files = dict(self._pictures)
        for kind, of_kind in self._by_kind.items():
            files |= _table_files(kind, of_kind)
        return files


def files(runs: Sequence[stored.Run], *, absent: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file of the report, by name; equal runs give equal bytes.

    `report.html`; a `.md`, `.csv` and `.tex` for each kind of table, with the tables of all runs; and pictures as
    `.svg` and `.pdf`, numbered by run or by section.

    Args:
        absent: a line for each run of a sweep that has not begun or cannot be read.
    """
    report = _Report(stored.names(stored.with_distinct_models(runs)))
    # A damaged file can hold half of a character, which no encoding has.
    document = report.page(absent).encode(errors="backslashreplace")
    return report.collected.contents() | {PAGE: document}


def write(
    runs: Sequence[stored.Run], folder: epath.Path, *, absent: Sequence[str] = (), called: str
) -> epath.Path:
    """Writes the files of `files` into a folder, made where it is missing; returns the page.

    Args:
        called: what the folder is called where it is refused.

    Raises:
        UserError: it cannot be written.
    """
    places.check_output_folder(folder, called)
    content = files(runs, absent=absent)
    storage.make_folder(folder)
    for name, one in content.items():
        storage.write_bytes(folder / name, one)
    return folder / PAGE


class _Report:
    """A page as it is made, and the files beside it.

    Attributes:
        collected: the files.
    """

    def __init__(self, names: Mapping[str, stored.Run]):
        self._names, self._runs = names, list(names.values())
        self._terms = glossary.Glossary()
        self._links: dict[str, str] = {}  # by anchor, in the order of the page
        self.collected = _Files()

    def page(self, absent: Sequence[str]) -> str:
        """The whole page."""
        findings = [(name, one) for name, run in self._names.items() for one in warnings.find(run)]
        registered = registration_sections.sections(self._runs)
        parts = self._sections(registered, "registered")
        of_runs = self._run_pages()
        parts += self._summary(of_runs, is_registered=bool(registered))
        self._links["warnings"] = f"Warnings ({len(findings)})" if findings else "Warnings"
        parts.append(front.warnings(self._names, findings, absent))
        sections = list(itertools.chain(*(sections_of(self._runs) for sections_of in _ANALYSES)))
        if len(self._runs) > 1:
            parts += self._sections(sections, "part") + self._each_run(of_runs)
        else:
            parts += self._sections([one for one in sections if one.is_leading], "leading")
            parts += of_runs[0].tables(but=self._shown_above())
            self._links |= of_runs[0].links
            parts += self._sections([one for one in sections if not one.is_leading], "part")
        parts += self._ending()
        if findings:
            self.collected.add("", {}, [tables.finding_table(findings)], {})
        title = front.title(self._names)
        return page.document(title, front.facts(self._runs), page.contents(self._contents()), parts)

    def _contents(self) -> dict[str, dict[str, str]]:
        """The links by title; those of a part that several runs have, as one entry with a link for each run."""
        called = front.short_names(self._names) if len(self._names) > 1 else {}
        entries: dict[str, dict[str, str]] = {}
        for anchor, title in self._links.items():
            name = next((name for name in called if title.endswith(f": {name}")), None)
            if name is None:
                entries[title] = {anchor: ""}
            else:
                entries.setdefault(title.removesuffix(f": {name}"), {})[anchor] = called[name]
        return entries

    def _sections(self, sections: Sequence[section_lib.Section], kind: str) -> list[str]:
        """Of a single run, whose name stands once, without that name."""
        parts = []
        for number, section in enumerate(sections, start=1):
            self.collected.add(
                section.title, section.labels, section.tables, section.pictures, is_section=True
            )
            if len(self._names) == 1:
                title = section.title.removesuffix(f": {next(iter(self._names))}")
                section = dataclasses.replace(section, title=title)
            self._links[f"{kind}-{number}"] = section.title
            parts += section.parts(f"{kind}-{number}", self._terms)
        return parts

    def _run_pages(self) -> list[run_parts.RunPage]:
        pages = []
        for number, (name, run) in enumerate(self._names.items(), start=1):
            pictures, of_run = run_parts.draw(run, number), tables.of_run(run)
            labels = {"run": name, "task": run.task, "weak": run.weak or "", "strong": run.strong}
            labels |= {key: stored.setting_text(value) for key, value in run.settings.items()}
            self.collected.add(name, labels, of_run, pictures)
            level = 2 if len(self._names) == 1 else 3
            pages.append(run_parts.RunPage(number, of_run, pictures, level=level, terms=self._terms))
        return pages

    def _shown_above(self) -> tuple[str, ...]:
        """The table of a single run that its summary shows."""
        return ("main",) if self._runs[0].predictions else ("p_ik",)

    def _summary(self, of_runs: Sequence[run_parts.RunPage], *, is_registered: bool) -> list[str]:
        """What was found, at a glance: of one run gains and its main results, of several a row each."""
        parts = [page.heading(2, "Summary", "summary")]
        if len(self._runs) > 1:
            table = front.glance_table(self._names)
            parts += [page.table(table, self._terms)] if table.rows else []
        else:
            # Where comparisons were registered, the page opens with those.
            if lines := [] if is_registered else front.gains(self._runs[0]):
                parts += [page.heading(3, "Gains, in short"), page.items(lines)]
            parts += of_runs[0].summary(self._shown_above())
        if len(parts) == 1:
            return []
        self._links["summary"] = "Summary"
        return [*parts, page.link("terms", "What these numbers mean")]

    def _each_run(self, of_runs: Sequence[run_parts.RunPage]) -> list[str]:
        """All tables of every run, each behind a line that opens it."""
        self._links["runs"] = "Each run"
        parts = [page.heading(2, "Each run", "runs")]
        for number, (name, of_run) in enumerate(zip(self._names, of_runs, strict=True), start=1):
            self._links[f"run-{number}"] = f"Tables of: {name}"
            parts.append(page.folded(name, of_run.tables(), f"run-{number}"))
        return parts

    def _ending(self) -> list[str]:
        parts = []
        if examples := provenance.examples(self._runs):
            title = "One question of each task, as each model reads it"
            self._links["examples"] = title
            parts += [page.heading(2, title, "examples"), *examples]
        self._links |= {"methods": "Methods", "terms": "Terms", "settings": "Settings and manifest"}
        parts += provenance.terms(self._runs, self._terms)
        return [
            *parts,
            page.heading(2, "Settings and manifest", "settings"),
            *provenance.settings(self._names),
        ]


def _caption(title: str, name: str, *, is_section: bool) -> str:
    """A table's title and what it is of; of a section without the words of its heading that the title has too."""
    heading, _, of = name.partition(": ")
    if is_section and title.lower() in heading.lower():
        return name
    if is_section and heading.lower() in title.lower():
        name = of
    return f"{title}. {name}" if name else title


def _table_files(kind: str, parts: Sequence[_Titled]) -> dict[str, bytes]:
    texts = {
        "md": "\n".join(formats.to_markdown(one.table, one.title) for one in parts),
        "tex": "\n".join(formats.to_latex(one.table, one.title) for one in parts),
        "csv": formats.to_csv([(one.labels, one.table) for one in parts]),
    }
    return {f"{kind}.{ending}": text.encode(errors="backslashreplace") for ending, text in texts.items()}
