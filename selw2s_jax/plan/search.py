"""Looks for a mesh, or for settings with which a program fits, by compiling each."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained
from selw2s_jax.models import registry
from selw2s_jax.plan import compiled, programs, targets
from selw2s_jax.training import layouts

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


def rank_meshes(
    config: ml_collections.ConfigDict,
    make: Make,
    target: targets.Target,
    shapes: Sequence[tuple[int, int, int]],
) -> list[Trial]:
    """Compiles a program on each mesh: those that fit first, the fastest of them by estimate first.

    Ties of the longest term are broken by the sum of all. A mesh whose state alone is too large is left out. All are
    compiled quickly (`compiled.compile_program`).

    Args:
        make: the program of a config.
    """
    trials = []
    for shape in shapes:
        overrides = {"mesh.shape": shape}
        program = make(with_overrides(config, overrides))
        if program.state_bytes <= target.usable_bytes:
            trials.append(Trial(overrides, compiled.compile_program(program, target, quick=True)))

    def order(trial: Trial):
        time = trial.outcome.time
        seconds = (0.0, 0.0) if time is None else (time.total_s, sum(time[:3]))
        return (not trial.outcome.fits, *seconds, trial.outcome.peak_bytes)

    return sorted(trials, key=order)


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
