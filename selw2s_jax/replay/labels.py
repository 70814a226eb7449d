"""A student's training labels under another setting: its own label rule on what its trace kept of every step.

The rule sees what it saw in training: the columns of the examples, the scores of the student's own P(IK) as they were
at each step, and the batches as they were. Two things are kept of no step. The student's class logits: so labels that
it made as it went cannot be replayed. And its embeddings, which say who smooths whom in a batch, unless heads alone
were trained, whose embeddings are a stage. Without them, Eq. 2 is solved for the mean of a row's neighbours,

    mean = (target - alpha prior) / (1 - alpha),

which holds for every row that was smoothed, with alpha as in the run and below 1. Given to the rule as its column of
neighbours, it makes any other alpha exact. Another gamma changes priors, and so the means of the batches that have such
rows: there the mean is only known to be in [0, 1], and the class of the label where both ends agree.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from selw2s_jax.data import batches, splits
from selw2s_jax.method import label_rules, objectives
from selw2s_jax.stages import train

_MOST_NUMBERS = 1 << 25  # of embeddings at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Student:
    """A student that is trained.

    Attributes:
        name: of its method.
        stage: its training.
        half: the split that it was trained on.
        trace: an entry per example and step: `step`, `example_id`, `p_ik`, `ik_mask`, and the probability of class 1 of
            `prior` and `target`.
    """

    name: str
    seed: int
    stage: train.Train
    half: splits.Split
    trace: dict[str, np.ndarray]

    @property
    def place(self) -> np.ndarray:
        """The row of the half that each entry of the trace is of, `[L]`."""
        rows = {name: row for row, name in enumerate(self.half.ids)}
        return np.array([rows[name] for name in self.trace["example_id"]])


class Replayed(NamedTuple):
    """Labels of L entries of a trace, in its order.

    Attributes:
        ik_mask: `[L]` bool.
        prior, target: `[L]` probabilities of class 1.
        lowest, highest: `[L]` bounds of the targets; the same where they are known exactly.
    """

    ik_mask: np.ndarray
    prior: np.ndarray
    target: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


def replay(
    student: Student,
    objective: objectives.Objective,
    columns: Mapping[str, np.ndarray],
    *,
    p_ik: np.ndarray,
    columns_by_step: Mapping[str, np.ndarray] | None = None,
) -> Replayed:
    """The labels that a rule gives to the rows of a student's batches.

    Args:
        objective: with the rule, and its options under the setting.
        columns: by name, `[N, ...]` in the order of the half: those that the rule reads, and the embeddings where they
            are kept.
        p_ik: `[L]` of the student's head at each entry of its trace; of anything where the rule does not ask.
        columns_by_step: `[num_steps, N, ...]`, the others that the rule reads.
    """
    step, place = student.trace["step"], student.place
    values = {name: column[place] for name, column in columns.items()}
    values |= {name: column[step, place] for name, column in (columns_by_step or {}).items()}
    options = dict(objective.rule_options)
    if "is_shuffled" in options:
        options["is_shuffled"] = False  # the trace has the scores as each row was given them
    if "alpha" not in options or options.get("over") == "set" or batches.EMBEDDINGS in columns:
        labels = _apply(objective.label_rule, options, student, values, p_ik)
        return Replayed(*labels, labels.target, labels.target)
    return _without_embeddings(objective.label_rule, options, student, values, p_ik)


class _Applied(NamedTuple):
    """What a rule gives: the first fields of `Replayed`."""

    ik_mask: np.ndarray
    prior: np.ndarray
    target: np.ndarray


def _apply(
    name: str,
    options: Mapping[str, Any],
    student: Student,
    values: Mapping[str, np.ndarray],
    p_ik: np.ndarray,
) -> _Applied:
    """The labels by a rule, batch by batch as in training, of values `[L, ...]`."""
    rule = jax.vmap(label_rules.get(name, **options))
    entries, is_there = _batches(student.trace["step"])
    values = dict(values)
    embeddings = values.pop(batches.EMBEDDINGS, np.zeros((len(p_ik), 1), np.float32))
    num_steps = student.stage.num_steps
    applied = _Applied(np.zeros(len(p_ik), bool), *(np.zeros(len(p_ik), np.float32) for _ in range(2)))
    at_a_time = max(1, _MOST_NUMBERS // (entries.shape[1] * embeddings.shape[1]))
    for start in range(0, len(entries), at_a_time):
        rows, there = entries[start : start + at_a_time], is_there[start : start + at_a_time]
        labels = rule(
            label_rules.RuleInputs(
                class_logits=jnp.zeros((*rows.shape, 2)),
                p_ik=jnp.asarray(p_ik[rows], jnp.float32),
                embeddings=jnp.asarray(embeddings[rows]),
                columns={column: jnp.asarray(of_all[rows], jnp.float32) for column, of_all in values.items()},
                example_mask=jnp.asarray(there),
                step_fraction=jnp.asarray(student.trace["step"][rows[:, 0]] / num_steps, jnp.float32),
            )
        )
        parts = (labels.ik_mask, labels.prior[..., 1], labels.targets[..., 1])
        for of_all, part in zip(applied, parts, strict=True):
            of_all[rows[there]] = np.asarray(part)[there]
    return applied


def _batches(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entries of each step, `[S, B]`, the shorter ones filled with some entry; and which are no filling."""
    order = np.argsort(step, kind="stable")
    _, starts, counts = np.unique(step[order], return_index=True, return_counts=True)
    places = np.arange(counts.max())
    is_there = places < counts[:, None]
    return order[np.where(is_there, starts[:, None] + places, starts[:, None])], is_there


