"""What reports read of results.json on representation kernels."""

from typing import Any

from selw2s_jax.runtime import json_forms

_NUMBER = (int, float)
DIMENSIONS = ("effective_dimension_weak", "effective_dimension_strong")
_ENTRY = {
    "seed": int,
    "n": int,
    **dict.fromkeys(("gap", "weak_label_gap", "operator_norm", *DIMENSIONS), _NUMBER),
}
_ROUNDING = 1e-6


def checked(entry: Any) -> dict[str, Any]:
    """An entry of "kernels".

    Raises:
        ValueError: it is none.
    """
    json_forms.check(entry, _ENTRY)
    # Labels in [0, 1] are within 1/4 of their mean in squares.
    most = {"gap": 0.25, "weak_label_gap": 0.25, "operator_norm": 1} | dict.fromkeys(DIMENSIONS, entry["n"])
    for name, high in most.items():
        if not 0 <= entry[name] <= high + _ROUNDING:
            raise ValueError(f"{name}={entry[name]} is out of range")
    return {name: entry[name] for name in _ENTRY}
