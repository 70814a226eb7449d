"""Tables as text, Markdown, CSV, LaTeX and HTML. Names in them may come from anyone, and are escaped."""

import dataclasses
import html
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from selw2s_jax import errors

NOTHING = "-"  # of a cell without a value


def percent(value: float | None, *, digits: int = 2) -> str:
    """A fraction in per cent, without the sign."""
    return NOTHING if value is None else f"{100 * value:.{digits}f}"


# Of a column: how its values are shown. Those of an interval are pairs; CSV has all as they are.
_FORMATS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": str,
    "step": lambda value: f"{value:.0f}",
    "percent": percent,
    "points": lambda value: f"{100 * value:+.2f}",
    "ratio": lambda value: f"{value:.3f}",
    "significant": lambda value: f"{value:.3g}",
    "p": lambda value: "< 0.001" if value < 0.001 else f"{value:.3f}",
    "percent interval": lambda pair: f"{100 * pair[0]:.2f} to {100 * pair[1]:.2f}",
    "points interval": lambda pair: f"{100 * pair[0]:+.2f} to {100 * pair[1]:+.2f}",
    "ratio interval": lambda pair: f"{pair[0]:.3f} to {pair[1]:.3f}",
    "significant interval": lambda pair: f"{pair[0]:.3g} to {pair[1]:.3g}",
}


@dataclasses.dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: of its values in a row.
        heading: above them.
        meaning: what they are, in a line.
        format: one of "text", "count", "step" (a mean of counts), "percent", "points", "ratio", "significant" (three
            digits), "p", and "percent interval", "points interval", "ratio interval", "significant interval".
        interval: key of the value's interval, which stands beside it in brackets.
    """

    key: str
    heading: str
    meaning: str
    format: str = "text"
    interval: str | None = None

    def text(self, row: Mapping[str, Any]) -> str:
        """The value, and its interval."""
        return " ".join(filter(None, self.parts(row)))

    def parts(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """The value and its interval, empty where there is none."""
        value = row[self.key]
        pair = None if self.interval is None or value is None else row[self.interval]
        bounds = "" if pair is None else f"({_FORMATS[f'{self.format} interval'](pair)})"
        return NOTHING if value is None else _FORMATS[self.format](value), bounds

    @property
    def is_interval(self) -> bool:
        return self.format.endswith("interval")


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of values under columns.

    Attributes:
        name: of its files.
        rows: with a value, or None, for the key of every column.
        notes: lines below it.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()

    def cells(self) -> list[list[str]]:
        return [[column.text(row) for column in self.columns] for row in self.rows]

    def meanings(self) -> dict[str, list[str]]:
        """The headings of the columns by what they mean, which several may share."""
        headings: dict[str, list[str]] = {}
        for column in self.columns:
            headings.setdefault(column.meaning, []).append(column.heading)
        return headings


def aligned(rows: Sequence[Sequence[str]], *, left: Container[int] | None = None) -> str:
    """Rows of cells as text in columns, two spaces apart.

    Args:
        left: the columns that are flush left, counted from 0, the others are flush right; None for all.
    """
    rows = [[errors.printable(" ".join(cell.split("\n"))) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_left = [left is None or number in left for number in range(len(widths))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(row, widths, is_left, strict=True)
        ).rstrip()
        for row in rows
    )


def to_markdown(table: Table, heading: str) -> str:
    """A heading, the table, its notes and what each column means."""
    escaped = [[_escape_markdown(cell) for cell in row] for row in table.cells()]
    header = [_escape_markdown(column.heading) for column in table.columns]
    rule = ["---" if column.format == "text" else "---:" for column in table.columns]
    lines = [f"### {_escape_markdown(heading)}", ""]
    lines += ["| " + " | ".join(row) + " |" for row in (header, rule, *escaped)] + [""]
    lines += [line for note in table.notes for line in (_escape_markdown(note), "")]
    lines += [
        f"- {', '.join(map(_escape_markdown, headings))}: {_escape_markdown(meaning)}"
        for meaning, headings in table.meanings().items()
    ]
    return "\n".join(lines) + "\n"


def to_csv(parts: Sequence[tuple[Mapping[str, str], Table]]) -> str:
    """Tables as one, with the columns of all: fractions as they are, intervals as two columns.

    Args:
        parts: each with what tells it from the others, by column, which stand first.
    """
    labels = dict.fromkeys(name for labels, _ in parts for name in labels)
    columns = {column.key: column for _, table in parts for column in table.columns}
    names = list(labels)
    for key, column in columns.items():
        stem = key.removesuffix("_interval")
        bounds = [f"{stem}_low", f"{stem}_high"]
        names += bounds if column.is_interval else [key] + bounds * (column.interval is not None)
    lines: list[list[Any]] = [names]
    for labels_of, table in parts:
        for row in table.rows:
            values = [labels_of.get(name) for name in labels]
            for key, column in columns.items():
                value = row.get(key)
                values += (value or (None, None)) if column.is_interval else [value]
                if column.interval is not None:
                    values += row.get(column.interval) or (None, None)
            lines.append(values)
    return csv_lines(lines)


def csv_lines(lines: Iterable[Sequence[Any]]) -> str:
    """Lines of cells as CSV: None is an empty cell, and no text is a formula to a spreadsheet."""
    return "".join(",".join(map(_csv_cell, line)) + "\n" for line in lines)


def _csv_cell(value: Any) -> str:
    """A value as a cell that no spreadsheet takes for a formula (OWASP, "CSV Injection"): numbers as they are."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    if _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        value = f"'{value}"
    # Some spreadsheets part cells by other characters than commas, so these are quoted too.
    return f'"{value.replace(chr(34), 2 * chr(34))}"' if _QUOTED.search(value) else value


