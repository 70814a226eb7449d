"""The paper's stages in order: finished ones are found, the others made, then results are written."""

import functools
import json
import secrets
import shutil
import time
from typing import Any

import jax
import ml_collections
from etils import epath

from selw2s_jax import (
    artifacts,
    collect,
    distributed,
    experiment,
    inputs,
    plugins,
    preemption,
    provenance,
    results,
    students,
)
from selw2s_jax import config as config_lib
from selw2s_jax import stages as stages_lib
from selw2s_jax.analysis import figures
from selw2s_jax.data import tasks
from selw2s_jax.errors import UserError
from selw2s_jax.method import registry


def run(config: ml_collections.ConfigDict, workdir) -> dict[str, Any]:
    """Runs a config in a workdir: plan, missing stages, results. With several processes, each calls this.

    Args:
        workdir: a folder, or a gs:// one, that all processes share.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: config, data, models or workdir are not fit; nothing has been trained then.
        Preempted: the run was told to stop.
    """
    start = time.monotonic()
    workdir = epath.Path(workdir).expanduser()
    config = config_lib.normalize(config)
    distributed.agree(lambda: plugins.load(config.plugins))
    config_lib.validate(config, students=registry.students())
    distributed.agree(lambda: plugins.check_methods(config))
    config.task, config.p_ik.task = (tasks.canonical_name(name) for name in (config.task, config.p_ik.task))
    config_hash = artifacts.content_hash(json.loads(config.to_json_best_effort()))[:16]
    _check_same({"config": config_hash, "code": provenance.code()["source"], **provenance.libraries()})
    with artifacts.locked_workdir(workdir, run=f"{config_hash} 0/1"):
        _check_shared(workdir)
        print("reading and checking data, models and tokenizers", flush=True)
        found = distributed.agree(lambda: inputs.prepare(config, workdir))
        waiting = functools.partial(preemption.check, "waiting for another run")
        store = artifacts.Store(workdir, while_waiting=waiting)
        make = stages_lib.StageFactory(config, found, store, workdir)
        study = experiment.Experiment(config, found, make)
        stages = stages_lib.in_order(study.targets())
        _check_same({f"data or model for {stage.label}": stage.key for stage in stages})
        missing = _find_missing(stages, store)
        devices = distributed.agree(make.check_devices) if missing else None
        distributed.main_only(lambda: _check_space(missing, config, workdir))
        _print_plan(found, stages, missing, workdir)
        manifest = _manifest(config, found, study, stages, workdir)
        artifacts.write_text(workdir / "config.json", config.to_json_best_effort(indent=1, sort_keys=True))
        collect.write_truth(found, workdir)
        artifacts.write_text(workdir / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        if missing:
            print(f"running on {', '.join(devices)}", flush=True)
            _make_all(missing, store, make)
        collector = collect.Collector(config, found, study, store)
        report = collector.report()
        report["notes"] += collect.notes_on_prompts(stages, store)
        report["manifest"] = manifest
        artifacts.write_text(workdir / "results.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
        pictures = _draw(report, collector, config, workdir) if distributed.is_main() else []
        _print_report(report, workdir, pictures, time.monotonic() - start)
        distributed.barrier("the report is written")
    return report


def _check_same(facts: dict[str, str]) -> None:
    distributed.check_equal(
        facts, "start every process with the same command, code, environment, data and models"
    )


def _check_shared(workdir: epath.Path) -> None:
    """Checks that all processes see one workdir.

    Raises:
        UserError: some do not see what process 0 wrote.
    """
    if distributed.num_processes() == 1:
        return
    marker = workdir / f".shared-{distributed.broadcast(secrets.token_hex(8))}"
    distributed.main_only(lambda: marker.write_text(""))
    seen = distributed.gather(marker.exists())
    distributed.main_only(marker.unlink)
    if not all(seen):
        raise UserError(
            f"workdir {workdir} of process {seen.index(False)} is not that of process 0: choose a --workdir that "
            "all hosts share, such as a network file system or gs://"
        )


def _find_missing(stages: list[stages_lib.Stage], store: artifacts.Store) -> list[stages_lib.Stage]:
    """The stages that are yet to run, as process 0 sees it."""
    keys = distributed.agree(
        lambda: [stage.key for stage in stages if store.find(stage.name, stage.inputs) is None]
    )
    keys = set(distributed.broadcast(keys))
    return [stage for stage in stages if stage.key in keys]


def _draw(
    report: dict[str, Any],
    collector: collect.Collector,
    config: ml_collections.ConfigDict,
    workdir: epath.Path,
) -> list[epath.Path]:
    """Pictures of the results, beside results.json."""
    pictures = [workdir / "results.png"]
    weak, strong = (report["manifest"]["models"][role]["name"] for role in ("weak", "strong"))
    figures.draw_summary(
        pictures[0],
        title=f"{config.task}: {weak} teaches {strong}, {len(config.seeds)} seed(s)",
        rows=report["summary"],
        p_ik_panels=_p_ik_panels(report, collector),
        gamma=config.p_ik.gamma,
    )
    if "by_frequency" in report:
        pictures.append(workdir / "by_frequency.png")
        counts = report["by_frequency"]
        shown = ("few-shot answers", "weak", "ceiling", "finetune", "selective")
        figures.draw_accuracy_by_frequency(
            pictures[1],
            title=f"{config.task}: accuracy by frequency of the entity in the text",
            groups=results.FREQUENCY_GROUPS,
            series={
                name: (counts["correct"][name], counts["n"]) for name in shown if name in counts["correct"]
            },
        )
    return pictures


def _p_ik_panels(report: dict[str, Any], collector: collect.Collector) -> list[dict[str, Any]]:
    """P(IK) on known and unknown questions, of the first method and seed that have it tested."""
    panels = {}
    for entry in report["p_ik"]:
        scores, known = collector.p_ik_scores(entry["seed"], entry["method"], entry["distribution"])
        distribution = results.DISTRIBUTIONS[entry["distribution"]]
        title = f"P(IK) of {entry['method']}, seed {entry['seed']}, {entry['task']} ({distribution})"
        panel = {"title": title, "known": scores[known], "unknown": scores[~known]}
        panel |= {key: entry[key] for key in ("auroc", "auroc_low", "auroc_high")}
        panels.setdefault(entry["distribution"], panel)
    return list(panels.values())


def _print_report(
    report: dict[str, Any], workdir: epath.Path, pictures: list[epath.Path], seconds: float
) -> None:
    print()
    print(results.format_table(report["records"], report["summary"], report["majority_class_accuracy"]))
    if report["diagnostics"]:
        print()
        print(results.format_diagnostics(report["diagnostics"]))
    if report["p_ik"]:
        print()
        print(results.format_p_ik_tests(report["p_ik"]))
    if "by_frequency" in report:
        print()
        print(results.format_by_frequency(report["by_frequency"]))
    files = ", ".join(str(path) for path in (workdir / "results.json", *pictures))
    print(f"\nresults in {files}; {seconds:.0f} s")


def _check_space(missing: list[stages_lib.Stage], config: ml_collections.ConfigDict, workdir) -> None:
    if "://" in str(workdir):
        return
    weights = sum({stage.key: stage.num_bytes for stage in missing}.values())
    # Those kept and the one being written; weights and two moments each.
    states = 3 * (config.checkpoint.keep + 1) * max((stage.num_bytes for stage in missing), default=0)
    needed = weights + states
    free = shutil.disk_usage(workdir).free
    if free < needed:
        raise UserError(
            f"workdir {workdir} has {free / 1e9:.3f} GB free, and the stages to run need {needed / 1e9:.3f} GB "
            f"({weights / 1e9:.3f} for weights, {states / 1e9:.3f} for the states of a run under way); free space, "
            "lower checkpoint.keep or choose another --workdir"
        )


def _print_plan(found: inputs.Inputs, stages, missing, workdir: epath.Path) -> None:
    for note in found.notes:
        print(f"note: {note}")
    todo = {stage.key for stage in missing}
    width = max(len(stage.label) for stage in stages)
    print(f"{len(stages)} stages in {workdir}, {len(missing)} to run:")
    for stage in stages:
        state = "to run" if stage.key in todo else "done  "
        print(f"  {state}  {stage.label.ljust(width)}  {stage.key}  {stage.detail}")


def _make_all(missing: list[stages_lib.Stage], store: artifacts.Store, make: stages_lib.StageFactory) -> None:
    for number, stage in enumerate(missing, start=1):
        start = time.monotonic()
        preemption.check(f"the run: {len(missing) - number + 1} stages are left")
        print(f"[{number}/{len(missing)}] {stage.label}", flush=True)
        try:
            store.make(stage.name, stage.inputs, stage.write)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise UserError(
                f"{stage.label}: the device is out of memory; lower training.micro_batch_size or "
                "execution.score_tokens, or use more devices; finished stages are kept"
            ) from error
        make.discard_checkpoints(stage)
        print(f"  {time.monotonic() - start:.1f} s", flush=True)


def _manifest(
    config,
    found: inputs.Inputs,
    study: experiment.Experiment,
    stages: list[stages_lib.Stage],
    workdir: epath.Path,
) -> dict[str, Any]:
    """What the run was made of: to be repeated, and for its students to be found."""
    return {
        **provenance.code(),
        "libraries": provenance.libraries(),
        **provenance.devices(),
        "config": json.loads(config.to_json_best_effort()),
        "models": {
            model.role: students.describe_model(model, workdir) for model in (found.weak, found.strong)
        },
        "students": students.entries(config, found, study),
        "test": collect.describe_test(found, study),
        "stages": [{"label": stage.label, "name": stage.name, "key": stage.key} for stage in stages],
    }
