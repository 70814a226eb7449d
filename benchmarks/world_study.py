"""Does selection gain in the small world, and what gains more? A study whose comparisons were fixed before it was run.

    python benchmarks/world_study.py run --workdir=runs/world_study --worlds=65,66,67,68,69
    python benchmarks/world_study.py report --workdir=runs/world_study --output=benchmarks/results/world_study

`run` runs `configs/world.py` in every world; what is finished is found again. With `--smoothed` it also trains the
students of `SMOOTHED`, from the same pretrained models, answers and weak labels. `report` writes the results as JSON,
tables in Markdown and a picture. `PROTOCOL`, `PRIMARY` and `SECONDARY` are what was fixed.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import clusters
import world_study_page

from selw2s_jax.analysis import comparisons, metrics

# The method and its control, which is the same but for what the method is said to gain by.
PRIMARY = (
    ("posterior", "posterior_shuffled"),
    ("selective_frozen", "random_selection_frozen"),
    ("selective", "random_selection"),
)
SECONDARY = (
    ("posterior", "selective_frozen"),
    ("posterior", "finetune"),
    ("posterior", "self_training"),
    ("selective_frozen", "finetune"),
    ("selective", "finetune"),
    ("self_training", "finetune"),
    ("finetune", "weak"),
    ("ceiling", "weak"),
)
# Methods with labels smoothed over the student's whole half, what they are without, and weights of a row's own label.
SMOOTHED = {"selective_without_ik": "finetune", "posterior": "posterior"}
ALPHAS = (0.0, 0.5, 0.9)
SMOOTHING = """\
Labels smoothed over the graph of the student's whole half, whose edges are by embeddings of the strong model as it was
pretrained (graph.over=set), less the same labels as they are: weak labels (selective_without_ik less finetune) and
posterior labels. alpha is the weight of a row's own label, 1 - alpha that of its neighbours' mean. Secondary, not
corrected, and written when the other students of both studies had been seen, and none of these."""
# As it was written. One student was seen before after all, of a setting that was dropped: docs/results.md says so.
PROTOCOL = """\
First study, written before the first student of its worlds was trained.
Worlds 60 to 64, each with a language model pair of its own (world.seed and pretraining.seed), which no choice was made
on: the world's settings were chosen on worlds 0 to 2 by weak, few-shot and ceiling accuracy, AUROC of P(IK) and time,
and no student was looked at; the comparisons come from a trial in other worlds (0 to 2, and 40 to 42).
Seeds 0 to 4 in each, as far as the time allows: the same in every world, and said. Test accuracy on all test items.
Primary comparisons, each a method less its control: posterior - posterior_shuffled (P(IK) shuffled among the rows),
selective_frozen - random_selection_frozen and selective - random_selection (as many random rows).
A world counts once, with the mean over its seeds. Two-sided t-test over the means of the five worlds (4 degrees of
freedom), intervals of 95 %; p-values of the three by Holm. A gain is claimed where the mean is above 0 and Holm's
p-value below 0.05; where it is not, the interval says what can be excluded. All worlds count, also one whose few-shot
answers are poor.
Expected, from the trial: posterior +3 points, selective_frozen +2, published selective (joint P(IK)) none;
gains where the AUROC of P(IK) on the rows on which weak and self label differ exceeds 0.6.
Secondary, not corrected: the other differences, labels, calibration.

Second study, written when worlds 60 and 61 of the first had been seen, with one seed each, and before the first student
of its own worlds was trained. There few-shot answers (86 %) were within two points of the ceiling (88 %), and every
student that saw self labels was as good as these: where self labels do nearly as well everywhere, no choice among rows
can gain. The strong model of the first study had been trained for 700 steps, that of worlds 0 to 2 for 600 (few-shot
76 to 82 %, ceiling 85 to 87 %). So the same study with 600 steps, in worlds 65 to 69, which nothing was chosen on: the
same comparisons, tests and rule; gains are expected where few-shot answers leave room below the ceiling.
Both are reported."""


def run(
    workdir: pathlib.Path, worlds: list[int], config: str, overrides: list[str], *, smoothed: bool
) -> None:
    """Runs the worlds, one after another, and keeps the time that each took in all calls together.

    Args:
        smoothed: whether the students of `SMOOTHED` are trained too.
    """
    over_the_set = [
        f"--config.methods={','.join(SMOOTHED)}",
        "--config.graph.over=set",
        f"--config.sweep.settings='graph.alpha={','.join(map(str, ALPHAS))}'",
    ]
    for world in worlds:
        folder = workdir / f"world-{world}"
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "selw2s_jax.main", f"--config={config}", f"--workdir={folder}",
            f"--config.world.seed={world}", f"--config.pretraining.seed={world}", *overrides,
        ]  # fmt: skip
        start, cpu = time.monotonic(), _cpu_seconds()
        with (folder / "study.log").open("a") as log:
            # The study itself comes last: what the workdir says of its run is then of this one.
            for further in (over_the_set, []) if smoothed else ([],):
                subprocess.run([*command, *further], stdout=log, stderr=subprocess.STDOUT, check=True)
        times = folder / "times.json"
        before = json.loads(times.read_text()) if times.is_file() else {"wall": 0, "cpu": 0}
        spent = {"wall": time.monotonic() - start, "cpu": _cpu_seconds() - cpu}
        spent = {name: round(before[name] + seconds, 1) for name, seconds in spent.items()}
        times.write_text(json.dumps(spent) + "\n")
        print(f"world {world}: {spent['wall']:.0f} s, {spent['cpu']:.0f} s of CPU", flush=True)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def collect(workdir: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The results of each world that is finished, by its number; as `smoothed` those of its runs over the set."""
    folders = sorted(workdir.glob("world-*"))
    return {
        folder.name.removeprefix("world-"): json.loads((folder / "results.json").read_text())
        | {
            "times": json.loads((folder / "times.json").read_text()),
            "smoothed": [
                json.loads(path.read_text())
                for path in sorted(folder.glob("runs/graph.alpha=*/results.json"))
            ],
        }
        for folder in folders
        if (folder / "results.json").is_file()
    }


