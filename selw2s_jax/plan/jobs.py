"""The programs of a run that a plan compiles, whatever its models learn."""

from collections.abc import Callable
from typing import NamedTuple

import ml_collections

from selw2s_jax.method import completion_methods, objectives, registry
from selw2s_jax.plan import programs, workload
from selw2s_jax.stages import settings as settings_lib


class Job(NamedTuple):
    """A program of the run, whose config a search may change: `make` takes the devices' programs.

    `is_main`: whether it decides the layout, and what would help is looked for where it does not fit.
    """

    role: str
    length: int
    is_main: bool
    make: Callable[[programs.Programs], programs.Program]


def of_class_heads(
    config: ml_collections.ConfigDict, work: workload.Workload, sizes: workload.Sizes, *, all_steps: bool
) -> list[Job]:
    """Those of a run whose models have class heads, the student's train step last.

    Args:
        sizes: of examples; the shape is that of the student's alone.
        all_steps: whether scoring, evaluation and the other models' training are among them.
    """
    settings, length = settings_lib.Settings.of(config), sizes.length

    # Of a probe, it is the pass that makes its embeddings which needs the devices.
    def train(role: str, method: str, shape: tuple[int, int] | None = None) -> Job:
        model = work.models[role]
        make = lambda made: made.train_step(model, method, length, shape=shape)  # noqa: E731
        return Job(role, length, not settings.is_probe(model), make)

    def score(role: str, p_ik_head: bool) -> Job:
        model = work.models[role]
        make = lambda made: made.scores(model, length, p_ik_head=p_ik_head)  # noqa: E731
        return Job(role, length, settings.is_probe(model), make)

    student = largest_method(config)
    if not all_steps:
        trained = train("strong", student, sizes.shape)
        return [trained] if trained.is_main else [score("strong", False), trained]
    jobs = [Job("strong", length, False, lambda made: made.answers(work.models["strong"], length))]
    weak = _weak_slots(work)
    for slot in weak:
        jobs += [train(slot, "supervised"), score(slot, False)]
    if weak:
        jobs.append(train("strong", "supervised"))
    for slot in (slot for slot, model in work.models.items() if model.role == "chain"):
        jobs += [train(slot, registry.BASELINE), score(slot, False)]
    has_p_ik_head = objectives.trains_p_ik(config, registry.METHODS[student])
    return [*jobs, score("strong", has_p_ik_head), train("strong", student, sizes.shape)]


def of_completions(
    config: ml_collections.ConfigDict, work: workload.Workload, sizes: workload.Sizes, *, all_steps: bool
) -> list[Job]:
    """Likewise of a run whose models write. Programs that write are not compiled, but counted by `plan.writing`.

    Args: as of `of_class_heads`.
    """

    def train(role: str, *, is_main: bool, sizes: workload.Sizes) -> Job:
        model = work.models[role]
        return Job(
            role, sizes.length, is_main, lambda made: made.completion_step(model, **sizes.of_completion)
        )

    student = train("strong", is_main=True, sizes=sizes)
    if not all_steps:
        return [student]

    def score(role: str, sizes: workload.Sizes) -> Job:
        model = work.models[role]
        make = lambda made: made.candidates(model, sizes.length, sizes.num_answer)  # noqa: E731
        return Job(role, sizes.length, False, make)

    jobs, of_weak = [], {slot: _own_sizes(work, slot, sizes) for slot in _weak_slots(work)}
    if completion_methods.use_p_ik(config.methods):
        jobs += _of_p_ik(work, sizes)
    jobs += [train(slot, is_main=False, sizes=own) for slot, own in of_weak.items()]
    if config.answers.by == "score":
        jobs += [score(slot, own) for slot, own in (of_weak | {"strong": sizes}).items()]
    return [*jobs, student]


def _of_p_ik(work: workload.Workload, sizes: workload.Sizes) -> list[Job]:
    """P(IK) of the strong model of a run whose models write: its training and its predictions, of prompts alone."""
    model, trained, length = work.models["strong"], workload.Sizes(sizes.length), sizes.length
    counted = [one for one in work.trainings if one.is_of_p_ik_alone and one.shapes]
    if sizes.shape and counted:
        trained, length = counted[-1].largest, round(counted[-1].mean_length)
    step = lambda made: made.train_step(model, "p_ik_only", trained.length, shape=trained.shape)  # noqa: E731
    scores = lambda made: made.scores(model, length, p_ik_head=True)  # noqa: E731
    return [Job("strong", trained.length, False, step), Job("strong", length, False, scores)]


def _own_sizes(work: workload.Workload, slot: str, sizes: workload.Sizes) -> workload.Sizes:
    """Those of the batches of a model itself where the student's `sizes` are of packed batches, as the hours have."""
    own = [one for one in work.trainings if one.role == slot and one.shapes]
    return (
        own[-1].largest if sizes.shape and own else workload.Sizes(sizes.length, num_answer=sizes.num_answer)
    )


def _weak_slots(work: workload.Workload) -> list[str]:
    """Of weak models, one of each name: they have the same programs."""
    return list({model.name: slot for slot, model in work.models.items() if model.role == "weak"}.values())


def largest_method(config: ml_collections.ConfigDict) -> str:
    """The method with the most in a batch: the subject of the experiment where it is among several."""
    by_size = [name for name in config.methods if objectives.trains_p_ik(config, registry.METHODS[name])]
    subjects = [name for name in by_size if registry.METHODS[name].role == "subject"]
    return (subjects or by_size or list(config.methods))[0]


def first_subject(config: ml_collections.ConfigDict) -> str:
    """Of methods that write, all of which have one train step: the first subject of the experiment, or the first."""
    subjects = [name for name in config.methods if completion_methods.find(name).role == "subject"]
    return (subjects or list(config.methods))[0]
