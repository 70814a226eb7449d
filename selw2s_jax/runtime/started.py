"""How and when a run was started."""

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple


class Start(NamedTuple):
    """How a run was started; nothing is known of one that was from Python.

    Attributes:
        command: as a shell takes it.
        config_file: the config file with its arguments, as the command names it.
        config_text: of that file, where it is Python.
    """

    command: str | None = None
    config_file: str | None = None
    config_text: str | None = None

    def to_json(self, seconds: Mapping[str, float]) -> dict[str, Any]:
        """For a manifest, with the time of now, UTC.

        Args:
            seconds: how long what came before took, by what it was.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        rounded = {name: round(value, 2) for name, value in seconds.items()}
        return {
            "date": now,
            "command": self.command,
            "config_file": self.config_file,
            "seconds": rounded,
        }
