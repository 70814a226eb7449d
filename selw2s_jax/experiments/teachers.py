"""Whom a student learns from: the weak model, or earlier students that learnt from it, and on which rows of its half.

A teacher is a function of the experiment, the base seed and the method's name that says what is taught. Trainings in
between are stages like others, of models as `registry.BASELINE` trains them. No ground truth of the half is looked at.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections

from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.method import registering, registry, stages_of_labels
from selw2s_jax.stages import chosen_rows, examples

WEAK = "weak"  # the teacher of every method that names none
BY_WEAK = "weak model"


class Link(NamedTuple):
    """Labels on the way to those that are taught, for a report to say how many of them are right.

    Attributes:
        by: whose they are.
        labels: a column `[N, 2]` of the student's half.
        of: what the rows are called.
        rows: on which they are counted; None for all.
        is_taught: whether the student learns these labels on these rows.
    """

    by: str
    labels: examples.Column
    of: str = "all"
    rows: chosen_rows.Rows | None = None
    is_taught: bool = False


class Lesson(NamedTuple):
    """What a student is taught.

    Attributes:
        labels: a column `[N, 2]` of its half, class probabilities of all rows.
        rows: which of them it is trained on, in [1, N] of them; None for all.
        links: what a report says of them; none where the weak model is all that there is to say.
    """

    labels: examples.Column
    rows: chosen_rows.Rows | None = None
    links: tuple[Link, ...] = ()


# (selective.Experiment, base seed, name of the method) -> what is taught.
Make = Callable[[Any, int, str], Lesson]


class Teacher(NamedTuple):
    """A teacher.

    Attributes:
        make: says what it teaches.
        reads: keys of the config, or sections, by dotted name, that are read for it alone.
    """

    make: Make
    reads: tuple[str, ...] = ()


TEACHERS: dict[str, Teacher] = {}


def register(name: str, *, reads: tuple[str, ...] = ()):
    """Registers a teacher; a decorator.

    Args:
        reads: as `Teacher.reads`.

    Raises:
        ValueError: the name is taken, as `registering.claim` says.
    """

    def add(make: Make) -> Make:
        registering.claim("teacher", name, is_taken=name in TEACHERS)
        TEACHERS[name] = Teacher(make, reads)
        return make

    return add


def read_by(config: ml_collections.ConfigDict) -> set[str]:
    """The keys and sections that the teachers of a run's methods read."""
    methods = [registry.METHODS[name] for name in config.methods if name in registry.METHODS]
    found = [TEACHERS[method.teacher] for method in methods if method.teacher in TEACHERS]
    return {key for teacher in found for key in teacher.reads}


def chain_models(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """The names of the models between the weak and the strong one; none where no method of the run has a chain."""
    return tuple(config.chain.models) if "chain" in read_by(config) else ()


@register(WEAK)
def _weak(experiment, seed, name):
    del name
    return Lesson(experiment.weak_column(seed))


def _two_stage(experiment, seed, name, *, at_random: bool) -> Lesson:
    """Weak labels on A; on B, of the other rows, labels of a student of A (arXiv 2503.04249).

    The student starts from the pretrained model again. Where nothing is left to B it learns what that first one did.
    """
    section, half = experiment.config.two_stage, experiment.inputs.by_seed[seed].student_half
    weak, every = experiment.weak_column(seed), chosen_rows.Rows(half)
    if at_random:
        first = chosen_rows.AtRandom(half, every, section.share_weak, experiment.seed_for(seed, "sampling"))
    else:
        first = chosen_rows.MostConfident(half, every, section.share_weak, weak)
    if len(half) and not len(first):
        raise UserError(
            f"config.two_stage.share_weak={section.share_weak} keeps none of the {len(half)} rows of the student's "
            "half: raise it"
        )
    as_taught = (lambda labels: labels) if section.soft else examples.Hard
    links, others = [Link(BY_WEAK, weak, "A", first, is_taught=True)], chosen_rows.Others(half, first)
    if len(half) and not stages_of_labels.num_kept(len(others), section.share_student):
        links.append(Link(BY_WEAK, weak, "dropped", others))
        return Lesson(as_taught(weak), first, _of_some_rows(links))
    student = experiment.earlier_student(
        f"{name} 1, seed {seed}", seed, experiment.inputs.strong, as_taught(weak), first
    )
    relabelled = experiment.labels_by(f"labels of {name} 1, seed {seed}", student, seed)
    second = chosen_rows.MostConfident(half, others, section.share_student, relabelled)
    taught = chosen_rows.Union(half, first, second)
    for of, rows in (("B", second), ("dropped", chosen_rows.Others(half, taught))):
        links += [
            Link("student 1", relabelled, of, rows, is_taught=rows is second),
            Link(BY_WEAK, weak, of, rows),
        ]
    labels = chosen_rows.Spliced(first, as_taught(weak), as_taught(relabelled))
    return Lesson(labels, taught, _of_some_rows(links))


def _of_some_rows(links: list[Link]) -> tuple[Link, ...]:
    return tuple(link for link in links if len(link.rows))


register("two_stage", reads=("two_stage",))(functools.partial(_two_stage, at_random=False))
register("two_stage_random", reads=("two_stage", "seed.sampling"))(
    functools.partial(_two_stage, at_random=True)
)


@register("chain", reads=("chain", "pretraining.chain"))
def _chain(experiment, seed, name):
    """Weak -> m1 -> m2 -> strong: each learns the labels of the one before (arXiv 2312.09390, section 4.3.1)."""
    return _handed_on(experiment, seed, name, experiment.inputs.chain)


@register("iterate", reads=("iterate",))
def _iterate(experiment, seed, name):
    """The strong model on the labels of a student of itself, `iterate.rounds` times (as EleutherAI/w2s iterates)."""
    models = [experiment.inputs.strong] * experiment.config.iterate.rounds
    return _handed_on(experiment, seed, name, models)


def _handed_on(experiment, seed: int, name: str, models: list[pretrained.Model]) -> Lesson:
    """The labels of the last of these models; each is trained on those of the one before, the first on weak ones."""
    labels = experiment.weak_column(seed)
    links = [Link(BY_WEAK, labels)]
    for number, model in enumerate(models, start=1):
        student = experiment.earlier_student(f"{name} {number}, seed {seed}", seed, model, labels)
        labels = experiment.labels_by(f"labels of {name} {number}, seed {seed}", student, seed)
        links.append(Link(f"student {number}, {model.title}", labels))
    return Lesson(labels, None, (*links[:-1], links[-1]._replace(is_taught=True)))
