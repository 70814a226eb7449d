"""The form of `by_frequency` of results.json, as `run.collect` writes it: right answers by how common an entity is."""

from typing import Any

from selw2s_jax.analysis import results
from selw2s_jax.runtime import json_forms


def checked(entry: Any) -> dict[str, Any]:
    """The questions of each group, and by method the right answers among them, the mean over seeds.

    Where it is no half, also the `chance` of guessing right.

    Raises:
        ValueError: it is none.
    """
    json_forms.check(entry, {"n": [int], "correct": dict})
    counts = {"n": entry["n"], "correct": dict(entry["correct"])}
    for of_method in counts["correct"].values():
        json_forms.check(of_method, [(int, float)])
    for numbers in (counts["n"], *counts["correct"].values()):
        fits = len(numbers) == len(results.FREQUENCY_GROUPS)
        if not fits or not all(0 <= one <= n for one, n in zip(numbers, counts["n"], strict=True)):
            raise ValueError("right answers by frequency are not of these groups of questions")
    if "chance" in entry:
        json_forms.check(entry["chance"], (int, float))
        if not 0 < entry["chance"] < 1:
            raise ValueError("chance by frequency is no share")
        counts["chance"] = entry["chance"]
    return counts
