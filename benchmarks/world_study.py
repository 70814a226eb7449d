"""What selection gains in the small world: several pretrained worlds, several seeds in each, paired tests.

    python benchmarks/world_study.py run --workdir=runs/world_study --worlds=20,21,22 --jobs=3
    python benchmarks/world_study.py report --workdir=runs/world_study --output=benchmarks/results/world_study

`run` runs `configs/world.py` in every world, with P(IK) joint and frozen; what is finished is found again.
`report` writes the results as JSON, tables in Markdown and two pictures.
"""

import argparse
import concurrent.futures
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
from typing import Any

import clusters

from selw2s_jax.analysis import methods, metrics, results
from selw2s_jax.run import figures

STAGES = ("joint", "frozen")
BASE = "selective"


def run(workdir: pathlib.Path, worlds: list[int], jobs: int, overrides: list[str]) -> None:
    """Runs all worlds, `jobs` at a time: models as small as these leave most of a second core idle."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=jobs) as pool:
        jobs = [pool.submit(_run_world, workdir / f"world-{world}", world, overrides) for world in worlds]
        for job in jobs:
            job.result()


def _run_world(folder: pathlib.Path, world: int, overrides: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        command = [
            sys.executable, "-m", "selw2s_jax.main", f"--config=configs/world.py:p_ik={stage}",
            f"--workdir={folder}", f"--config.world.seed={world}", f"--config.pretraining.seed={world}",
            *overrides,
        ]  # fmt: skip
        with (folder / f"{stage}.log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
        shutil.copyfile(folder / "results.json", folder / f"results-{stage}.json")
        print(f"world {world}, P(IK) {stage}: done", flush=True)


def collect(workdir: pathlib.Path) -> dict[int, dict[str, Any]]:
    """By world, the results of both stages."""
    found = {}
    for folder in sorted(workdir.glob("world-*")):
        found[int(folder.name.removeprefix("world-"))] = {
            stage: json.loads((folder / f"results-{stage}.json").read_text()) for stage in STAGES
        }
    return found


def accuracies(found: dict[int, dict[str, Any]]) -> dict[str, dict[int, list[float]]]:
    """By method and world, the test accuracy of each seed; methods with frozen P(IK) are named so."""
    by_method: dict[str, dict[int, list[float]]] = {}
    for world, stages in found.items():
        for stage, report in stages.items():
            for record in report["records"]:
                name = record["method"]
                if stage == "frozen":
                    if name in ("weak", "ceiling"):
                        continue
                    name += " (frozen P(IK))"
                by_method.setdefault(name, {}).setdefault(world, []).append(record["accuracy"])
    return by_method


def compare(by_method: dict[str, dict[int, list[float]]]) -> list[dict[str, Any]]:
    """Paired differences, the first method less the second, over seeds within worlds and over worlds."""
    pairs = [(BASE, other) for other in by_method if other not in (BASE, "ceiling") and "frozen" not in other]
    frozen = f"{BASE} (frozen P(IK))"
    pairs += [
        (frozen, other)
        for other in (
            "finetune",
            "self_training",
            "selective_without_gs (frozen P(IK))",
            "random_selection (frozen P(IK))",
        )
    ]
    pairs += [(frozen, BASE), ("finetune", "weak"), ("ceiling", "weak"), ("self_training", "finetune")]
    rows = []
    for first, second in pairs:
        if first in by_method and second in by_method:
            differences = {
                str(world): [a - b for a, b in zip(values, by_method[second][world], strict=True)]
                for world, values in by_method[first].items()
            }
            result = clusters.difference(differences)
            rows.append({"first": first, "second": second, **result._asdict()})
    return rows


def mean_diagnostics(found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Selection and smoothing by method, over worlds and seeds, in the second half of training."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for stages in found.values():
        for stage, report in stages.items():
            for entry in report["diagnostics"]:
                name = entry["method"] + (" (frozen P(IK))" if stage == "frozen" else "")
                graph = {key: entry[key] for key in ("self_weight", "effective_neighbours")}
                first_rate = {"ik_rate_first_half": entry["first_half"]["ik_rate"]}
                rows.setdefault(name, []).append({**entry["second_half"], **first_rate, **graph})
    return [{"method": name, "runs": len(entries), **_means(entries)} for name, entries in rows.items()]


def _means(entries: list[dict[str, Any]]) -> dict[str, float | None]:
    means = {}
    for key in entries[0]:
        values = [entry[key] for entry in entries if entry[key] is not None]
        means[key] = statistics.fmean(values) if values else None
    return means


def p_ik_by_world(found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """AUROC of P(IK) by method and distribution: mean over the seeds of each world, interval over worlds."""
    groups: dict[tuple[str, str], dict[int, list[float]]] = {}
    for world, stages in found.items():
        for entry in stages["joint"]["p_ik"]:
            if entry["auroc"] is not None:
                key = (entry["method"], entry["distribution"])
                groups.setdefault(key, {}).setdefault(world, []).append(entry["auroc"])
    rows = []
    for (method, distribution), by_world in groups.items():
        means = {world: statistics.fmean(values) for world, values in by_world.items()}
        interval = metrics.mean_interval(list(means.values()))
        rows.append(
            {
                "method": method,
                "distribution": distribution,
                "auroc": statistics.fmean(means.values()),
                "interval_over_worlds": interval,
                "by_world": {str(world): mean for world, mean in means.items()},
            }
        )
    return rows


def few_shot_by_frequency(found: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Right answers (mean over seeds) and questions by fifths of entity frequency, summed over worlds."""
    reports = [stages["joint"]["by_frequency"] for stages in found.values()]
    add = lambda rows: [sum(values) for values in zip(*rows, strict=True)]  # noqa: E731
    return {
        "n": add(report["n"] for report in reports),
        "correct": {name: add(r["correct"][name] for r in reports) for name in reports[0]["correct"]},
    }


