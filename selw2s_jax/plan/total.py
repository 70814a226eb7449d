"""How long a whole run takes by the estimate of a plan: the calls of all its stages, times the seconds of each.

Counted are what devices do: train steps, passes over texts that are scored, embedded or answered, and the answers and
rewordings of runs whose models write. What is not known beforehand is left out: loading, compiling, savings of states,
solutions sampled for P(IK) of class heads, curves over training.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import ml_collections

from selw2s_jax.hf import pretrained
from selw2s_jax.inference import writing as inference_writing
from selw2s_jax.method import registry
from selw2s_jax.plan import compiled, estimate, programs, targets, workload, writing
from selw2s_jax.stages import answer, complete, embed, predict, probe, reword, train, written
from selw2s_jax.stages import stage as stage_lib


class Work(NamedTuple):
    """What stages of one kind do with one program.

    Attributes:
        program: its kind: "train", "complete", "score", "embed", "answer", "candidates", "write" or "reword".
        slot: of the model.
        counts: of each stage, its train steps, or the texts that it reads.
        method: whose train step it is; "" of the others.
        most_tokens: of a text that is written.
        sizes: of its texts, of train steps the largest shape, where they were counted; None: those planned for.
        share: of the tokens of such batches, those of the batches on average.
    """

    program: str
    slot: str
    counts: tuple[int, ...]
    method: str = ""
    most_tokens: int = 0
    sizes: workload.Sizes | None = None
    share: float = 1.0


class Row(NamedTuple):
    """Work with its time: so many calls of a program of so many seconds each, `seconds` together.

    Attributes:
        cache_bytes: of what is written, on each device beside the model's weights (`writing.Cache`).
    """

    name: str
    model: str
    stages: int
    calls: int
    call_s: float
    seconds: float
    cache_bytes: int = 0


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
    found: dict[Work, tuple[int, ...]] = {}
    for stage in stages:
        if (work := _work(stage, student)) is not None:
            kind = work._replace(counts=())
            found[kind] = found.get(kind, ()) + work.counts
    return tuple(kind._replace(counts=counts) for kind, counts in found.items())


@functools.singledispatch
def _work(stage: stage_lib.Stage, student: str) -> Work | None:
    """That of one stage; None of what takes next to nothing, or is not known."""
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
    return Work("train", stage.model.slot, (stage.num_steps,), method)


@_work.register
def _(stage: complete.Complete, student: str):
    return Work("complete", stage.model.slot, (stage.num_steps,))


@_work.register
def _(stage: predict.Predict, student: str):
    return Work("score", stage.trained.model.slot, (len(stage.split),)) if stage.embedded is None else None


@_work.register
def _(stage: embed.Embed, student: str):
    return Work("embed", stage.model.slot, (len(stage.split),))


@_work.register
def _(stage: answer.Answer, student: str):
    return Work("answer", stage.model.slot, (len(stage.split),)) if stage.sampling is None else None


@_work.register
def _(stage: written.Write, student: str):
    slot, places = stage.model.slot, _answered(stage)
    if stage.how.is_scored:
        candidates = stage.asked.candidates or ()
        return Work("candidates", slot, (sum(len(candidates[place]) for place in places),))
    return Work("write", slot, (len(places),), most_tokens=stage.how.max_new_tokens)


@_work.register
def _(stage: reword.Reword, student: str):
    return Work("reword", stage.model.slot, (len(stage.asked),), most_tokens=stage.how.max_new_tokens)


def _answered(stage: written.Write) -> Sequence[int]:
    """The prompts that are answered, by place: of those of a question that are alike one, but for samples."""
    if stage.how.is_sampled or stage.rewording is not None:
        return range(len(stage.asked))
    shown = zip(stage.asked.places, stage.asked.prompts, strict=True)
    return list({(question, text): place for place, ((question, _), text) in enumerate(shown)}.values())


def as_counted(works: Sequence[Work], trainings: Sequence[workload.Training]) -> tuple[Work, ...]:
    """The work with the lengths of the data at hand: of the batches of its training, or of one of its model."""
    found = []
    for work in works:
        same = [one for one in trainings if one.role == work.slot and one.shapes]
        with_p_ik = work.program == "train" and work.method not in ("", "supervised", registry.BASELINE)
        of_kind = [one for one in same if ("p_ik" in one.num_examples) == with_p_ik] or same
        # Where models write, class heads are those of P(IK).
        if work.program in ("train", "score"):
            of_kind = [one for one in same if one.is_of_p_ik_alone] or of_kind
        if of_kind:
            one = of_kind[-1]
            sizes = one.largest
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
        spent = (calls, call_s, calls * call_s)
        rows.append(Row(call.name, model.title, len(work.counts), *spent, call.cache_bytes))
    hours = sum(row.seconds for row in rows) / config.mesh.num_groups / 3600
    length = None if sizes is None else sizes.length
    return Total(length, tuple(rows), hours, hours * target.num_devices)


class _Call(NamedTuple):
    name: str
    texts: int  # that it reads or answers; 1 of a train step
    seconds: float
    cache_bytes: int = 0


def _call(
    made: programs.Programs,
    work: Work,
    model: pretrained.Model,
    sizes: workload.Sizes,
    outcomes: Sequence[compiled.Compiled],
    target: targets.Target,
) -> _Call | None:
    """One call of what work does; None without published peaks."""
    if work.program in ("write", "reword"):
        return _written(made, work, model, sizes, target)
    program = _MAKERS[work.program](made, work, model, sizes)
    seconds = _seconds(program, outcomes, target)
    is_step = work.program in ("train", "complete")
    return None if seconds is None else _Call(program.name, 1 if is_step else program.num_examples, seconds)


def _written(made, work: Work, model: pretrained.Model, sizes: workload.Sizes, target) -> _Call | None:
    """A block of texts. Rewordings are as long as the prompts of the questions, without the examples before them."""
    num_answer = sizes.of_completion["num_answer"]
    prompt = sizes.of_completion["length"] - num_answer
    if work.program == "reword":
        num_answer = min(prompt, work.most_tokens)
    seconds = writing.block_seconds(made, model, prompt, num_answer, work.most_tokens, target)
    cache = writing.cache(made, model, prompt, work.most_tokens)
    return None if seconds is None else _Call(work.program, inference_writing.BLOCK, seconds, cache.num_bytes)


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
    """Whether both are one program, whoever's model runs it and however many of a row's tokens are padding."""
    costs = ("num_predicted", "num_trained")
    named = [
        (it.name, it.model.config, it.num_rows, it.row_length, *map(it.costs.get, costs))
        for it in (one, other)
    ]
    return named[0] == named[1]
