"""What readers of results have to know of a method: what it is, and with what it is to be compared.

A run writes it into its manifest, so that a report, whose process does not load the plug-ins of the run, has a
user's own method in the right table, with a caption and a warning.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from selw2s_jax.method import completion_methods, registry

FEW_SHOT = "few-shot answers"  # of the strong model before training, in the place of a method
# Of this package: plug-ins register theirs later.
_NAMED = registry.REFERENCES | registry.METHODS | completion_methods.METHODS


_WITHOUT_GAMMA = ("by_confidence", "by_disagreement")  # selectors that compare no score with it


@dataclasses.dataclass(frozen=True)
class Facts:
    """A method, for its readers.

    Attributes:
        description: what it is, in a line.
        role: of `registry.ROLES`.
        selects: whether its own P(IK) says which rows get the strong model's own label.
        control_of: of a control, the one method that it is the control of; None where it is one of every method.
        weighs: whether it weighs both labels of a row, rather than choose one of them.
        has_gamma: whether the threshold `p_ik.gamma` says anything of its P(IK).
        smooths: whether the labels of its rows are averaged over the graph, where its rule does so at all.
        p_ik_from: where it has its P(IK) from, of `registry.P_IK_FROM`.
        has_p_ik: whether it has any; what selects without goes by something else, as how far weak models disagree.
        options: that the config gives it alone (`method_options`), as "beta=3.0"; "" without.
    """

    description: str = "a method of the config"
    role: str = "student"
    selects: bool = True
    smooths: bool = True
    control_of: str | None = None
    weighs: bool = False
    has_gamma: bool = True
    p_ik_from: str = "config"
    has_p_ik: bool = True
    options: str = ""

    def __post_init__(self):
        if self.role not in registry.ROLES or not isinstance(self.description, str):
            raise ValueError(f"no description or no role of a method: {self.description!r}, {self.role!r}")


def _selects(method: registry.Method) -> bool:
    """Whether it is for the method itself to choose which rows keep which label."""
    return (
        method.mask_of is None and method.role != "control" and (method.uses_p_ik or method.uses_self_labels)
    )


def _find(name: str, supervision: str) -> registry.Method | None:
    known = registry.METHODS.get(name), completion_methods.find(name)
    first, second = known[::-1] if supervision == "completion" else known
    return registry.REFERENCES.get(name) or first or second


def facts(name: str, supervision: str = "class_head") -> Facts:
    """Of a method or reference that this process knows; those of any student where it knows none of that name.

    Args:
        supervision: of the run; methods of two forms may have one name.
    """
    method = _find(name, supervision)
    if method is None:
        return Facts()
    return Facts(
        description=method.description or Facts.description,
        role=method.role,
        selects=_selects(method),
        smooths=method.rule_options.get("refiner") != "none",
        control_of=method.control_of,
        weighs=method.weighs,
        has_gamma=not method.weighs and method.rule_options.get("selector") not in _WITHOUT_GAMMA,
        p_ik_from=method.p_ik_from,
        has_p_ik=method.uses_p_ik,
    )


def to_json(
    names: Iterable[str],
    supervision: str = "class_head",
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """What a manifest says of these methods; `options` by method are those of the config."""
    given = {
        name: ", ".join(f"{key}={value!r}" for key, value in sorted(of_one.items()))
        for name, of_one in (options or {}).items()
    }
    return {
        name: dataclasses.asdict(dataclasses.replace(facts(name, supervision), options=given.get(name, "")))
        for name in names
    }


def from_json(names: Iterable[str], recorded: Mapping[str, Mapping[str, Any]]) -> dict[str, Facts]:
    """The facts by name: as a manifest has them; of a run of an earlier version, as this process knows them.

    Raises:
        ValueError, TypeError: what the manifest has is none.
    """
    fields = [field.name for field in dataclasses.fields(Facts)]
    return {
        name: Facts(**{field: recorded[name][field] for field in fields if field in recorded[name]})
        if name in recorded
        else facts(name)
        for name in names
    }


def of_role(role: str, known: Mapping[str, Facts]) -> list[str]:
    """The methods of a role, in an order that is the same in all runs: as registered, then those of plug-ins."""
    names = [name for name, one in known.items() if one.role == role]
    return [name for name in _NAMED if name in names] + [name for name in names if name not in _NAMED]


def default_pairs(known: Mapping[str, Facts]) -> list[tuple[str, str]]:
    """What a study compares unless it says otherwise: methods with their controls, in the order of these.

    A control of one method stands against that, the others against each subject. Without controls each subject, or
    where there is none each student, stands against the baseline, and the baseline against its teacher.
    """
    subjects, controls = of_role("subject", known), of_role("control", known)
    pairs = []
    for control in controls:
        owner = known[control].control_of
        pairs += [(first, control) for first in (subjects if owner is None else [owner]) if first in known]
    others = subjects or [name for name in of_role("student", known) if name != registry.BASELINE]
    if not pairs and registry.BASELINE in known:
        pairs = [(first, registry.BASELINE) for first in others] or [(registry.BASELINE, "weak")]
    return pairs


def named(like: Iterable[str] = ()) -> dict[str, Facts]:
    """The facts of all that this package registers of one form of supervision: that of these methods."""
    writes = any(name in completion_methods.METHODS and name not in registry.METHODS for name in like)
    supervision = "completion" if writes else "class_head"
    known = completion_methods.METHODS if writes else registry.METHODS
    return {name: facts(name, supervision) for name in (*registry.REFERENCES, *known)}


def p_ik_first(known: Mapping[str, Facts]) -> list[str]:
    """Methods whose P(IK) is tested; what pictures are of comes first: P(IK) alone, or else the subject's."""
    order = {role: place for place, role in enumerate(("probe", "subject"))}
    return sorted(known, key=lambda name: order.get(known[name].role, len(order)))


def weak_first(names: Iterable[str]) -> list[str]:
    """Names as they come, but the weak model first and the ceiling last: between them lie the students."""
    return sorted(dict.fromkeys(names), key=lambda name: {"weak": -1, "ceiling": 1}.get(name, 0))


def compared(names: Iterable[str]) -> list[str]:
    """Of these series of right answers the few that say what a subject gains, the most basic first."""
    names = list(names)
    subjects = [name for name in names if facts(name).role == "subject"]
    first = (FEW_SHOT, *registry.REFERENCES, registry.BASELINE, *subjects)
    return [name for name in first if name in names]
