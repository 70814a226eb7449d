"""A run: finished stages are found, the missing ones made, then results are written. Of a sweep, for all its runs."""

import dataclasses
import datetime
import functools
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
from etils import epath

from selw2s_jax import config as config_lib
from selw2s_jax.analysis import methods
from selw2s_jax.data import item_predictions, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, plugins, precision, unread
from selw2s_jax.run import (
    agreement,
    collect,
    describe,
    disk_space,
    forms,
    layouts,
    outcome,
    plan_text,
    preview,
    registrations,
    schedule,
    sweep,
)
from selw2s_jax.run import manifests as manifests_lib
from selw2s_jax.run import prefetch as prefetch_lib
from selw2s_jax.runtime import (
    artifacts,
    compilation_cache,
    distributed,
    installed,
    places,
    preemption,
    provenance,
    started,
    storage,
    timing,
)
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.stages import workbench
from selw2s_jax.training import loggers


@dataclasses.dataclass(frozen=True)
class _Plan:
    """A cell of the sweep, or the run itself, with all that it is made of.

    Attributes:
        folder: of its results.
        stages: of the experiment, each after those that it needs.
    """

    cell: sweep.Cell
    folder: epath.Path
    experiment: forms.Experiment
    stages: list[stage_lib.Stage]


def show(config: ml_collections.ConfigDict, workdir, *, shard: tuple[int, int] = (0, 1)) -> None:
    """Reads and checks what `run` would, and prints its plan and a question of each task as the models read it.

    Nothing is run or kept, but for generated inputs. Args and errors are those of `run`.
    """
    workdir = _workdir(workdir)
    config, cells, notes = _check_config(config)
    print("reading and checking data, models and tokenizers", flush=True)
    store = artifacts.Store(workdir)
    plans = [_plan(cell, workdir, notes) for cell in cells]
    stages = list({stage.key: stage for plan in plans for stage in plan.stages}.values())
    missing = _find_missing(stages, store)
    todo = [stage for stage in _share_of(plans, shard) if stage.key in missing]
    devices = _check_devices(plans, todo, _workbenches(config.mesh.num_groups, store, workdir))
    _print_plan(plans, stages, missing, todo, workdir, is_whole=True)
    print(f"on {devices}\n")
    shown = [one for plan in plans for one in forms.get(plan.cell.config).preview(plan.experiment)]
    print(preview.to_text(shown))


def prefetch(config: ml_collections.ConfigDict, workdir) -> list[prefetch_lib.Item]:
    """Downloads the models and data sets that `run` reads, checks them as it would, and says what and how large.

    Nothing is run, and no device is asked for. Args and errors are those of `run`.
    """
    workdir = _workdir(workdir)
    config, cells, notes = _check_config(config, platform="cpu")  # which downloads the same as any
    print("downloading, reading and checking data, models and tokenizers", flush=True)
    plans = [_plan(cell, workdir, notes) for cell in cells]
    items = prefetch_lib.find(
        [cell.config for cell in cells], [m for plan in plans for m in plan.experiment.inputs.models]
    )
    print("\n".join(prefetch_lib.describe(items)), flush=True)
    return items


def register(
    config: ml_collections.ConfigDict,
    workdir,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    level: float = 0.05,
) -> registrations.Registration:
    """Registers a study before it is run: reads and checks what `run` would, and writes what will be compared.

    Args:
        pairs: of methods, whose accuracies are compared, first less second; `methods.default_pairs` without.
        level: familywise error.

    Raises:
        UserError: as of `run`; the pairs are not of this config, or the workdir has a registration or a student.
    """
    workdir = _workdir(workdir)
    config, cells, notes = _check_config(config)
    tested = [name for name in config.methods if methods.facts(name, config.supervision).role != "probe"]
    known = {name: methods.facts(name, config.supervision) for name in ("weak", *tested, "ceiling")}
    pairs = registrations.check_pairs(pairs, known if tested else {})
    with artifacts.locked_workdir(workdir):
        registrations.check_new(workdir)
        plans = [_plan(cell, workdir, notes) for cell in cells]
        as_json = config_lib.to_json(config)
        content = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "code": provenance.code(),
            "config_hash": artifacts.content_hash(as_json)[:16],
            "comparisons": [{"first": first, "second": second} for first, second in pairs],
            "test": {
                "kind": registrations.TEST,
                "correction": "Holm",
                "num_tests": len(pairs),
                "level": float(level),
            },
            "runs": [_registered_run(plan) for plan in plans],
            "config": as_json,
        }
        return registrations.write(workdir, content)


