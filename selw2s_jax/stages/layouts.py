"""How a training is laid out on the devices of a workbench: as the config says, and what it leaves open as it fits.

The choice is the same on every process, and is kept beside the states of a training under way: one that goes on
takes the same layout again, so that it gives the bits that it would have given.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.models import decoder, lora
from selw2s_jax.runtime import artifacts, distributed, storage
from selw2s_jax.training import fit, layouts

FILE = "layout.json"
_GIB = 2**30
_CHARACTERS_PER_TOKEN = 4  # of English, where nothing is tokenised yet


class Chosen(NamedTuple):
    """A layout, and what is kept of how it was chosen, as JSON values: see `_record`."""

    layout: layouts.Layout
    record: dict[str, Any]


def choose(
    stage,
    bench,
    sets: Mapping[int, batches.ExampleSet],
    batch_sizes: Mapping[int, int],
    count: Callable[[layouts.Layout], int],
) -> Chosen:
    """The layout of a training.

    Args:
        stage: a `training.Training`.
        bench: the `workbench.Workbench` that makes it.
        sets, batch_sizes: examples of each kind, and how many of them a step takes.
        count: bytes that a device needs for a layout, by the compiler.

    Raises:
        UserError: none fits.
    """
    given = stage.settings.given(stage.model, bench.devices)
    if given.layout is not None:
        return Chosen(given.layout, _record(given.layout, "given"))
    if any(examples.tokens is None for examples in sets.values()):  # heads alone, on embeddings
        return _without_search(stage, bench, given, "heads alone")
    lengths = {kind: examples.lengths for kind, examples in sets.items()}
    work = _work(
        stage,
        bench,
        batch_sizes,
        sum(batch_sizes[kind] * float(of_kind.mean()) for kind, of_kind in lengths.items()),
        max(int(of_kind.max()) for of_kind in lengths.values()),
    )
    if bench.usable_bytes is None:
        return _without_search(stage, bench, given, "memory unknown")
    options = layouts.candidates(work, bench.num_devices, given)
    kept = _kept(stage, bench, options)
    if kept is not None:
        options = list(dict.fromkeys((kept.layout, *options)))
    found = layouts.search(
        work, options, bench.usable_bytes, lambda layout: max(distributed.gather(count(layout)))
    )
    if found.chosen is None:
        raise UserError(_nothing_fits(stage, work, found, options, bench.usable_bytes, given))
    if kept is not None and found.chosen.layout == kept.layout:
        return kept
    return Chosen(found.chosen.layout, _found(found, bench.usable_bytes))


class Expected(NamedTuple):
    """The layout that a training will have, as far as it is known before its examples are tokenised.

    Attributes:
        described: for people.
        num_bytes: that a device needs, roughly; None where the layout is given.
        usable_bytes: that it has.
        is_counted: whether the compiler counts first.
    """

    described: str
    num_bytes: int | None = None
    usable_bytes: int | None = None
    is_counted: bool = False

    def __str__(self) -> str:
        if self.num_bytes is None:
            return self.described
        counted = ", which the compiler counts before the first step" if self.is_counted else ""
        return f"{self.described}: roughly {gib(self.num_bytes)} of {gib(self.usable_bytes)} GiB{counted}"


def expected(stage, bench) -> Expected:
    """What a plan says of the layout of a training.

    Raises:
        UserError: the state alone fits on no mesh.
    """
    given = stage.settings.given(stage.model, bench.devices)
    if given.layout is not None:
        return Expected(f"{given.layout.describe(stage.settings.training.batch_size)}, as given")
    if bench.usable_bytes is None or (texts := stage.texts_by_kind) is None:
        return Expected("chosen before its first step")
    sizes = [np.array([len(text) for text in of_kind]) for of_kind in texts.values()]
    limit = _CHARACTERS_PER_TOKEN * stage.model.max_length
    num_tokens = sum(
        stage.batch_sizes[kind] * np.minimum(of_kind, limit).mean() / _CHARACTERS_PER_TOKEN
        for kind, of_kind in zip(texts, sizes, strict=True)
    )
    longest = min(max(of_kind.max() for of_kind in sizes), limit) // _CHARACTERS_PER_TOKEN
    of_kinds = {kind: stage.batch_sizes[kind] for kind in texts}
    work = _work(stage, bench, of_kinds, num_tokens, max(int(longest), 1))
    options = layouts.candidates(work, bench.num_devices, given)
    if all(layouts.least_bytes(work, layout) > bench.usable_bytes for layout in options):
        found = layouts.Found(None, ())
        raise UserError(_nothing_fits(stage, work, found, options, bench.usable_bytes, given))
    found = layouts.search(
        work, options, bench.usable_bytes, lambda layout: layouts.rough_bytes(work, layout)
    )
    chosen = found.chosen or layouts.Trial(options[0], layouts.rough_bytes(work, options[0]), True)
    described = chosen.layout.describe(stage.settings.training.batch_size)
    return Expected(described, chosen.num_bytes, bench.usable_bytes, chosen.is_counted)


def saving(files: fit.Files, stage, chosen: Chosen) -> fit.Files:
    """`files` which keep the layout beside the first state that is saved."""
    path, is_kept = _path(files.workdir, stage), False

    def before_save() -> None:
        nonlocal is_kept
        files.before_save()
        if not is_kept:
            distributed.main_only(lambda: storage.make_folder(path.parent))
            artifacts.write_text(path, json.dumps(chosen.record) + "\n")
            is_kept = True

    return dataclasses.replace(files, before_save=before_save)


def mesh_of_trained(stage, bench, summary: Mapping[str, Any]) -> jax.sharding.Mesh:
    """The mesh of a trained model that is read again: that of its training where it can be, so that it answers alike.

    Args:
        summary: of its artifact.
    """
    record, settings = summary.get("layout"), stage.settings
    if record and settings.mesh.shape is None and math.prod(record["mesh"]) == bench.num_devices:
        settings = settings.laid_out(_of_record(record))
    return bench.mesh_for(settings, stage.model)


def to_text(record: Mapping[str, Any], batch_size: int) -> str:
    """A record for people, on one line."""
    layout = _of_record(record)
    described = layout.describe(batch_size)
    if "gib" not in record:
        return f"layout: {described} ({record['by']})"
    line = f"layout: {described}: {record['gib']:.2f} of {record['usable_gib']:.2f} GiB ({record['by']})"
    others = [one for one in record["tried"] if _of_record(one) != layout]
    if others:
        listed = "; ".join(f"{_of_record(one).describe(batch_size)}: {one['gib']:.2f} GiB" for one in others)
        line += f"; too large: {listed}"
    return line


def gib(num_bytes: float) -> str:
    """Bytes for people."""
    return f"{num_bytes / _GIB:.2f}"


def _work(stage, bench, batch_sizes: Mapping[int, int], num_tokens: float, longest: int) -> layouts.Work:
    settings, model = stage.settings, stage.model
    precision = settings.precision
    num_params = decoder.num_params(model.config, lm_head=stage.trains_lm_head) + stage.num_head_params
    if adapters := settings.adapters(model):
        num_params += lora.num_params(model.config, adapters)
    return layouts.Work(
        model.config,
        stage.trained,
        num_params,
        stage.num_bytes // jnp.dtype(precision.param_dtype).itemsize,
        precision.param_dtype,
        precision.compute_dtype,
        precision.moment_dtype,
        int(num_tokens),
        longest,
        tuple(batch_sizes.values()),
        stage.trains_lm_head,
        bench.platform,
    )


def _without_search(stage, bench, given: layouts.Given, why: str) -> Chosen:
    shape = given.mesh_shape or tuple(bench.mesh_for(stage.settings, stage.model).shape.values())
    layout = layouts.Layout(shape, given.remat or layouts.REMATS[-1], given.num_micro or 1)
    return Chosen(layout, _record(layout, why))


def _record(layout: layouts.Layout, by: str) -> dict[str, Any]:
    """A layout, and by what it was chosen; of one that was searched for also what `_found` adds."""
    return {"mesh": list(layout.mesh_shape), "remat": layout.remat, "num_micro": layout.num_micro, "by": by}


def _of_record(record: Mapping[str, Any]) -> layouts.Layout:
    return layouts.Layout(tuple(record["mesh"]), record["remat"], record["num_micro"])


def _found(found: layouts.Found, usable_bytes: int) -> dict[str, Any]:
    """Besides, GiB that a device needs and has, and what was tried with the compiler's count."""

    def of(trial: layouts.Trial) -> dict[str, Any]:
        by = "counted by the compiler" if trial.is_counted else "roughly"
        return _record(trial.layout, by) | {"gib": round(trial.num_bytes / _GIB, 3)}

    tried = [of(trial) for trial in found.tried]
    return of(found.chosen) | {"usable_gib": round(usable_bytes / _GIB, 3), "tried": tried}


