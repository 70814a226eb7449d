"""How long a whole run takes by the estimate of a plan: the calls of all its stages, times the seconds of each.

Counted are what devices do: train steps, passes over texts that are scored, embedded or answered, and answers that
models learnt to write. What is not known beforehand is left out: loading, compiling, savings of states, solutions that
an untouched model writes for P(IK), curves over training.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import ml_collections

from selw2s_jax.hf import pretrained
from selw2s_jax.inference import writing as inference_writing
from selw2s_jax.method import registry
from selw2s_jax.plan import compiled, estimate, programs, targets, workload, writing
from selw2s_jax.stages import answer, complete, embed, predict, probe, train, written
from selw2s_jax.stages import stage as stage_lib


class Work(NamedTuple):
    """What stages of one kind do with one program.

    Attributes:
        program: its kind: "train", "complete", "score", "embed", "answer", "candidates" or "write".
        slot: of the model.
        method: whose train step it is; of what is written, the most tokens of an answer; "" of the others.
        counts: of each stage, its train steps, or the texts that it reads.
        sizes: of its texts, of train steps the largest shape, where they were counted; None: those planned for.
        share: of the tokens of such batches, those of the batches on average.
    """

    program: str
    slot: str
    method: str
    counts: tuple[int, ...]
    sizes: workload.Sizes | None = None
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


@functools.singledispatch
def _work(stage: stage_lib.Stage, student: str) -> tuple[tuple[str, str, str], int] | None:
    """Program, slot and method, and how many steps or texts; None of what takes next to nothing, or is not known."""
    del stage, student
    return None


@_work.register
def _(stage: probe.Probe, student: str):
    return None


@_work.register
def _(stage: train.Train, student: str):
    if stage.task is None:
        method = "p_ik_only"
    elif stage.p_ik is not None:
        method = student
    else:
        method = "supervised" if stage.role in ("weak", "ceiling") else registry.BASELINE
    return ("train", stage.model.slot, method), stage.num_steps


@_work.register
def _(stage: complete.Complete, student: str):
    return ("complete", stage.model.slot, ""), stage.num_steps


@_work.register
def _(stage: predict.Predict, student: str):
    return (("score", stage.trained.model.slot, ""), len(stage.split)) if stage.embedded is None else None


@_work.register
def _(stage: embed.Embed, student: str):
    return ("embed", stage.model.slot, ""), len(stage.split)


@_work.register
def _(stage: answer.Answer, student: str):
    return (("answer", stage.model.slot, ""), len(stage.split)) if stage.sampling is None else None


@_work.register
def _(stage: written.Write, student: str):
    if stage.how.is_scored:
        return ("candidates", stage.model.slot, ""), sum(map(len, stage.asked.candidates or ()))
    return ("write", stage.model.slot, str(stage.how.max_new_tokens)), len(stage.asked)


def as_counted(works: Sequence[Work], trainings: Sequence[workload.Training]) -> tuple[Work, ...]:
    """The work with the lengths of the data at hand: of the batches of its training, or of one of its model."""
    found = []
    for work in works:
        same = [one for one in trainings if one.role == work.slot and one.shapes]
        with_p_ik = work.program == "train" and work.method not in ("", "supervised", registry.BASELINE)
        of_kind = [one for one in same if ("p_ik" in one.num_examples) == with_p_ik] or same
        if of_kind:
            one = of_kind[-1]
            shape = max(one.shapes, key=lambda shape: shape[0] * shape[1])
            sizes = one.sizes(shape)
            if work.program in ("train", "complete"):
                work = work._replace(sizes=sizes, share=one.mean_share)
            else:
                work = work._replace(
                    sizes=workload.Sizes(round(one.mean_length), num_answer=sizes.num_answer)
                )
        found.append(work)
    return tuple(found)


def estimated(
    config: ml_collections.ConfigDict,
    works: Sequence[Work],
    models: dict[str, pretrained.Model],
    sizes: workload.Sizes | None,
    outcomes: Sequence[compiled.Compiled],
    made: programs.Programs,
    target: targets.Target,
) -> Total | None:
    """The time of all work; None for a target without published peaks.

    Programs that were not compiled take what their products and memory traffic do, without communication; what is
    written, what its tokens do (`plan.writing`).

    Args:
        sizes: of every example; None where `as_counted` has said them.
    """
    rows = []
    for work in works:
        model = models[work.slot]
        call = _call(made, work, model, work.sizes or sizes, outcomes, target)
        if call is None:
            return None
        calls = sum(-(-count // call.texts) for count in work.counts)
        call_s = call.seconds * work.share
        rows.append(Row(call.name, model.title, len(work.counts), calls, call_s, calls * call_s))
    hours = sum(row.seconds for row in rows) / config.mesh.num_groups / 3600
    length = None if sizes is None else sizes.length
    return Total(length, tuple(rows), hours, hours * target.num_devices)


class _Call(NamedTuple):
    name: str
    texts: int  # that it reads or answers; 1 of a train step
    seconds: float


def _call(
    made: programs.Programs,
    work: Work,
    model: pretrained.Model,
    sizes: workload.Sizes,
    outcomes: Sequence[compiled.Compiled],
    target: targets.Target,
) -> _Call | None:
    """One call of what work does; None without published peaks."""
    if work.program == "write":
        seconds = writing.block_seconds(made, model, sizes, int(work.method), target)
        return None if seconds is None else _Call("write", inference_writing.BLOCK, seconds)
    program = _MAKERS[work.program](made, work, model, sizes)
    seconds = _seconds(program, outcomes, target)
    is_step = work.program in ("train", "complete")
    return None if seconds is None else _Call(program.name, 1 if is_step else program.num_examples, seconds)


_MAKERS: dict[str, Callable[..., programs.Program]] = {
    "train": lambda made, work, model, sizes: made.train_step(
        model, work.method, sizes.length, shape=sizes.shape
    ),
    "complete": lambda made, work, model, sizes: made.completion_step(model, **sizes.of_completion),
    "score": lambda made, work, model, sizes: made.scores(model, sizes.length, p_ik_head=False),
    "embed": lambda made, work, model, sizes: made.embeddings(model, sizes.length),
    "answer": lambda made, work, model, sizes: made.answers(model, sizes.length),
    "candidates": lambda made, work, model, sizes: made.candidates(model, sizes.length, sizes.num_answer),
}


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
