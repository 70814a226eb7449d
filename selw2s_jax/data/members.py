"""The weak models of a run: one by `weak.model`, or several by `weak.members`, each with the task that it learns."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selw2s_jax.data import tasks

ROWS = ("same", "disjoint", "bootstrap")  # what each of several learns of its half: `weak.rows` of a config


class Member(NamedTuple):
    """A weak model.

    Attributes:
        model: as the config names it; None where it is not set.
        task: whose ground truth it learns; None for the run's own.
    """

    model: str | None
    task: str | None

    @property
    def half(self) -> str:
        """The split that it learns from, by its name in `splits.SeedData.named`."""
        return "weak_half" if self.task is None else f"weak_half@{self.task}"


def of(config: Mapping[str, Any]) -> tuple[Member, ...]:
    """The weak models of a config, or of one as JSON values, in their order.

    A member is a model, or a model and a task as `gpt2@arc`; `weak.task` is that of those which name none.
    """
    section = config["weak"]
    named = section.get("members") or (section.get("model"),)
    pairs = [(one, None) if one is None else _parse(one) for one in named]
    own, common = tasks.canonical_name(config["task"]), section.get("task")
    chosen = [(model, common if task is None else task) for model, task in pairs]
    known = [(model, None if task is None else tasks.canonical_name(task)) for model, task in chosen]
    return tuple(Member(model, None if task == own else task) for model, task in known)


def names(config: Mapping[str, Any], role: str) -> list[str | None]:
    """The models of a role, as the config names them."""
    return [config["strong"]["model"]] if role == "strong" else [member.model for member in of(config)]


def _parse(text: str) -> tuple[str, str | None]:
    model, at, task = text.rpartition("@")
    return (model, task) if at and "/" not in task else (text, None)  # folders may have an @ in their names


def other_tasks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The tasks beside the run's own that weak models learn, each once."""
    return tuple(dict.fromkeys(member.task for member in of(config) if member.task is not None))


def describe(names: Sequence[str], members: Sequence[Member]) -> str:
    """The weak models together, as `gpt2 + gpt2@arc`.

    Args:
        names: of the models, as readers know them.
    """
    named = zip(names, members, strict=True)
    return " + ".join(name if member.task is None else f"{name}@{member.task}" for name, member in named)
