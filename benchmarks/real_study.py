"""Selection by P(IK) on real pretrained models: SmolLM2-135M teaches Qwen2.5-Coder-1.5B.

    python benchmarks/real_study.py read --task=sciq --models=MODELS --data=DATA --workdir=WORKDIR
    python benchmarks/real_study.py run --task=sciq --models=MODELS --data=DATA --workdir=WORKDIR
    python benchmarks/real_study.py report --workdir=WORKDIR --output=benchmarks/results/real_study

The protocol, written before, is real_study_protocol.md. MODELS has the folders of both models, DATA is laid out as
`data.source` takes it. `read` makes what the frozen strong model reads, answers and embeddings, most of the time;
`run` does that too where it is missing, then trains weak models, heads and all students; `run --study=lora` trains
adapters in the strong model instead, on one seed. `report` writes tables as JSON and Markdown; what OUTPUT has of other
studies stays. What is finished is found again, also by `run` in another clone.
"""

import argparse
import functools
import itertools
import json
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import outputs
from etils import epath

from selw2s_jax import config as config_lib
from selw2s_jax.analysis import comparisons
from selw2s_jax.experiments import inputs, selective
from selw2s_jax.report import auroc_numbers, numbers, stored
from selw2s_jax.run import pipeline, schedule
from selw2s_jax.runtime import artifacts, compilation_cache
from selw2s_jax.stages import answer, embed, stage, workbench

WEAK, STRONG = "smollm2-135m", "qwen2.5-coder-1.5b"
SIZES = {"sciq": (2000, 1000), "boolq": (1000, 500)}  # questions in both halves, and in the test
COMPUTE_DTYPES = {"sciq": "float32", "boolq": "bfloat16"}  # BoolQ's passages are long
PRIMARY = (
    ("posterior", "posterior_shuffled"),
    ("selective_frozen", "random_selection_frozen"),
    ("selective", "random_selection"),
)
SECONDARY = (
    *((first, second) for first, _ in PRIMARY for second in ("finetune", "self_training")),
    ("posterior", "selective_frozen"),
    ("posterior", "posterior_constant"),
    ("selective_by_confidence", "random_selection_by_confidence"),
    ("selective_without_ik", "finetune"),
)
METHODS = (
    "p_ik_only",
    *("finetune", "confidence", "product", "adaptive", "reverse_kl", "jensen_shannon"),  # Table 2
    *("selective", "selective_without_ik", "selective_without_gs", "mtl"),  # Table 4
    *("self_training", "random_selection"),
    *("selective_frozen", "random_selection_frozen"),
    *("selective_by_confidence", "random_selection_by_confidence"),
    *("posterior", "posterior_online", "posterior_shuffled", "posterior_constant"),
)


BINNED = "selective_frozen"  # the method whose P(IK) labels are shown by
STUDIES = {  # what follows study- in the names of files, and what it is
    "all": "weak model fine-tuned",
    "heads": "weak model a probe",
    "lora": "weak model fine-tuned, adapters in the strong one",
}


def make_config(task: str, models: pathlib.Path, data: str, which: str = "all"):
    """One of `STUDIES` on one task."""
    config = _of_probes(task, models, data, "heads" if which == "heads" else "all")
    return _with_adapters(config) if which == "lora" else config


def _with_adapters(config):
    """One seed, a half of the questions: do adapters tell what probes tell?"""
    config.methods, config.seeds = ("finetune", "selective", "posterior"), (0,)
    config.data.num_train, config.data.num_test = 1000, 500
    config.p_ik.num_train, config.p_ik.num_test = 400, 200
    config.p_ik.prompt = config.weak.prompt = "bare"
    config.strong.trained, config.strong.learning_rate = "lora", 1e-3
    config.precision.compute_dtype = "bfloat16"
    return config


def _of_probes(task: str, models: pathlib.Path, data: str, weak_trained: str):
    config = config_lib.default_config()
    config.task, config.methods, config.seeds = task, METHODS, (0, 1, 2, 3, 4)
    config.weak.trained = weak_trained
    if weak_trained == "heads":
        config.weak.learning_rate = 3e-4
    config.weak.model, config.strong.model = str(models / WEAK), str(models / STRONG)
    config.data.source, config.data.overlap, config.data.max_length = data, "drop", 2048
    config.data.num_train, config.data.num_test = SIZES[task]
    config.seed.split = config.seed.conversion = config.seed.shots = 0
    config.p_ik.num_train, config.p_ik.num_test = 800, 400
    config.p_ik.prompt, config.weak.prompt = "fewshot", "bare"
    config.strong.trained, config.strong.learning_rate = "heads", 3e-4
    config.calibration.folds = 2
    config.precision.compute_dtype = COMPUTE_DTYPES[task]
    config.execution.score_tokens = 4096
    return config