def over_the_set(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The results of students of smoothed labels, with alpha in their names; none unless all worlds have them all."""
    worlds = {}
    for world, report in found.items():
        worlds[world] = {"p_ik": [], "records": [], "disagreement": []}
        for one in report["smoothed"]:
            alpha = one["manifest"]["config"]["graph"]["alpha"]
            for part in ("records", "disagreement"):
                worlds[world][part] += [
                    entry | {"method": with_alpha(entry["method"], alpha)}
                    for entry in one[part]
                    if entry["method"] in SMOOTHED
                ]
    wanted = {with_alpha(method, alpha) for method in SMOOTHED for alpha in ALPHAS}
    is_whole = all(wanted <= {record["method"] for record in one["records"]} for one in worlds.values())
    return worlds if is_whole else {}


def with_alpha(method: str, alpha: float) -> str:
    """The name of a method with labels smoothed over the set."""
    return f"{method}, alpha {alpha:g}"


def accuracies(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """By method and world, the test accuracy of each seed; few-shot answers have those of P(IK)'s test."""
    by_method: dict[str, dict[str, list[float]]] = {}
    for world, report in found.items():
        for record in report["records"]:
            by_method.setdefault(record["method"], {}).setdefault(world, []).append(record["accuracy"])
        for entry in _p_ik_tests(report, "p_ik_only", "out"):
            by_method.setdefault("few-shot answers", {}).setdefault(world, []).append(
                entry["known"] / entry["n"]
            )
    return by_method


def _p_ik_tests(report: dict[str, Any], method: str, distribution: str) -> list[dict[str, Any]]:
    return [
        entry
        for entry in report["p_ik"]
        if (entry["method"], entry["distribution"]) == (method, distribution)
    ]


def over_worlds(by_world: dict[str, list[float | None]]) -> dict[str, Any]:
    """Mean over worlds of the means over seeds, with the t interval over worlds (None of one world).

    None is an undefined number, which counts in no mean.
    """
    means = {world: _mean(values) for world, values in by_world.items()}
    defined = [mean for mean in means.values() if mean is not None]
    return {
        "mean": _mean(defined),
        "interval": metrics.mean_interval(defined) if defined else None,
        "by_world": means,
    }


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return statistics.fmean(defined) if defined else None


def compare(
    by_method: dict[str, dict[str, list[float]]], pairs: tuple[tuple[str, str], ...]
) -> list[dict[str, Any]]:
    """Paired differences, the first method less the second, with Holm's p-values for all pairs together."""
    rows = []
    for first, second in pairs:
        differences = {
            world: [a - b for a, b in zip(values, by_method[second][world], strict=True)]
            for world, values in by_method[first].items()
        }
        rows.append({"first": first, "second": second, **clusters.difference(differences)._asdict()})
    for row, adjusted in zip(rows, comparisons.holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return rows


# Of the student's half: what selection has to work with, where weak and self label differ.
_DIFFERING = {
    "share": lambda e: e["disagreeing"]["n"] / e["all"]["n"],
    "self right": lambda e: e["disagreeing"]["self_right"],
    "AUROC of P(IK)": lambda e: e["auroc"],
    "AUROC on all rows": lambda e: e["auroc_all"],
    "correlation of errors": lambda e: e["error_correlation"],
}


def disagreement(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Where weak and self label differ, by whose P(IK) it is: that of the joint run and that trained alone."""
    rows = []
    for method in ("selective", "selective_frozen"):
        for name, value in _DIFFERING.items():
            by_world = {
                world: [value(entry) for entry in report["disagreement"] if entry["method"] == method]
                for world, report in found.items()
            }
            rows.append({"p_ik_of": method, "what": name, **over_worlds(by_world)})
    return rows


def labels(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What each method was trained on: share of right labels and Brier score, weak and self labels first."""
    rows: dict[str, dict[str, dict[str, list[float]]]] = {}
    for world, report in found.items():
        for entry in report["disagreement"]:
            sources = {entry["method"]: "target"}
            if entry["method"] == "selective_frozen":  # the same for every method
                sources = {"weak labels": "weak", "self labels": "self"} | sources
            for name, which in sources.items():
                for number in ("right", "brier"):
                    values = rows.setdefault(name, {}).setdefault(number, {}).setdefault(world, [])
                    values.append(entry["all"][f"{which}_{number}"])
    return [
        {"labels": name} | {n: over_worlds(values) for n, values in of.items()} for name, of in rows.items()
    ]


def right_labels(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """By method and world, the share of right labels that it was trained on, of each seed."""
    by_method: dict[str, dict[str, list[float]]] = {}
    for world, report in found.items():
        for entry in report["disagreement"]:
            values = by_method.setdefault(entry["method"], {}).setdefault(world, [])
            values.append(entry["all"]["target_right"])
    return by_method


def p_ik(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """AUROC of P(IK) for "the few-shot answer is right", trained alone and jointly."""
    return [
        {
            "method": method,
            "distribution": distribution,
            **over_worlds(
                {
                    world: [entry["auroc"] for entry in _p_ik_tests(report, method, distribution)]
                    for world, report in found.items()
                }
            ),
        }
        for method in ("p_ik_only", "selective")
        for distribution in ("in", "out")
    ]


def calibration(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Calibration error of weak labels and of P(IK) on what they were fitted to, before and after."""
    return [
        {
            "of": of,
            "number": number,
            **over_worlds(
                {
                    world: [entry[of][number] for entry in report["calibration"]]
                    for world, report in found.items()
                }
            ),
        }
        for of in ("weak", "p_ik")
        for number in ("ece_before", "ece_after", "brier_before", "brier_after")
    ]


def make_study(found: dict[str, dict[str, Any]], commands: list[str]) -> dict[str, Any]:
    """All numbers of the study."""
    by_method, smoothed = accuracies(found), over_the_set(found)
    pairs = [(with_alpha(method, alpha), none) for method, none in SMOOTHED.items() for alpha in ALPHAS]
    first = next(iter(found.values()))
    return {
        "worlds": list(found),
        "seeds": list(first["manifest"]["config"]["seeds"]),
        "n": {world: report["records"][0]["n"] for world, report in found.items()},
        "commands": commands,
        "protocol": PROTOCOL,
        "accuracy": [
            {"method": method, **over_worlds(by_world), "by_world_and_seed": by_world}
            for method, by_world in by_method.items()
        ],
        "primary": compare(by_method, PRIMARY),
        "secondary": compare(by_method, SECONDARY),
        "p_ik": p_ik(found),
        "disagreement": disagreement(found),
        "labels": labels(found),
        "label_differences": compare(right_labels(found), PRIMARY),
        "smoothing": compare(by_method | accuracies(smoothed), tuple(pairs)) if smoothed else [],
        "smoothed_labels": labels(smoothed),
        "smoothing_note": SMOOTHING,
        "calibration": calibration(found),
        "seconds": {world: report["times"] for world, report in found.items()},
        "config": first["manifest"]["config"],
        "libraries": first["manifest"]["libraries"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--worlds", type=lambda text: [int(part) for part in text.split(",")], required=True)
    running.add_argument("--config", default="configs/world.py")
    running.add_argument(
        "--smoothed", action="store_true", help="also students of labels smoothed over the whole half"
    )
    running.add_argument("overrides", nargs="*", help="further --config.key=value, after --")
    reporting = commands.add_parser("report")
    reporting.add_argument("--output", type=pathlib.Path, required=True)
    for sub in (running, reporting):
        sub.add_argument("--workdir", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(
            arguments.workdir,
            arguments.worlds,
            arguments.config,
            arguments.overrides,
            smoothed=arguments.smoothed,
        )
        return
    found, name = collect(arguments.workdir), arguments.output.name
    config = next(iter(found.values()))["manifest"]["config"]
    options = [
        f"--config.seeds={','.join(map(str, config['seeds']))}",
        f"--config.pretraining.strong.num_steps={config['pretraining']['strong']['num_steps']}",
    ]
    smoothed = " --smoothed" if over_the_set(found) else ""
    commands = [
        f"python benchmarks/world_study.py run --workdir=runs/{name} --worlds={','.join(found)}{smoothed} -- "
        f"{' '.join(options)}",
        f"python benchmarks/world_study.py report --workdir=runs/{name} --output=benchmarks/results/{name}",
    ]
    world_study_page.write(make_study(found, commands), arguments.output)


if __name__ == "__main__":
    main()
