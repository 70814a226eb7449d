"""The forms of supervision in a benchmark: what is measured of models that judge answers, or write them."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import ml_collections
from etils import epath

from selw2s_jax.benchmark import completions, example_texts, workloads
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.method import completion_methods, registry
from selw2s_jax.run import forms as run_forms


class Form(NamedTuple):
    """A form of supervision.

    Attributes:
        programs: that it has.
        methods, students: () -> names of those whose train step can be measured, and of the students among them.
        real: (config, model with its tokenizer, workdir) -> examples of the config's data; a UserError where it is not
            at hand.
        synthetic: (config, model, mean length or None) -> examples of random tokens.
        workloads: of these.
    """

    programs: tuple[str, ...]
    methods: Callable[[], Iterable[str]]
    students: Callable[[], Iterable[str]]
    real: Callable[..., Any]
    synthetic: Callable[..., Any]
    workloads: type[workloads.Workloads]

    def find(
        self,
        config: ml_collections.ConfigDict,
        model: pretrained.Model,
        workdir: epath.Path,
        *,
        source: str,
        mean_length: int | None,
    ) -> Any:
        """The real examples, or synthetic ones, whose `described` then says why.

        Args:
            workdir: where inputs that are generated are put.
            source: of `example_texts.SOURCES`; "auto" takes the real ones where data and tokenizer are at hand and no
                length is given.
            mean_length: tokens of a synthetic example; None for the task's.

        Raises:
            UserError: the real ones are asked for and not at hand, or the length does not fit the model.
        """
        if source == "real" and mean_length is not None:
            raise UserError("--lengths is of synthetic examples: leave it out with --data=real")
        if source == "synthetic" or mean_length is not None:
            return self.synthetic(config, model, mean_length)
        try:
            if model.tokenizer is None:
                raise UserError(
                    f"the tokenizer of {model.name} is not at hand: set config.strong.tokenizer to its folder"
                )
            return self.real(config, model, workdir)
        except UserError as error:
            if source == "real":
                raise UserError(f"--data=real: {error}") from error
            found = self.synthetic(config, model, mean_length)
            reason = str(error).partition(" - ")[0]
            return found._replace(described=f"{found.described}; the task is not at hand ({reason})")


FORMS = {
    "class_head": Form(
        ("train", "score", "answer", "write", "load"),
        lambda: tuple(registry.METHODS),
        registry.students,
        example_texts.real,
        example_texts.synthetic,
        workloads.Workloads,
    ),
    "completion": Form(
        ("train", "write", "load"),
        completion_methods.students,
        completion_methods.students,
        completions.real,
        completions.synthetic,
        completions.Completions,
    ),
}


def get(config: ml_collections.ConfigDict) -> Form:
    """That of a run; UserError where there is no such supervision."""
    run_forms.get(config)
    return FORMS[config.supervision]
