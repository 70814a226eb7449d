"""The forms of supervision in a plan: what it finds and compiles of models that judge answers, or write them."""

from collections.abc import Callable
from typing import NamedTuple

import ml_collections

from selw2s_jax.plan import jobs, workload, written_workload


class Form(NamedTuple):
    """A form of supervision.

    Attributes:
        source: where its models, data and stages come from.
        subject: config -> the method whose train step decides the layout; where all methods have the same, the one that
            a benchmark takes.
        jobs: as `jobs.of_class_heads`.
        default_sizes: config -> sizes of examples where nothing is measured or given.
    """

    source: workload.Source
    subject: Callable[[ml_collections.ConfigDict], str]
    jobs: Callable[..., list[jobs.Job]]
    default_sizes: Callable[[ml_collections.ConfigDict], tuple[workload.Sizes, ...]]


FORMS = {
    "class_head": Form(
        workload.CLASS_HEADS, jobs.largest_method, jobs.of_class_heads, workload.default_sizes
    ),
    "completion": Form(
        written_workload.COMPLETIONS, jobs.first_subject, jobs.of_completions, written_workload.default_sizes
    ),
}


def get(config: ml_collections.ConfigDict) -> Form:
    """That of a run."""
    return FORMS[config.supervision]