def _registered_run(plan: _Plan) -> dict[str, Any]:
    """What a registration says of a run: its truth by a hash alone."""
    test = forms.get(plan.cell.config).describe_test(plan.experiment)
    return {
        "name": plan.cell.name,
        "task": plan.cell.config.task,
        "seeds": list(plan.cell.config.seeds),
        "n": test["n"],
        "labels_hash": test["labels_hash"],
        "texts_hash": plan.experiment.inputs.test.texts_hash,
    }


def run(
    config: ml_collections.ConfigDict,
    workdir,
    *,
    shard: tuple[int, int] = (0, 1),
    start: started.Start | None = None,
) -> dict[str, Any]:
    """Runs a config in a workdir: plan, missing stages, results. With several processes, each calls this.

    Args:
        workdir: a folder, or a gs:// one, that all processes share.
        shard: (i, n) for the i-th of n equal parts of the work, where others run the other parts in the same
            workdir at the same time or another time. Results are written by the one that finds all stages done.
        start: the command that it is of, for the manifest; None from Python.

    Returns:
        What `results.json` holds; of a sweep, that of each finished run by name. Empty for what is not finished.

    Raises:
        UserError: config, data, models or workdir are not fit; nothing has been trained then.
        Preempted: the run was told to stop.
    """
    began = time.monotonic()
    workdir = _workdir(workdir)
    config, cells, notes = _check_config(config)
    config_hash = artifacts.content_hash(config_lib.to_json(config))[:16]
    agreement.check_same(
        {"config": config_hash, "code": provenance.code()["source"], **provenance.libraries()}
    )
    with artifacts.locked_workdir(workdir, run=f"{config_hash} {shard[0]}/{shard[1]}") as lock:
        agreement.check_shared(workdir)
        distributed.main_only(lambda: agreement.check_shards(config, workdir, shard))
        print("reading and checking data, models and tokenizers", flush=True)
        waiting = functools.partial(preemption.check, "waiting for another run")
        store = artifacts.Store(workdir, lock=lock, while_waiting=waiting)
        benches = _workbenches(config.mesh.num_groups, store, workdir)
        plans = [_plan(cell, workdir, notes) for cell in cells]
        stages = list({stage.key: stage for plan in plans for stage in plan.stages}.values())
        agreement.check_same({f"data or model for {stage.label}": stage.key for stage in stages})
        missing = _find_missing(stages, store)
        todo = [stage for stage in _share_of(plans, shard) if stage.key in missing]
        devices = _check_devices(plans, todo, benches) if todo else ""
        if todo:
            loggers.check_ready(config.logging)
        disk_space.discard_leftovers(stages, missing, workdir)
        distributed.main_only(lambda: disk_space.check_free(todo, config, workdir))
        _print_plan(plans, stages, missing, todo, workdir)
        store.check_held()
        seconds = timing.until_now(began, of_process=start is not None)
        _write_descriptions(config, plans, workdir, start or started.Start(), seconds)
        made = timing.Programs()
        if todo:
            compilation_cache.enable()
            print(f"running on {devices}; before: {timing.describe(seconds)}", flush=True)
            with made:
                schedule.make_all(todo, benches, _cell_names(plans), store.claimed)
        store.check_held()
        reports = {plan.cell.name: _finish(plan, store) for plan in plans}
        print(f"{time.monotonic() - began:.0f} s{made.describe()}", flush=True)
        if any(reports.values()):  # else all is left to other shards
            print(f"report: python -m selw2s_jax.report --workdir={shlex.quote(str(workdir))}", flush=True)
        distributed.barrier("the reports are written")
    return reports[""] if list(reports) == [""] else reports


def _workdir(workdir) -> epath.Path:
    places.check_workdir(workdir)
    return epath.Path(workdir).expanduser()


def _check_config(
    config: ml_collections.ConfigDict, platform: str | None = None
) -> tuple[ml_collections.ConfigDict, list[sweep.Cell], list[str]]:
    """The config in its normal form, its cells, each checked, and what a reader of the results has to know of it.

    Args:
        platform: of the devices, default that of those at hand.
    """
    config = config_lib.normalize(config)
    distributed.agree(lambda: plugins.load(config))
    cells = sweep.expand(config)
    of_all = [config, *(cell.config for cell in cells)]
    if any(one.precision.compute_dtype == precision.AUTO for one in of_all):
        platform = platform or jax.default_backend()
        (became,) = {one.precision.compute_dtype for one in of_all if precision.resolve(one, platform)}
        print(f"precision.compute_dtype=auto is {became} on this {platform.upper()}", flush=True)

    def check() -> list[str]:
        for cell in cells:
            for section in (cell.config, cell.config.p_ik):
                section.task = tasks.canonical_name(section.task)
            cell.config.continual.tasks = tuple(map(tasks.canonical_name, cell.config.continual.tasks))
            form = forms.get(cell.config)
            checks.validate(cell.config, models=form.roles(cell.config))
        for cell in cells:
            forms.get(cell.config).check_methods(cell.config)
        return unread.check([cell.config for cell in cells])

    notes = distributed.agree(check)
    return (config if cells[0].name else cells[0].config), cells, notes


