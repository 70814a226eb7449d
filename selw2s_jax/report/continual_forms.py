"""What reports read of results.json on a sequence of tasks."""

from typing import Any

from selw2s_jax.runtime import json_forms

_ENTRY = {"method": str, "seed": int, "learnt": str, "tested": str, "n": int, "correct": int}


def checked(entry: Any) -> dict[str, Any]:
    """An entry of the list "continual".

    Raises:
        ValueError: it is none.
    """
    json_forms.check(entry, _ENTRY)
    if not 0 <= entry["correct"] <= entry["n"] or not entry["n"]:
        raise ValueError(f"{entry['correct']} right of {entry['n']}")
    return entry