def plan(config, workdir: epath.Path) -> list[stage.Stage]:
    """The stages that the strong model, as it was pretrained, makes: answers and embeddings."""
    config = config_lib.normalize(config)
    experiment = selective.Experiment(config, inputs.prepare(config, workdir))
    targets = [one for of_model in experiment.targets() for one in of_model]
    read = [one for one in stage.in_order(targets) if isinstance(one, (answer.Answer, embed.Embed))]
    return [one for one in read if one.model.role == "strong"]


def read_texts(config, workdir: epath.Path) -> None:
    """Makes those that are missing."""
    store = artifacts.Store(workdir)
    missing = [one for one in plan(config, workdir) if stage.find(store, one) is None]
    compilation_cache.enable()
    schedule.make_all(missing, [workbench.Workbench(store, workdir)], {one.key: "" for one in missing})


def run(config, workdir: epath.Path) -> dict[str, Any]:
    """Runs the study on a task, and returns its numbers."""
    start = time.monotonic()
    report = pipeline.run(config, workdir)
    return {"seconds": time.monotonic() - start, **describe(stored.read_run(workdir), report)}


def describe(found: stored.Run, report: dict[str, Any]) -> dict[str, Any]:
    """Accuracies, comparisons, labels and P(IK) of a finished run."""
    rows = [
        {
            key: row[key]
            for key in ("method", "num_seeds", "n", "accuracy", "accuracy_interval", "pgr", "pgr_interval")
        }
        for row in numbers.main_results(found)
    ]
    methods = set(found.config["methods"])
    primary = [_compared(found, *pair) for pair in PRIMARY if methods.issuperset(pair)]
    for row, corrected in zip(primary, comparisons.holm([row["p_value"] for row in primary]), strict=True):
        row["p_value_holm"] = corrected
    return {
        "accuracy": rows,
        "by_seed": [
            {key: row[key] for key in ("method", "seed", "accuracy", "brier")}
            for row in numbers.by_seed(found)
        ],
        "primary": primary,
        "secondary": [_compared(found, *pair) for pair in SECONDARY if methods.issuperset(pair)],
        "ranking": auroc_numbers.rows(found),
        **{
            key: report[key]
            for key in ("disagreement", "calibration", "p_ik", "diagnostics", "notes", "warnings")
        },
        "stages": [one for one in report["manifest"]["stages"] if one["name"] in ("answers", "embeddings")],
    }


def _compared(found: stored.Run, first: str, second: str) -> dict[str, Any]:
    return {"first": first, "second": second, **numbers.difference(found, first, second)._asdict()}


def to_markdown(study: dict[str, Any]) -> str:
    """Tables of all tasks and weak models."""
    lines = ["# Selection by P(IK) on real pretrained models", "", study["about"], ""]
    for name, of_run in study["runs"].items():
        lines += [f"## {name}", ""]
        lines += outputs.table(
            ["method", "accuracy", "95 %", "PGR"],
            [
                [
                    row["method"],
                    _percent(row["accuracy"]),
                    _interval(row["accuracy_interval"]),
                    _number(row["pgr"]),
                ]
                for row in of_run["accuracy"]
            ],
        )
        header = ["difference, points", "mean", "95 %", "p", "p (Holm over three)"]
        rows = [
            [
                f"{row['first']} - {row['second']}",
                _percent(row["mean"], signed=True),
                _interval((row["low"], row["high"]), signed=True),
                f"{row['p_value']:.4f}",
                f"{row['p_value_holm']:.4f}" if "p_value_holm" in row else "",
            ]
            for row in (*of_run["primary"], *of_run["secondary"])
        ]
        lines += ["", *outputs.table(header, rows), "", *_ranking_table(of_run["ranking"]), ""]
        lines += ["Labels of the student's half, mean over seeds:", ""]
        lines += [*_label_table(of_run["disagreement"]), ""]
        lines += ["The same by P(IK) that was trained first, rows of all seeds:", ""]
        lines += [*_bin_table(of_run["disagreement"]), ""]
    return "\n".join(lines)


def _ranking_table(rows: list[dict[str, Any]]) -> list[str]:
    """How methods rank the test items, and their accuracy with as many called right as are; not registered."""
    header = ["method", "AUROC", "95 %", "PGR on AUROC", "95 %", "accuracy at the base rate"]
    cells = [
        [
            row["method"],
            _number(row["auroc"]),
            _interval(row["auroc_interval"], form=_number),
            _number(row["auroc_pgr"]),
            _interval(row["auroc_pgr_interval"], form=_number),
            _percent(row["base_rate_accuracy"]),
        ]
        for row in rows
    ]
    return ["Not registered, looked at afterwards:", "", *outputs.table(header, cells)]


