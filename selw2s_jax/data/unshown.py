"""Passages that a user's file gives and no model reads, counted for a note."""

from collections.abc import Mapping
from typing import Any

PASSAGES = ("context", "passage")


class Unshown:
    """The fields of a file's rows that should be in a text and are not there."""

    def __init__(self) -> None:
        self._lines: dict[str, list[int]] = {}

    def look(self, line: int, values: Mapping[str, Any], text: str) -> None:
        """Compares a row with its text; where that is given as such, with its question too."""
        shown = " ".join(text.split())
        for name in (*PASSAGES, "question") if "text" in values else PASSAGES:
            value = values.get(name)
            if isinstance(value, str) and " ".join(value.split()) not in shown:
                self._lines.setdefault(name, []).append(line)

    def notes(self, path: str, num_rows: int, unit: str = "line") -> list[str]:
        """A note for each field that some rows have in vain.

        Args:
            unit: what rows are counted by, "line" or "row".
        """
        return [
            f"{path}: {len(lines)} of {num_rows} rows have a {name} that the models do not read, as their text does "
            f"not show it (first in {unit} {lines[0]}): put it into {_PLACE.get(name, 'question or text')}"
            for name, lines in self._lines.items()
        ]


_PLACE = {"question": "text"}
