"""The forms of supervision in a benchmark: what is measured of models that judge answers, or write them."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import ml_collections

from selw2s_jax.benchmark import completions, example_texts, workloads
from selw2s_jax.method import completion_methods, registry
from selw2s_jax.run import forms as run_forms


class Form(NamedTuple):
    """A form of supervision.

    Attributes:
        programs: that it has.
        methods, students: () -> names of those whose train step can be measured, and of the students among them.
        find: examples, as `example_texts.find`.
        workloads: of these.
    """

    programs: tuple[str, ...]
    methods: Callable[[], Iterable[str]]
    students: Callable[[], Iterable[str]]
    find: Callable[..., Any]
    workloads: type[workloads.Workloads]


FORMS = {
    "class_head": Form(
        ("train", "score", "answer", "write", "load"),
        lambda: tuple(registry.METHODS),
        registry.students,
        example_texts.find,
        workloads.Workloads,
    ),
    "completion": Form(
        ("train", "write", "load"),
        completion_methods.students,
        completion_methods.students,
        completions.find,
        completions.Completions,
    ),
}


def get(config: ml_collections.ConfigDict) -> Form:
    """That of a run; UserError where there is no such supervision."""
    run_forms.get(config)
    return FORMS[config.supervision]