def _label_table(entries: list[dict[str, Any]]) -> list[str]:
    """By method: what it was trained on, beside the labels that it was made of."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        by_method.setdefault(entry["method"], []).append(entry)
    header = [
        *(
            "method",
            "rows",
            "self right",
            "weak right",
            "trained on",
            "Brier",
            "where labels differ",
            "self right there",
        ),
        *("AUROC of P(IK) there", "error correlation"),
    ]
    rows = []
    for method, of_method in by_method.items():
        mean = lambda *path, chosen=of_method: _mean(chosen, path)  # noqa: E731
        rows.append(
            [
                str(method),
                f"{mean('all', 'n'):.0f}",
                *(_percent(mean("all", f"{label}_right")) for label in ("self", "weak", "target")),
                _number(mean("all", "target_brier")),
                f"{mean('disagreeing', 'n'):.0f}",
                _percent(mean("disagreeing", "self_right")),
                _number(mean("auroc")),
                _number(mean("error_correlation")),
            ]
        )
    return outputs.table(header, rows)


def _bin_table(entries: list[dict[str, Any]]) -> list[str]:
    """Labels by P(IK), on all rows and where the two labels differ."""
    found: dict[float, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry["method"] == BINNED:
            for one in entry["bins"]:
                found.setdefault(one["low"], []).append(one)

    def right(which: str, label: str, members: list[dict[str, Any]]) -> str:
        total = sum(one[which]["n"] for one in members)
        count = sum(one[which]["n"] * (one[which][f"{label}_right"] or 0) for one in members)
        return _percent(count / total) if total else "-"

    rows = [
        [
            f"{members[0]['low']:.1f} to {members[0]['high']:.1f}",
            *(
                cell
                for which in ("all", "disagreeing")
                for cell in (
                    str(sum(one[which]["n"] for one in members)),
                    right(which, "self", members),
                    right(which, "weak", members),
                )
            ),
        ]
        for _, members in sorted(found.items())
    ]
    differ = ("where labels differ", "self right there", "weak right there")
    return outputs.table(["P(IK)", "rows", "self right", "weak right", *differ], rows)


def _slim(found: dict[str, Any]) -> dict[str, Any]:
    """Without what any run's own results.json has and no table here is made of."""
    kept = [
        entry if entry["method"] == BINNED else {key: value for key, value in entry.items() if key != "bins"}
        for entry in found["disagreement"]
    ]
    return {key: value for key, value in found.items() if key != "diagnostics"} | {"disagreement": kept}


def _mean(entries: list[dict[str, Any]], path: tuple[str, ...]) -> float | None:
    values = []
    for value in entries:
        for key in path:
            value = value if value is None else value[key]
        if value is not None:
            values.append(value)
    return statistics.fmean(values) if values else None


def _percent(value: float | None, signed: bool = False) -> str:
    return "-" if value is None else f"{100 * value:{'+' if signed else ''}.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds, signed: bool = False, form: Callable[[float], str] | None = None) -> str:
    form = form or functools.partial(_percent, signed=signed)
    return "-" if not bounds or bounds[0] is None else " to ".join(map(form, bounds))


ABOUT = (
    f"{STRONG} taught by {WEAK}, both dequantized from 4-bit files: real knowledge, a little worse than the originals. "
    "Protocol: benchmarks/real_study_protocol.md. Intervals: two-way bootstrap over test items and seeds."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("read", "run", "report"))
    parser.add_argument("--task", choices=SIZES, default="sciq")
    parser.add_argument(
        "--study",
        nargs="+",
        choices=STUDIES,
        default=["all", "heads"],
        help="; ".join(map(": ".join, STUDIES.items())),
    )
    parser.add_argument("--models", type=pathlib.Path)
    parser.add_argument("--data")
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    workdir = epath.Path(arguments.workdir / arguments.task)
    if arguments.command == "read":
        read_texts(make_config(arguments.task, arguments.models, arguments.data), workdir)
    elif arguments.command == "run":
        for which in arguments.study:
            config = make_config(arguments.task, arguments.models, arguments.data, which)
            found = {"machine": outputs.MACHINE, "python": platform.python_version(), **run(config, workdir)}
            (workdir / f"study-{which}.json").write_text(json.dumps(found, indent=1) + "\n")
    else:
        output = arguments.output.with_suffix(".json")
        runs = json.loads(output.read_text())["runs"] if output.exists() else {}
        names = {
            f"{task}, {STUDIES[which]}": (task, which) for task, which in itertools.product(SIZES, STUDIES)
        }
        for name, (task, which) in names.items():
            file = arguments.workdir / task / f"study-{which}.json"
            if file.exists():
                runs[name] = _slim(json.loads(file.read_text()))
        study = {"about": ABOUT, "runs": {name: runs[name] for name in names if name in runs}}
        outputs.write(study, output)
        arguments.output.with_suffix(".md").write_text(to_markdown(study))


if __name__ == "__main__":
    main()