def to_latex(table: Table, caption: str) -> str:
    """A table of the booktabs package."""
    alignment = "".join("l" if column.format == "text" else "r" for column in table.columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escape_latex(caption)}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _latex_row([column.heading for column in table.columns]),
        r"\midrule",
        *(_latex_row(row, table.columns) for row in table.cells()),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip {_escape_latex(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_html(table: Table, anchor: Callable[[Column], str] | None = None) -> str:
    """A table in a frame that scrolls, also by keys, and its notes.

    Args:
        anchor: of a column, where the page says what it means; None without such a place.
    """
    title = html.escape(table.title)
    headings = "".join(_heading_html(column, anchor) for column in table.columns)
    # Where it may be too wide, readers of small screens are told so.
    hint = f'<p class="hint">{len(table.columns)} columns: scroll sideways</p>' * (len(table.columns) > 3)
    return "\n".join(
        [
            f'{hint}<div class="scroll" role="region" tabindex="0" aria-label="Table: {title}">',
            f"<table><caption>{title}</caption>",
            f"<thead><tr>{headings}</tr></thead>",
            "<tbody>",
            *(_row_html(table, row) for row in table.rows),
            "</tbody></table></div>",
            *(f'<p class="note">{html.escape(note)}</p>' for note in table.notes),
        ]
    )


def _heading_html(column: Column, anchor: Callable[[Column], str] | None) -> str:
    text = html.escape(column.heading)
    if anchor is not None:
        text = f'<a href="#{anchor(column)}" title="{html.escape(column.meaning)}">{text}</a>'
    return f'<th scope="col"{_class_html(column)}>{text}</th>'


def _row_html(table: Table, row: Mapping[str, Any]) -> str:
    """A row, whose first cell names it, with intervals on a line of their own."""
    cells = []
    for place, column in enumerate(table.columns):
        text, pair = map(html.escape, column.parts(row))
        text += f"<br><small>{pair}</small>" if pair else ""
        tag, scope = "td", ""
        if not place:  # names may be long, and fold where their words end
            tag, scope, text = "th", ' scope="row"', text.replace("_", "_<wbr>")
        cells.append(f"<{tag}{scope}{_class_html(column)}>{text}</{tag}>")
    return f"<tr>{''.join(cells)}</tr>"


def _class_html(column: Column) -> str:
    return "" if column.format == "text" else ' class="number"'


# The beginning of a formula, also in the wide letters of Chinese and Japanese text and behind what is not seen.
_FORMULA = re.compile("[\\s\ufeff\u200b]*[=+@\uff1d\uff0b\uff20\uff0d-]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")
_QUOTED = re.compile(r"""[",;|\t\r\n]|^\s|\s$""")

_MARKDOWN = {character: f"\\{character}" for character in "\\`*_[]|~#"} | {
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
}
_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def _by_code(escapes: Mapping[str, str]) -> dict[int, str]:
    return {ord(character): text for character, text in escapes.items()}


def _escape_markdown(text: str) -> str:
    return errors.printable(" ".join(text.split())).translate(_by_code(_MARKDOWN))


def _escape_latex(text: str) -> str:
    return errors.printable(" ".join(text.split())).translate(_by_code(_LATEX))


def _latex_row(row: Sequence[str], columns: Sequence[Column] = ()) -> str:
    cells = [_escape_latex(cell) for cell in row]
    for place, column in enumerate(columns):
        if column.format != "text":
            cells[place] = re.sub(r"-(?=\d)", "$-$", cells[place])
    # A row that begins with [ or * would be taken for an option of the \\\\ before it.
    return " & ".join("{}" + cell if cell[:1] in ("[", "*") else cell for cell in cells) + r" \\"
