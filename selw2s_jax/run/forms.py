"""The forms of supervision: what of a run depends on whether models learn classes or the text of answers.

Everything else of a run, its plan, order, artifacts and results, asks for one of these and not for which it is.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import ml_collections

from selw2s_jax.experiments import checks, continual, inputs, plugins, selective, written, written_inputs
from selw2s_jax.method import registry
from selw2s_jax.run import collect, collect_written, describe, preview
from selw2s_jax.run import continual as run_continual
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib


class Experiment(Protocol):
    """The stages of a run.

    Attributes:
        inputs: what they read, with `models`, `test`, `by_seed`, `notes`, `warnings` and `is_papers_data`.
        settings: of its stages.
    """

    inputs: Any
    settings: settings_lib.Settings

    def targets(self) -> list[list[stage_lib.Stage]]:
        """The stages that results are read from, by model, in the order in which they are best made."""

    def classifiers(self) -> tuple[str, ...]:
        """The models that are tested on the task."""


class Form(NamedTuple):
    """A form of supervision.

    Attributes:
        roles: config -> the models that the run has.
        check_methods: config -> None; a UserError where a method of a user's own does not fit.
        prepare, experiment, collector: what is read, the stages, and what they found; as `inputs.prepare`,
            `selective.Experiment` and `collect.Collector`.
        truth: test split -> the ground truth as a file keeps it.
        describe_test, list_students, list_embeddings, preview: of an experiment, as the manifest has them.
    """

    roles: Callable[[ml_collections.ConfigDict], tuple[str, ...]]
    check_methods: Callable[[ml_collections.ConfigDict], None]
    prepare: Callable[..., Any]
    experiment: Callable[..., Experiment]
    collector: Callable[..., Any]
    truth: Callable[[Any], dict[str, list]]
    describe_test: Callable[[Any], dict[str, Any]]
    list_students: Callable[[ml_collections.ConfigDict, Any], list[dict[str, Any]]]
    list_embeddings: Callable[[Any], list[dict[str, Any]]]
    preview: Callable[[Any], Sequence[dict[str, str]]]


def get(config: ml_collections.ConfigDict) -> Form:
    """That of a run.

    Raises:
        UserError: there is no such supervision.
    """
    checks.check_one_of("supervision", config.supervision, FORMS)
    return _CONTINUAL if config.continual.tasks else FORMS[config.supervision]


def _roles(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    return ("strong",) if registry.is_p_ik_alone(config.methods) else ("weak", "strong")


_CLASS_HEAD = Form(
    roles=_roles,
    check_methods=plugins.check_methods,
    prepare=inputs.prepare,
    experiment=selective.Experiment,
    collector=collect.Collector,
    truth=collect.truth,
    describe_test=collect.describe_test,
    list_students=describe.list_students,
    list_embeddings=describe.list_embeddings,
    preview=preview.describe,
)
_CONTINUAL = _CLASS_HEAD._replace(
    prepare=continual.prepare,
    experiment=continual.Experiment,
    collector=run_continual.Collector,
)
FORMS = {
    "class_head": _CLASS_HEAD,
    "completion": Form(
        roles=lambda config: ("weak", "strong"),
        check_methods=written.check_methods,
        prepare=written_inputs.prepare,
        experiment=written.Experiment,
        collector=collect_written.Collector,
        truth=collect_written.truth,
        describe_test=collect_written.describe_test,
        list_students=collect_written.list_students,
        list_embeddings=lambda experiment: [],
        preview=collect_written.preview,
    ),
}
