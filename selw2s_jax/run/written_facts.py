"""How a model that writes was asked in its run: all that is needed to ask it again without the run's data."""

import dataclasses
from typing import Any

from selw2s_jax.data import written_tasks
from selw2s_jax.inference import writing
from selw2s_jax.runtime import json_forms

_FORM = {"task": dict, "has_own_code": bool, "by": str, "max_new_tokens": int}


@dataclasses.dataclass(frozen=True)
class Written:
    """The form of prompts and answers.

    Attributes:
        task: without rows.
        has_own_code: whether the run's task was of a class of the user's, whose code `task` lacks.
        by: how answers are given, of `writing.WAYS`.
        max_new_tokens: of one that is written.
    """

    task: written_tasks.WrittenTask
    has_own_code: bool
    by: str
    max_new_tokens: int

    @classmethod
    def of(cls, task: written_tasks.WrittenTask, how: writing.Answering) -> "Written":
        """Of a run's task and its way to answer."""
        return cls(task, type(task) is not written_tasks.WrittenTask, how.by, how.max_new_tokens)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in _FORM} | {"task": self.task.to_json()}

    @classmethod
    def from_json(cls, fields: dict[str, Any] | None) -> "Written | None":
        """What `to_json` described; None of a model that does not write.

        Raises:
            ValueError: they are no such fields.
            UserError: `by` or `max_new_tokens` is none that answers can be given with.
        """
        if fields is None:
            return None
        json_forms.check(fields, _FORM)
        writing.Answering(by=fields["by"], max_new_tokens=fields["max_new_tokens"])
        given = {name: fields[name] for name in _FORM}
        return cls(**given | {"task": written_tasks.WrittenTask.from_json(fields["task"])})
