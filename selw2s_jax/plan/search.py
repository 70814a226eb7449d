"""Looks for a layout, or for settings with which a program fits, by compiling some of them."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.models import registry
from selw2s_jax.plan import compiled, limits, programs, targets
from selw2s_jax.training import layouts

# Of an exploration: programs compiled at most, the fastest by formula among them that fit whatever they take, and how
# much less than those before one of the others has to take. The rough count is at most so much too large.
_MOST_TRIALS, _FASTEST = 6, 3
_LEANER, _LEAST_OF_ROUGH = 0.9, 0.5

Overrides = dict[str, Any]  # by dotted key of the config
Make = Callable[[ml_collections.ConfigDict], programs.Program]


class Trial(NamedTuple):
    """A program with some settings changed."""

    overrides: Overrides
    outcome: compiled.Compiled


def with_overrides(config: ml_collections.ConfigDict, overrides: Overrides) -> ml_collections.ConfigDict:
    """A copy of a config with other values at some dotted keys."""
    config = config.copy_and_resolve_references()
    for key, value in overrides.items():
        section, _, leaf = key.rpartition(".")
        config_lib.get(config, section)[leaf] = value
    return config


def overrides_of(config: ml_collections.ConfigDict, layout: layouts.Layout) -> Overrides:
    """A layout as values of a config."""
    return {
        "execution.remat": layout.remat,
        "mesh.shape": layout.mesh_shape,
        "training.micro_batch_size": config.training.batch_size // layout.num_micro,
    }


def given(config: ml_collections.ConfigDict) -> layouts.Given:
    """What a config says of the layout of the strong model's train step."""
    micro, remat = config.training.micro_batch_size, config.execution.remat
    return layouts.Given(
        None if config.mesh.shape is None else tuple(config.mesh.shape),
        None if remat == layouts.AUTO else remat,
        None if micro is None else config.training.batch_size // micro,
    )


def resolve(config: ml_collections.ConfigDict, make: Make, target: targets.Target) -> Overrides:
    """What a run would choose of the layout that its config leaves open; {} where it leaves nothing open.

    Args:
        make: the train step of a config.
    """

    def count(program: programs.Program) -> int:
        outcome = compiled.compile_program(program, target, quick=True)
        return max(outcome.peak_bytes, target.usable_bytes + 1) if outcome.is_refused else outcome.peak_bytes

    return choose(config, make, _num_devices(config, target), target.usable_bytes, count)


def choose(
    config: ml_collections.ConfigDict,
    make: Make,
    num_devices: int,
    usable_bytes: int,
    count: Callable[[programs.Program], int],
) -> Overrides:
    """As `resolve`, of devices that have `usable_bytes` each; `count` says what a program needs of them."""
    if (said := given(config)).layout is not None:
        return {}
    work = work_of(config, make(config))
    options = layouts.candidates(work, num_devices, said)
    found = layouts.search(
        work,
        options,
        usable_bytes,
        lambda layout: count(make(with_overrides(config, overrides_of(config, layout)))),
    )
    leanest = min(options, key=lambda layout: layouts.rough_bytes(work, layout))
    return overrides_of(config, leanest if found.chosen is None else found.chosen.layout)


def explore(config: ml_collections.ConfigDict, make: Make, target: targets.Target) -> list[Trial]:
    """Compiles a step in the layouts that may be the best: those that fit first, the fastest of them first.

    Whatever the config says of the layout, all are candidates. Compiled are the fastest by formula until some fit, and
    then those that are the fastest for the memory that they take: `_MOST_TRIALS` in all, each quickly
    (`compiled.compile_program`).

    Args:
        make: the program of a config.
    """
    program = make(config)
    work, step = work_of(config, program), programs.step_of(program)
    options = layouts.candidates(work, _num_devices(config, target))
    if target.chip.bf16_flops is not None:
        options.sort(key=lambda layout: _seconds(step, layout, target))
    rough = {layout: layouts.rough_bytes(work, layout) for layout in options}

    def try_out(layout: layouts.Layout) -> Trial | None:
        overrides = overrides_of(config, layout)
        try:
            program = make(with_overrides(config, overrides))
        except UserError:  # rows of a batch that the mesh does not divide
            return None
        if program.state_bytes > target.usable_bytes:
            return None
        return Trial(overrides, compiled.compile_program(program, target, quick=True))

    return sorted(_try_some(rough, target.usable_bytes, try_out), key=_order)


def _try_some(
    rough: dict[layouts.Layout, int], usable_bytes: int, try_out: Callable[[layouts.Layout], Trial | None]
) -> list[Trial]:
    """Tries a few layouts: the first that fit, then ever leaner ones, and the leanest.

    Args:
        rough: bytes that each needs, roughly, in the order of their time; what was tried corrects it.
        try_out: None of a layout that cannot be.
    """
    trials: dict[layouts.Layout, Trial] = {}
    correction = dict.fromkeys((layout.remat for layout in rough), _LEAST_OF_ROUGH)
    leanest, num_fitting, least = min(rough, key=rough.__getitem__), 0, math.inf

    def run(layout: layouts.Layout) -> None:
        nonlocal num_fitting, least
        trial = try_out(layout)
        if trial is None:
            return
        trials[layout] = trial
        if trial.outcome.fits:
            num_fitting, least = num_fitting + 1, min(least, rough[layout])
        else:
            needed = trial.outcome.peak_bytes / rough[layout]
            correction[layout.remat] = max(correction[layout.remat], needed)

    for layout in rough:
        may_fit = correction[layout.remat] * rough[layout] <= usable_bytes
        if may_fit and (num_fitting < _FASTEST or rough[layout] < _LEANER * least):
            run(layout)
        if len(trials) == _MOST_TRIALS - 1:
            break
    if leanest not in trials:
        run(leanest)
    return list(trials.values())


