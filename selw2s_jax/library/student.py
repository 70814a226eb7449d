"""A trained model of a run, as a script asks it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.errors import UserError
from selw2s_jax.predict import forms
from selw2s_jax.run import students


class Student:
    """A trained model of a finished run: a student, a weak model or a ceiling. `Results.student` finds it.

    Args:
        found: it.
        base, tokenizer: folders of the pretrained model, which is needed where only a part was trained, and of its
            tokenizer's files; default where the run found them.
        variations: of a model that writes answers, in how many prompts more each question is asked, to see whether the
            answers agree; default as in its run.

    Raises:
        UserError: an option that models of its kind do not have; or its run's plug-ins are gone.
    """

    def __init__(
        self,
        found: students.Student,
        *,
        base: str | os.PathLike[str] | None = None,
        tokenizer: str | os.PathLike[str] | None = None,
        variations: int | None = None,
    ) -> None:
        self.facts = found.facts
        form = forms.FORMS[found.facts.supervision]
        given = {"base": base, "tokenizer": tokenizer, "variations": variations}
        if others := [
            name for name, value in given.items() if value is not None and name not in form.options
        ]:
            raise UserError(f"{others[0]} is not for models of {found.facts.supervision}; leave it out")
        self._ask = form.asker(found, **{name: given[name] for name in form.options})

    def predict(self, questions: Sequence[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What it says of questions that need no ground truth, a dict for each, in their order.

        The numbers are those of `python -m selw2s_jax.predict` for a file of these questions, bit for bit. A classifier
        is loaded once, at the first call.

        Args:
            questions: of a classifier, texts as the models of its task read them ("Q: ... A: ..."), or dicts of fields
                that make them (question and answer, or choices, which make a row each; context); of a model that
                writes, questions, or dicts of question, choices and context. `example_id` may name one.

        Returns:
            Of a classifier `example_id`, `text`, `class` (0 or 1), `prob_0`, `prob_1` and `p_ik`, the probability that
            it knows the answer; None for a head that it does not have. Of a model that writes what docs/reliability.md
            describes: `answer`, `text`, `log_prob`, `s_prob` and more.

        Raises:
            UserError: questions that are none, models or tokenizers that are gone or damaged, or scores that are not
                finite.
        """
        return self._ask(questions)

    def __repr__(self) -> str:
        facts = self.facts
        return f"Student(task={facts.task!r}, method={facts.method!r}, seed={facts.seed})"
