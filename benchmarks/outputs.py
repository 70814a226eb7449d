"""What the benchmarks say of their machine, and how they leave their results."""

import json
import os
import pathlib
import platform
from typing import Any

MACHINE = f"{os.cpu_count()} CPU cores, {platform.machine()}"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    return ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows)]


def write(report: dict[str, Any], output: pathlib.Path | None) -> None:
    """Prints a report as JSON, and writes it where a file is given."""
    text = json.dumps(report, indent=1) + "\n"
    print(text)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)