def _workbenches(num_groups: int, store: artifacts.Store, workdir: epath.Path) -> list[workbench.Workbench]:
    """One for each of equal groups of the devices, in their order."""
    if num_groups == 1:
        return [workbench.Workbench(store, workdir)]
    if distributed.num_processes() > 1:
        raise UserError(
            f"config.mesh.num_groups={num_groups} is for the devices of one process: start {num_groups} processes of "
            "their own with --shard=i/n instead"
        )
    devices = jax.devices()
    if len(devices) % num_groups:
        raise UserError(
            f"config.mesh.num_groups={num_groups} does not divide the {len(devices)} devices: choose a divisor"
        )
    size = len(devices) // num_groups
    groups = [devices[first : first + size] for first in range(0, len(devices), size)]
    return [workbench.Workbench(store, workdir, group) for group in groups]


def _plan(cell: sweep.Cell, workdir: epath.Path, notes: Sequence[str]) -> _Plan:
    if cell.name:
        print(f"  {cell.name}", flush=True)
    folder = workdir / manifests_lib.RUNS_FOLDER / cell.name if cell.name else workdir
    with distributed.together():
        form = forms.get(cell.config)
        experiment = form.experiment(cell.config, form.prepare(cell.config, workdir, notes=notes))
        targets = [stage for of_model in experiment.targets() for stage in of_model]
        stages = stage_lib.in_order(targets)
        for stage in stages:
            stage.check()
    return _Plan(cell, folder, experiment, stages)


def _share_of(plans: list[_Plan], shard: tuple[int, int]) -> list[stage_lib.Stage]:
    """The stages of every n-th model of all runs, with all that they need."""
    units = [of_model for plan in plans for of_model in plan.experiment.targets()]
    number, count = shard
    return stage_lib.in_order(stage for of_model in units[number::count] for stage in of_model)


def _find_missing(stages: list[stage_lib.Stage], store: artifacts.Store) -> set[str]:
    """The keys of stages that are yet to run, as process 0 sees it."""
    keys = distributed.agree(lambda: [stage.key for stage in stages if stage_lib.find(store, stage) is None])
    return set(distributed.broadcast(keys))


def _check_devices(
    plans: list[_Plan], todo: list[stage_lib.Stage], benches: Sequence[workbench.Workbench]
) -> str:
    """Lays the models out on the devices: what was found, for people, and a line for each layout in training."""

    def check() -> list[str]:
        found = [
            line
            for plan in plans
            for bench in benches
            for line in bench.check(plan.experiment.settings, plan.experiment.inputs.models)
        ]
        return [", ".join(dict.fromkeys(found)), *layouts.expected(todo, benches[0])]

    return "\n".join(distributed.agree(check))


def _print_plan(
    plans: list[_Plan], stages, missing: set[str], todo, workdir: epath.Path, *, is_whole: bool = False
) -> None:
    for note in dict.fromkeys(note for plan in plans for note in plan.experiment.inputs.notes):
        print(f"note: {note}")
    runs = f" of {len(plans)} runs" if len(plans) > 1 else ""
    each = "" if is_whole else " (--dry_run lists each)"
    print(f"{len(stages)} stages{runs} in {workdir}, {len(todo)} to run{each}:")
    state = plan_text.states(stages, missing, {stage.key for stage in todo})
    print(
        "\n".join(
            plan_text.whole(stages, state, _cell_names(plans))
            if is_whole
            else plan_text.folded(stages, state)
        )
    )


def _cell_names(plans: list[_Plan]) -> dict[str, str]:
    """The first cell of the sweep that needs each stage, by the stage's key."""
    return {stage.key: plan.cell.name for plan in reversed(plans) for stage in plan.stages}


def _write_descriptions(
    config: ml_collections.ConfigDict,
    plans: list[_Plan],
    workdir: epath.Path,
    start: started.Start,
    seconds: Mapping[str, float],
) -> None:
    """Writes what the run and its cells are made of."""
    registration = _registration(config, workdir)
    _write_config(config, workdir, start)
    if not plans[0].cell.name:
        distributed.main_only(
            lambda: storage.remove_file(workdir / manifests_lib.SWEEP_FILE)
        )  # of an earlier run here
    else:
        cells = [
            {
                "name": plan.cell.name,
                "axes": plan.cell.axes,
                "config_hash": plan.cell.config_hash,
                "stages": [stage.key for stage in plan.stages],
            }
            for plan in plans
        ]
        artifacts.write_text(
            workdir / manifests_lib.SWEEP_FILE, json.dumps({"cells": cells}, indent=1) + "\n"
        )
    for plan in plans:
        distributed.main_only(functools.partial(storage.make_folder, plan.folder))
        if plan.cell.name:
            artifacts.write_text(plan.folder / manifests_lib.CONFIG_FILE, _config_text(plan.cell.config))
        truth = forms.get(plan.cell.config).truth(plan.experiment.inputs.test)
        artifacts.write_text(plan.folder / manifests_lib.TRUTH_FILE, json.dumps(truth, indent=1) + "\n")
        manifest = _manifest(plan, workdir) | {"started": start.to_json(seconds)}
        manifest |= {"registration": registration} if registration else {}
        artifacts.write_text(plan.folder / manifests_lib.MANIFEST_FILE, json.dumps(manifest, indent=1) + "\n")


