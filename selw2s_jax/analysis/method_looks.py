"""How methods look in pictures: a colour by role, and within a role a dash and a shade for each."""

import itertools
from collections.abc import Mapping, Sequence

from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.analysis import plotting
from selw2s_jax.method import registry

Styles = Mapping[str, tuple[str, plotting.Dash]]

BASELINE = "baseline"  # a role of its own here: every student is compared with it
_NAMES = {
    "subject": "proposed method",
    "student": "other method",
}  # in legends; the other roles say it themselves
# Of each role, the shades.
_SHADES = {
    "reference": (plotting.BLACK,),
    BASELINE: (plotting.GREY,),
    "subject": (plotting.BLUE, plotting.SKY_BLUE),
    "student": (plotting.GREEN, plotting.OLIVE, plotting.TEAL),
    "ablation": (plotting.PURPLE, plotting.PLUM),
    "control": (plotting.ORANGE, plotting.VERMILION, plotting.MAROON),
    "probe": (plotting.BROWN,),
}
_MARKERS = {
    "reference": "s", BASELINE: "o", "subject": "o", "student": "o", "ablation": "^", "control": "D", "probe": "X",
}  # fmt: skip
_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 3)))
# Controls often lie on the lines of what they control for.
_FIRST_DASHES = {"reference": (":", "-"), "control": ("--", "-.", ":", "-")}


def role(name: str, facts: methods_lib.Facts) -> str:
    """The role that a method is drawn as: its own, but that of what all students are compared with."""
    return BASELINE if name == registry.BASELINE else facts.role


def role_name(role: str) -> str:
    """What a legend calls a role."""
    return _NAMES.get(role, role)


def color(role: str) -> str:
    """That of a role, where its methods are told apart by their names."""
    return _SHADES[role][0]


def marker(role: str) -> str:
    return _MARKERS[role]


def styles(methods: Mapping[str, methods_lib.Facts]) -> dict[str, tuple[str, plotting.Dash]]:
    """A colour and a dash for each method, the same in every picture and whatever stands beside it."""
    # Also of methods that are not in the picture, so that the others keep their looks without them.
    known = methods_lib.named(methods) | dict(methods)
    found: dict[str, tuple[str, plotting.Dash]] = {}
    for one in _SHADES:
        names = [name for name in _in_order(known) if role(name, known[name]) == one]
        looks = itertools.cycle(_looks(one))
        found |= zip(names, looks, strict=False)
    return {name: found[name] for name in methods}


def _in_order(known: Mapping[str, methods_lib.Facts]) -> Sequence[str]:
    """As registered, those of plug-ins last: what a run has besides changes nothing."""
    return [name for one in registry.ROLES for name in methods_lib.of_role(one, known)]


def _looks(role: str) -> list[tuple[str, plotting.Dash]]:
    first = _FIRST_DASHES.get(role, ())
    dashes = [*first, *(dash for dash in _DASHES if dash not in first)]
    return [(shade, dash) for dash in dashes for shade in _SHADES[role]]
