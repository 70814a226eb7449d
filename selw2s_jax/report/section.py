"""A section of the page."""

import dataclasses
from collections.abc import Mapping, Sequence

from selw2s_jax.analysis import formats, plotting
from selw2s_jax.report import glossary, page


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
        is_leading: whether the page of a single run has it before the tables that every run has.
        max_rows: tables of more rows stand behind a line that opens them; None for no table.
    """

    title: str
    labels: Mapping[str, str]
    tables: Sequence[formats.Table]
    pictures: Mapping[str, tuple[plotting.Picture, str]]
    is_folded: bool = False
    above: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    max_rows: int | None = None
    is_leading: bool = False

    def parts(self, anchor: str, terms: glossary.Glossary) -> list[str]:
        """As HTML.

        Args:
            terms: of the page, to which the meanings of its columns are added.
        """
        names = {table.name for table in self.tables}
        parts = [page.paragraph(note) for note in self.notes]
        parts += [
            page.picture(*picture, name)
            for name, picture in self.pictures.items()
            if self.above.get(name) not in names
        ]
        for table in self.tables:
            parts.append(page.heading(3, table.title))
            parts += [
                page.picture(*picture, name)
                for name, picture in self.pictures.items()
                if self.above.get(name) == table.name
            ]
            parts.append(page.table(table, terms, max_rows=self.max_rows))
        if self.is_folded:
            return [page.folded(self.title, parts, anchor)]
        return [page.heading(2, self.title, anchor), *parts]