def _registration(config: ml_collections.ConfigDict, workdir: epath.Path) -> dict[str, Any] | None:
    """What manifests say of the workdir's registration, as process 0 sees it; None where there is none."""

    def find() -> dict[str, Any] | None:
        source = provenance.code()["source"]
        return registrations.of_run(workdir, config_lib.to_json(config), source)

    entry = distributed.broadcast(distributed.agree(lambda: find() if distributed.is_main() else None))
    for one in entry["differing"] if entry else ():
        print(
            f"note: {one['key']} is not as registered in {registrations.FILE}; the report says so", flush=True
        )
    return entry


def _write_config(config: ml_collections.ConfigDict, workdir: epath.Path, start: started.Start) -> None:
    """Writes the config, and a copy of the file that it is from."""
    text, path = _config_text(config), workdir / manifests_lib.CONFIG_FILE
    copy = workdir / manifests_lib.CONFIG_COPY

    def discard() -> None:
        if (
            storage.read_bytes(path) != text.encode()
        ):  # else it may be from that file, though not started by it now
            storage.remove_file(copy)

    if start.config_text is None:
        distributed.main_only(discard)
    else:
        artifacts.write_text(copy, start.config_text)
    artifacts.write_text(path, text)


def _config_text(config: ml_collections.ConfigDict) -> str:
    return config.to_json_best_effort(indent=1, sort_keys=True)


def _finish(plan: _Plan, store: artifacts.Store) -> dict[str, Any]:
    """Writes and prints the results of a run, if all its stages are there; another shard's may not be."""
    if plan.cell.name:
        print(f"\n{plan.cell.name}", flush=True)
    if missing := _find_missing(plan.stages, store):
        print(f"{len(missing)} of its {len(plan.stages)} stages are left to other shards", flush=True)
        return {}
    collector = forms.get(plan.cell.config).collector(plan.cell.config, plan.experiment, store)
    report = outcome.finite(collector.report())
    report["notes"] += collect.notes_on_prompts(plan.stages, store)
    collector.write_p_ik_items(plan.folder)
    manifest = json.loads((plan.folder / manifests_lib.MANIFEST_FILE).read_text())
    if found := layouts.of_finished(plan.stages, store):
        manifest["layouts"] = found
        artifacts.write_text(plan.folder / manifests_lib.MANIFEST_FILE, json.dumps(manifest, indent=1) + "\n")
    del manifest["started"]  # equal runs have equal results
    _write_predictions(collector, plan, manifests_lib.identity(manifest))
    report = {"schema_version": manifests_lib.SCHEMA_VERSION, **report, "manifest": manifest}
    outcome.write(plan.cell.config, collector, report, plan.folder)
    return report


def _write_predictions(collector, plan: _Plan, run: str) -> None:
    """Of one process, which alone reads them."""
    distributed.main_only(
        lambda: item_predictions.write(plan.folder, plan.cell.config.task, collector.predictions(), run)
    )


def _manifest(plan: _Plan, workdir: epath.Path) -> dict[str, Any]:
    """What a run was made of: to be repeated, and for its students to be found."""
    config, experiment = plan.cell.config, plan.experiment
    form = forms.get(config)
    return {
        "schema_version": manifests_lib.SCHEMA_VERSION,
        **provenance.code(),
        "libraries": provenance.libraries(),
        **({"plugins": installed.loaded()} if installed.loaded() else {}),
        **provenance.devices(),
        "config": config_lib.to_json(config),
        "models": {model.slot: describe.describe_model(model, workdir) for model in experiment.inputs.models},
        "students": form.list_students(config, experiment),
        "embeddings": form.list_embeddings(experiment),
        "methods": methods.to_json(
            dict.fromkeys((*experiment.classifiers(), *config.methods)),
            config.supervision,
            config.method_options.to_dict(),
        ),
        "test": form.describe_test(experiment),
        "examples": form.preview(experiment),
        "stages": [
            {
                "label": stage.label,
                "name": stage.name,
                "key": stage.key,
                "needs": list(dict.fromkeys(needed.key for needed in stage.needs)),
            }
            for stage in plan.stages
        ],
    }