def _percent(value: float | None, signed: bool = False) -> str:
    return "-" if value is None else f"{100 * value:{'+' if signed else ''}.1f}"


def _interval(bounds, signed: bool = False) -> str:
    return "-" if not bounds or bounds[0] is None else " to ".join(_percent(b, signed) for b in bounds)


def _markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows)]


def to_markdown(study: dict[str, Any]) -> str:
    """The study as a page."""
    worlds, sizes = ", ".join(study["worlds"]), ", ".join(map(str, study["n"].values()))
    lines = [
        "# The small world: does selection gain?",
        "",
        f"Worlds {worlds}, {study['seeds']} seeds each; {sizes} test questions. Made by",
        "",
        *(f"    {command}" for command in study["commands"]),
        "",
        study["protocol"],
        "",
        "## Test accuracy, per cent",
        "",
    ]
    rows = [
        [row["method"], _percent(row["accuracy"]), _interval(row["interval_over_worlds"])]
        + [_percent(value) for value in row["by_world"].values()]
        for row in study["accuracy"]
    ]
    lines += _markdown_table(
        ["method", "mean", "95 % over worlds", *(f"world {w}" for w in study["worlds"])], rows
    )
    lines += ["", "## Paired differences, points", ""]
    rows = [
        [
            f"{row['first']} - {row['second']}",
            _percent(row["mean"], signed=True),
            _interval((row["low"], row["high"]), signed=True),
            "-" if row["p_value"] is None else f"{row['p_value']:.3f}",
            ", ".join(_percent(mean, signed=True) for mean in row["by_cluster"].values()),
        ]
        for row in study["comparisons"]
    ]
    lines += _markdown_table(["difference", "mean", "95 % over worlds", "p", "by world"], rows)
    lines += ["", '## P(IK): AUROC for "the few-shot answer is right"', ""]
    rows = [
        [row["method"], row["distribution"], f"{row['auroc']:.3f}"]
        + [
            "-"
            if row["interval_over_worlds"] is None
            else " to ".join(f"{b:.3f}" for b in row["interval_over_worlds"])
        ]
        + [f"{value:.3f}" for value in row["by_world"].values()]
        for row in study["p_ik"]
    ]
    lines += _markdown_table(
        ["P(IK) of", "distribution", "mean", "95 % over worlds", *(f"world {w}" for w in study["worlds"])],
        rows,
    )
    lines += ["", "## What selection and smoothing did to the labels (second half of training, per cent)", ""]
    lines += _label_table(study["diagnostics"])
    return "\n".join(lines) + "\n"