def _order(trial: Trial):
    outcome, spent = trial.outcome, trial.outcome.time
    seconds = (0.0, 0.0) if spent is None else (spent.total_s, sum(spent[:3]))
    return (compiled.VERDICTS.index(outcome.verdict), *seconds, outcome.peak_bytes)


def frontier(trials: Sequence[Trial]) -> list[Trial]:
    """Of trials those that no other beats in both memory and time, the fastest first; none without times."""
    timed = [trial for trial in trials if trial.outcome.time is not None]
    found: list[Trial] = []
    for trial in sorted(timed, key=lambda one: (one.outcome.time.total_s, one.outcome.peak_bytes)):
        if not found or trial.outcome.peak_bytes < found[-1].outcome.peak_bytes:
            found.append(trial)
    return found


def work_of(config: ml_collections.ConfigDict, program: programs.Program) -> layouts.Work:
    """What a train step does, as far as its layout matters."""
    costs, precision = program.costs, config.precision
    batch = config.training.batch_size
    return layouts.Work(
        program.model.config,
        costs.get("trained", "heads"),  # a pass over texts needs no more than heads do
        costs["num_params"],
        costs["num_trained"],
        precision.param_dtype,
        precision.compute_dtype,
        precision.moment_dtype,
        program.num_examples * program.length,
        program.length,
        (batch, config.p_ik.batch_size or batch),
        predicts_tokens=bool(costs.get("num_predicted")),
    )


def _num_devices(config: ml_collections.ConfigDict, target: targets.Target) -> int:
    return target.num_devices // config.mesh.num_groups


def _seconds(step: limits.Step, layout: layouts.Layout, target: targets.Target) -> float:
    """Of a layout by formula, nothing hidden behind anything else."""
    laid_out = step._replace(
        mesh_shape=layout.mesh_shape, remat=layout.remat, num_micro=layout.num_micro, num_tokens=step.num_used
    )
    rates = compiled.rates_of(target)
    of_device = limits.formula_flops(laid_out) / math.prod(layout.mesh_shape)
    memory, network = (sum(part(laid_out).values()) for part in (limits.memory, limits.network))
    return of_device / rates.flops + memory / rates.memory + network / rates.links


def find_remedy(
    config: ml_collections.ConfigDict, make: Make, target: targets.Target, model: pretrained.Model
) -> Trial | None:
    """The first change with which a train step compiles and fits; None where none of those tried does.

    What leaves the results as they are comes first: remat, micro-batches, the mesh, and these together. Then what
    changes them: moments in bfloat16, and training adapters alone.

    Args:
        make: the train step of a config.
        model: that it trains.
    """
    num_devices = target.num_devices // config.mesh.num_groups
    role = "weak" if model.role == "weak" else "strong"  # those of a chain are trained as the strong one is
    for overrides in _remedies(config, num_devices, model.config, role):
        try:
            program = make(with_overrides(config, overrides))
        except UserError:
            continue
        if program.state_bytes > target.usable_bytes:
            continue
        # What does not fit when it is compiled quickly is not compiled as the run would.
        outcome = compiled.compile_program(program, target, quick=True)
        if outcome.fits and target.chip.kind == "tpu":
            outcome = compiled.compile_program(program, target)
        if outcome.fits:
            return Trial(overrides, outcome)
    return None


def _remedies(
    config: ml_collections.ConfigDict,
    num_devices: int,
    model_config: registry.ModelConfig,
    role: str = "strong",
) -> Iterator[Overrides]:
    remat = {} if config.execution.remat == "full" else {"execution.remat": "full"}
    batch = config.training.batch_size
    micro = config.training.micro_batch_size or batch
    p_ik = config.p_ik.batch_size or batch
    smaller = [
        size
        for size in range(micro - 1, 0, -1)
        if batch % size == 0 and p_ik % (batch // size) == 0 and (micro // size) in (2, 4, 8, micro)
    ]
    micros = [{"training.micro_batch_size": size} for size in smaller]
    current = tuple(config.mesh.shape or (1, num_devices, 1))
    meshes = [
        {"mesh.shape": shape}
        for shape in layouts.mesh_shapes(model_config, num_devices)
        if shape != current and shape[0] == 1
    ]
    moments = {} if config.precision.moment_dtype == "bfloat16" else {"precision.moment_dtype": "bfloat16"}
    least = micros[-1] if micros else {}
    exact = [remat, *({**remat, **one} for one in micros), *({**remat, **one} for one in meshes)]
    exact += [{**remat, **least, **one} for one in meshes if least]
    changed = [{**remat, **moments}, {**remat, **moments, **least}]
    changed += [{**remat, **moments, **least, **one} for one in meshes]
    own = config[role].trained
    if (own or config.training.trained) == "all":
        lora = {f"{role}.trained" if own else "training.trained": "lora"}
        changed += [{**remat, **lora}, {**remat, **lora, **least}]
    seen = [{}]
    for overrides in (*exact, *changed):
        if overrides not in seen:
            seen.append(overrides)
            yield overrides


def fewest_devices(program: programs.Program, usable_bytes: int) -> int:
    """Devices on which the state alone fits, were it divided evenly: a lower bound."""
    return -(-program.state_bytes * program.mesh.size // usable_bytes)
