"""What a reader of the results has to know of the data: notes, and reasons to doubt what they would show."""

import dataclasses
from typing import NamedTuple


class Doubt(NamedTuple):
    """A reason to doubt results on this data.

    Attributes:
        observation: what was seen, with the numbers.
        remedy: what to do.
    """

    observation: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.observation}; {self.remedy}"


@dataclasses.dataclass
class Found:
    """What was found on reading data, in order.

    Attributes:
        notes: one sentence each.
        doubts: which are warnings in a report.
    """

    notes: list[str] = dataclasses.field(default_factory=list)
    doubts: list[Doubt] = dataclasses.field(default_factory=list)

    def note(self, note: str) -> None:
        """Adds a note, once though many seeds find it."""
        if note not in self.notes:
            self.notes.append(note)
