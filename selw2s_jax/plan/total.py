"""How long a whole run takes by the estimate of a plan: the calls of all its stages, times the seconds of each.

Counted are what devices do: train steps, and passes over texts that are scored, embedded or answered. What is not known
beforehand is left out: loading, compiling, savings of states, answers that are written at length, curves over training.
"""

from collections.abc import Sequence
from typing import NamedTuple

import ml_collections

from selw2s_jax.hf import pretrained
from selw2s_jax.method import registry
from selw2s_jax.plan import compiled, estimate, programs, targets, workload
from selw2s_jax.stages import answer, embed, predict, probe, train
from selw2s_jax.stages import stage as stage_lib


class Work(NamedTuple):
    """What stages of one kind do with one program.

    Attributes:
        program: its kind: "train", "score", "embed" or "answer".
        slot: of the model.
        method: whose train step it is; "" of passes over texts.
        counts: of each stage, its train steps, or the texts that it reads.
        length: tokens of a text, where they were counted; None: those that are planned for.
        shape: rows of a micro-batch and their tokens, the largest, where they were counted.
        share: of the tokens of such batches, those of the batches on average.
    """

    program: str
    slot: str
    method: str
    counts: tuple[int, ...]
    length: int | None = None
    shape: tuple[int, int] | None = None
    share: float = 1.0


class Row(NamedTuple):
    """Work with its time: so many calls of a program of so many seconds each, `seconds` together."""

    name: str
    model: str
    stages: int
    calls: int
    call_s: float
    seconds: float


class Total(NamedTuple):
    """The time of a run.

    Attributes:
        length: that every example has; None where they are as they were counted.
        hours: from begin to end, groups of devices side by side (`mesh.num_groups`).
        device_hours: of all devices together.
    """

    length: int | None
    rows: tuple[Row, ...]
    hours: float
    device_hours: float


def of_stages(stages: Sequence[stage_lib.Stage], student: str) -> tuple[Work, ...]:
    """The work of a run's stages, of all seeds.

    Args:
        student: the method whose train step stands for those of all students with P(IK).
    """
    found: dict[tuple[str, str, str], list[int]] = {}
    for stage in stages:
        if (work := _work(stage, student)) is not None:
            found.setdefault(work[0], []).append(work[1])
    return tuple(Work(*key, tuple(counts)) for key, counts in found.items())


def _work(stage: stage_lib.Stage, student: str) -> tuple[tuple[str, str, str], int] | None:
    """Program, slot and method, and how many steps or texts; None of what takes next to nothing, or is not known."""
    if isinstance(stage, probe.Probe):
        return None
    if isinstance(stage, train.Train):
        if stage.task is None:
            method = "p_ik_only"
        elif stage.p_ik is not None:
            method = student
        else:
            method = "supervised" if stage.role in ("weak", "ceiling") else registry.BASELINE
        return ("train", stage.model.slot, method), stage.num_steps
    if isinstance(stage, predict.Predict) and stage.embedded is None:
        return ("score", stage.trained.model.slot, ""), len(stage.split)
    if isinstance(stage, embed.Embed):
        return ("embed", stage.model.slot, ""), len(stage.split)
    if isinstance(stage, answer.Answer) and stage.sampling is None:
        return ("answer", stage.model.slot, ""), len(stage.split)
    return None


def as_counted(works: Sequence[Work], trainings: Sequence[workload.Training]) -> tuple[Work, ...]:
    """The work with the lengths of the data at hand: of the batches of its training, or of one of its model."""
    found = []
    for work in works:
        same = [one for one in trainings if one.role == work.slot and one.shapes]
        with_p_ik = work.method not in ("", "supervised", registry.BASELINE)
        of_kind = [one for one in same if ("p_ik" in one.num_examples) == with_p_ik] or same
        if of_kind:
            one = of_kind[-1]
            shape = max(one.shapes, key=lambda shape: shape[0] * shape[1])
            if work.program == "train":
                work = work._replace(length=shape[1], shape=shape, share=one.mean_share)
            else:
                work = work._replace(length=round(one.mean_length))
        found.append(work)
    return tuple(found)


def estimated(
    config: ml_collections.ConfigDict,
    works: Sequence[Work],
    models: dict[str, pretrained.Model],
    length: int | None,
    outcomes: Sequence[compiled.Compiled],
    made: programs.Programs,
    target: targets.Target,
) -> Total | None:
    """The time of all work; None for a target without published peaks.

    Programs that were not compiled take what their products and memory traffic do, without communication.

    Args:
        length: tokens of every example; None where `as_counted` has said them.
    """
    rows = []
    for work in works:
        program = _make(made, work, models[work.slot], work.length or length)
        seconds = _seconds(program, outcomes, target)
        if seconds is None:
            return None
        per_call = 1 if work.program == "train" else program.num_examples
        calls = sum(-(-count // per_call) for count in work.counts)
        call_s = seconds * work.share
        rows.append(Row(program.name, program.model.title, len(work.counts), calls, call_s, calls * call_s))
    hours = sum(row.seconds for row in rows) / config.mesh.num_groups / 3600
    return Total(length, tuple(rows), hours, hours * target.num_devices)


def _make(made: programs.Programs, work: Work, model: pretrained.Model, length: int) -> programs.Program:
    if work.program == "train":
        return made.train_step(model, work.method, length, shape=work.shape)
    if work.program == "score":
        return made.scores(model, length, p_ik_head=False)
    return made.embeddings(model, length) if work.program == "embed" else made.answers(model, length)


def _seconds(
    program: programs.Program, outcomes: Sequence[compiled.Compiled], target: targets.Target
) -> float | None:
    """Of one call: as it was compiled where it was, else by formula."""
    for outcome in outcomes:
        if outcome.time is not None and _is_same(outcome.program, program):
            return outcome.time.total_s
    flops, traffic = programs.costs(program)
    time = estimate.roofline(
        target.chip,
        flops=flops.total / program.mesh.size,
        memory_bytes=traffic.total,
        collective_bytes=0,
        interconnect_bytes_per_s=target.interconnect_bytes_per_s,
    )
    return None if time is None else time.total_s


def _is_same(one: programs.Program, other: programs.Program) -> bool:
    named = [(it.name, it.model.slot, it.length, it.num_rows, it.row_length) for it in (one, other)]
    return named[0] == named[1]