def _without_embeddings(
    name: str, options: dict[str, Any], student: Student, values: dict[str, np.ndarray], p_ik: np.ndarray
) -> Replayed:
    """Labels smoothed over the batch, by the means of neighbours that the trace implies."""
    trace, options = student.trace, options | {"over": "set"}  # the same sum, with the means from a column
    means, known = implied_means(trace, dict(student.stage.objective.rule_options)["alpha"])

    def applied(of_class_1: np.ndarray) -> _Applied:
        column = np.stack([1 - of_class_1, of_class_1], axis=-1)
        return _apply(name, options, student, values | {"neighbours": column}, p_ik)

    prior = applied(means).prior
    step, changed = trace["step"], prior != trace["prior"]
    size, is_changed = np.bincount(step), np.bincount(step, weights=changed) > 0
    exact = known & ~is_changed[step]
    if exact.all():
        labels = applied(means)
        return Replayed(*labels, labels.target, labels.target)
    # The best guess where a mean is not known at all is that of the batch.
    of_batch = np.bincount(step, weights=prior)[step] / size[step]
    labels = applied(np.where(known, means, of_batch))
    lowest, highest = (applied(np.where(exact, means, bound)).target for bound in (0.0, 1.0))
    return Replayed(*labels, lowest, highest)


def implied_means(trace: Mapping[str, np.ndarray], alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The mean label of each row's neighbours in its batch, by Eq. 2 of what the trace has.

    Worked out in float64: the difference of two numbers that float32 holds to 6e-8 is divided by 1 - alpha, and
    multiplied by it again where alpha is as in the run.

    Args:
        alpha: of the run.

    Returns:
        Probabilities of class 1 `[L]`, 0.5 where it is not known; and where it is: rows that were smoothed, at an alpha
        below 1.
    """
    known = ~trace["ik_mask"].astype(bool) & (alpha < 1)
    prior, target = (trace[name].astype(np.float64) for name in ("prior", "target"))
    means = (target - alpha * prior) / (1 - alpha) if alpha < 1 else prior
    return np.where(known, np.clip(means, 0, 1), 0.5), known