def _kept(stage, bench, options: Sequence[layouts.Layout]) -> Chosen | None:
    """The layout that a training under way was started with, where the devices and the config still have it."""

    def read() -> dict[str, Any] | None:
        content = storage.read_bytes(_path(bench.workdir, stage)) if distributed.is_main() else None
        try:
            record = None if content is None else json.loads(content)
            return record if record is None or _of_record(record) in options else None
        except (ValueError, KeyError, TypeError):
            return None  # a state without it goes on in the layout that is chosen anew

    record = distributed.broadcast(distributed.agree(read))
    return None if record is None else Chosen(_of_record(record), record)


def _path(workdir: epath.Path, stage) -> epath.Path:
    return fit.checkpoints_folder(workdir, stage.key) / FILE


def _nothing_fits(stage, work, found: layouts.Found, options, usable_bytes: int, given: layouts.Given) -> str:
    settings, role = stage.settings, stage.model.role
    batch_size = settings.training.batch_size
    if found.tried:
        best = min(found.tried, key=lambda one: one.num_bytes)
        needed, what = best.num_bytes, best.layout.describe(batch_size)
    else:
        needed = min(layouts.least_bytes(work, layout) for layout in options)
        what = "parameters and moments alone, divided over the devices"
    names = ("mesh.shape", "execution.remat", "training.micro_batch_size")
    remedies = [f"leave {name} to be chosen" for name, value in zip(names, given, strict=True) if value]
    least = math.ceil(work.state_bytes / usable_bytes)
    remedies.append(f"use more devices ({least} or more for the state alone)")
    if work.trained == "all":
        remedies.append(f"{'weak' if role == 'weak' else 'strong'}.trained=lora")
    if work.moment_dtype == "float32":
        remedies.append("precision.moment_dtype=bfloat16")
    remedies.append("a smaller data.max_length or training.batch_size")
    return (
        f"{stage.label}: no layout of its train step fits into the {gib(usable_bytes)} GiB of a device; {what}, needs "
        f"{gib(needed)} GiB, {gib(needed - usable_bytes)} GiB too many: {', or '.join(remedies)}"
    )
