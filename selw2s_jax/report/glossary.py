"""What the headings of a page's tables mean, each said once."""

import html
from collections.abc import Mapping, Sequence

from selw2s_jax.analysis import formats

_SHARED = "In several tables"


class Glossary:
    """The meanings of headings, as tables are shown that have them."""

    def __init__(self):
        self._headings: dict[str, dict[str, None]] = {}  # by meaning, in order
        self._tables: dict[str, dict[str, None]] = {}  # by meaning, the titles of tables

    def anchor(self, column: formats.Column, table: formats.Table) -> str:
        """What a link from a heading names."""
        self._headings.setdefault(column.meaning, {})[column.heading] = None
        self._tables.setdefault(column.meaning, {})[table.title] = None
        return f"term-{list(self._headings).index(column.meaning) + 1}"

    def parts(self) -> list[str]:
        """As HTML: by table, in the order of its columns, as some say what those before them say; shared ones first."""
        groups: dict[str, list[str]] = {_SHARED: []}
        for meaning, tables in self._tables.items():
            groups.setdefault(_SHARED if len(tables) > 1 else next(iter(tables)), []).append(meaning)
        numbers = {meaning: number for number, meaning in enumerate(self._headings, start=1)}
        return [
            part
            for title, meanings in groups.items()
            if meanings
            for part in (f"<h3>{html.escape(title)}</h3>", self._definitions(meanings, numbers))
        ]

    def _definitions(self, meanings: Sequence[str], numbers: Mapping[str, int]) -> str:
        entries = (
            f"<dt>{html.escape(', '.join(self._headings[meaning]))}</dt>"
            f'<dd id="term-{numbers[meaning]}">{html.escape(meaning)}</dd>'
            for meaning in meanings
        )
        return f"<dl>{''.join(entries)}</dl>"