def _label_table(diagnostics: list[dict[str, Any]]) -> list[str]:
    columns = {
        "ik_rate_first_half": "IK rate, 1st half", "ik_rate": "IK rate", "self_accuracy_on_ik": "self right on IK",
        "weak_accuracy_on_ik": "weak right on IK", "self_accuracy": "self right", "weak_accuracy": "weak right",
        "prior_accuracy": "after selection", "target_accuracy": "after smoothing", "smoothing_flips": "flipped",
    }  # fmt: skip
    rows = [
        [row["method"], *(_percent(row[key]) for key in columns)]
        + ["-" if row[key] is None else f"{row[key]:.2f}" for key in ("self_weight", "effective_neighbours")]
        for row in diagnostics
    ]
    return _markdown_table(["method", *columns.values(), "self-weight", "effective neighbours"], rows)


PROTOCOL = (
    "Every choice (world shape, model sizes, learning rates, epochs) was made on worlds 0, 1, 2, 10 and 11; none was "
    "made on the worlds reported here. Seeds in a world share its two pretrained models, so the "
    "intervals and p-values are those of a t-test over the means of the worlds: few, and therefore wide. The p-values "
    "are not corrected for their number."
)


def report(workdir: pathlib.Path, output: pathlib.Path, commands: list[str]) -> None:
    """Writes `output`.json, .md and .png."""
    found = collect(workdir)
    by_method = accuracies(found)
    summary = []
    for method, by_world in by_method.items():
        means = {str(world): statistics.fmean(values) for world, values in by_world.items()}
        summary.append(
            {
                "method": method,
                "accuracy": statistics.fmean(means.values()),
                "interval_over_worlds": metrics.mean_interval(list(means.values())),
                "by_world": means,
                "by_world_and_seed": {str(world): values for world, values in by_world.items()},
            }
        )
    first = next(iter(found.values()))["joint"]
    study = {
        "worlds": [str(world) for world in found],
        "seeds": len(first["manifest"]["config"]["seeds"]),
        "n": {str(world): stages["joint"]["records"][0]["n"] for world, stages in found.items()},
        "commands": commands,
        "protocol": PROTOCOL,
        "accuracy": summary,
        "comparisons": compare(by_method),
        "p_ik": p_ik_by_world(found),
        "diagnostics": mean_diagnostics(found),
        "by_frequency": few_shot_by_frequency(found),
        "config": first["manifest"]["config"],
        "libraries": first["manifest"]["libraries"],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(study, indent=1, allow_nan=False) + "\n")
    output.with_suffix(".md").write_text(to_markdown(study))
    rows = [
        {
            "method": row["method"],
            "accuracy": row["accuracy"],
            "accuracy_low": row["interval_over_worlds"][0],
            "accuracy_high": row["interval_over_worlds"][1],
        }
        for row in summary
        if row["interval_over_worlds"] is not None
    ]
    if rows:
        figures.draw_summary(
            output.with_suffix(".png"),
            title=f"{len(found)} worlds, {study['seeds']} seeds each",
            rows=rows,
            p_ik_panels=(),
            gamma=study["config"]["p_ik"]["gamma"],
        )
    shown = methods.compared(study["by_frequency"]["correct"])
    figures.draw_accuracy_by_frequency(
        output.with_name(f"{output.name}_by_frequency.png"),
        title=f"accuracy by how often the text names the entity, {len(found)} worlds",
        groups=results.FREQUENCY_GROUPS,
        series={name: (study["by_frequency"]["correct"][name], study["by_frequency"]["n"]) for name in shown},
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "report"):
        sub = commands.add_parser(name)
        sub.add_argument("--workdir", type=pathlib.Path, required=True)
        if name == "run":
            sub.add_argument(
                "--worlds", type=lambda text: [int(part) for part in text.split(",")], required=True
            )
            sub.add_argument("--jobs", type=int, default=2)
            sub.add_argument("overrides", nargs="*", help="further --config.key=value, after --")
        else:
            sub.add_argument("--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.workdir, arguments.worlds, arguments.jobs, arguments.overrides)
    else:
        worlds = [str(world) for world in collect(arguments.workdir)]
        shown = [
            f"python benchmarks/world_study.py run --workdir={arguments.workdir} "
            f"--worlds={','.join(worlds)} --jobs={len(worlds)}",
            f"python benchmarks/world_study.py report --workdir={arguments.workdir} --output={arguments.output}",
        ]
        report(arguments.workdir, arguments.output, shown)


if __name__ == "__main__":
    main()
