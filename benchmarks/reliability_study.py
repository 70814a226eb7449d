"""Does it help to know which written answers agree? All methods and controls in the small world.

    python benchmarks/reliability_study.py run --workdir=runs/reliability_study --worlds=70,71
    python benchmarks/reliability_study.py report --workdir=runs/reliability_study --worlds=70,71 \
        --output=benchmarks/results/reliability_study

`run` runs `configs/reliability.py:world` in every world, as `selw2s_jax.main` does; what is finished is found again.
`report` writes tables as JSON and Markdown; what its output has of other worlds stays. `PROTOCOL` and `PRIMARY` were
committed before any student was trained.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

import outputs

from selw2s_jax.analysis import comparisons
from selw2s_jax.report import numbers, reliability_numbers, stored

PRIMARY = (("entropy_filter", "random_filter"), ("reweighted", "shuffled_weights"))
PROTOCOL = """\
Written before the first student of these worlds was trained.
Worlds 70 and 71, world_choice, each with language models of its own (world.seed and pretraining.seed); seeds 0 to 4 in
each, as far as the time allows, and said. The settings of the world were chosen in other worlds (0 to 10, 50) by the
accuracy of weak model and ceiling, by which entropies occur and by time; what filter or weights gain was not looked at.
Test accuracy of written answers on all test questions. Primary, each a method less its control: entropy_filter less
random_filter (as many questions at random), reweighted less shuffled_weights (another question's weights). In each
world by two-way bootstrap over test items and seeds, 95 % intervals, p-values of the two by Holm. A gain is claimed in
a world where the difference is above 0 and Holm's p below 0.05. All other pairs are secondary and uncorrected.
Expected: labels are right the more often, the lower their entropy, so the filter trains on better labels; but they are
those of easier questions, so a gain over random ones is open."""


def run(workdir: pathlib.Path, worlds: list[int], seeds: str) -> None:
    """Runs the config in every world, and notes the seconds of the first call that finished it."""
    for world in worlds:
        start, folder = time.monotonic(), workdir / f"world-{world}"
        command = [
            *(sys.executable, "-m", "selw2s_jax.main", "--config=configs/reliability.py:world"),
            *(f"--workdir={folder}", f"--config.world.seed={world}", f"--config.pretraining.seed={world}"),
            f"--config.seeds={seeds}",
        ]
        subprocess.run(command, check=True)
        if not (seconds := folder / "study_seconds.json").exists():
            seconds.write_text(json.dumps(time.monotonic() - start) + "\n")


def describe(folder: pathlib.Path) -> dict[str, Any]:
    """Accuracies, comparisons and labels of a world."""
    found = stored.read_run(folder)
    primary = [{"first": a, "second": b, **_difference(found, a, b)} for a, b in PRIMARY]
    for row, p_value in zip(primary, comparisons.holm([row["p_value"] for row in primary]), strict=True):
        row["p_holm"] = p_value
    every = [(pair.first, pair.second) for pair in reliability_numbers.PAIRS]
    pairs = [pair for pair in every if pair not in PRIMARY and set(found.config["methods"]).issuperset(pair)]
    return {
        "seeds": list(found.config["seeds"]),
        "seconds": json.loads((folder / "study_seconds.json").read_text()),
        "accuracy": numbers.main_results(found),
        "primary": primary,
        "secondary": [{"first": a, "second": b, **_difference(found, a, b)} for a, b in pairs],
        "reliability": found.reliability,
    }


def _difference(found: stored.Run, first: str, second: str) -> dict[str, Any]:
    return numbers.difference(found, first, second)._asdict()


def to_markdown(study: dict[str, Any]) -> str:
    """Tables of all worlds."""
    lines = ["# Reliability of written answers, in the small world", "", *study["protocol"].split("\n"), ""]
    for name, world in study["worlds"].items():
        seeds = ", ".join(map(str, world["seeds"]))
        lines += [f"## World {name}, seeds {seeds}: {world['seconds']:.0f} s", ""]
        lines += outputs.table(
            ["method", "accuracy", "95 %", "PGR"],
            [
                [
                    row["method"],
                    _percent(row["accuracy"]),
                    " to ".join(map(_percent, row["accuracy_interval"])),
                    "-" if row["pgr"] is None else f"{row['pgr']:.3f}",
                ]
                for row in world["accuracy"]
            ],
        )
        lines += ["", *_differences([*world["primary"], *world["secondary"]]), ""]
        lines += ["Answers to the variations of the student's questions, first seed:", ""]
        lines += [*_entropies(world["reliability"][0]), ""]
    return "\n".join(lines)


def _differences(rows: list[dict[str, Any]]) -> list[str]:
    return outputs.table(
        ["difference, points", "mean", "95 %", "p", "p (Holm over two)"],
        [
            [
                f"{row['first']} - {row['second']}",
                f"{100 * row['mean']:+.1f}",
                f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}",
                f"{row['p_value']:.4f}",
                f"{row['p_holm']:.4f}" if "p_holm" in row else "",
            ]
            for row in rows
        ],
    )


def _entropies(found: dict[str, Any]) -> list[str]:
    return outputs.table(
        ["S_ent", "answers", "questions", "right, per cent", "95 %"],
        [
            [
                f"{one['entropy']:.3f}",
                ", ".join(one["counts"]),
                str(one["questions"]),
                _percent(one["varied"]["share"]),
                f"{_percent(one['varied']['low'])} to {_percent(one['varied']['high'])}",
            ]
            for one in found["entropies"]
        ],
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--worlds", default="70,71")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    arguments = parser.parse_args()
    worlds = [int(world) for world in arguments.worlds.split(",")]
    if arguments.command == "run":
        run(arguments.workdir, worlds, arguments.seeds)
        return
    if arguments.output is None:
        parser.error("report needs --output: tables are written there, with .json and .md behind it")
    output = arguments.output.with_suffix(".json")
    found = json.loads(output.read_text())["worlds"] if output.exists() else {}
    found |= {str(world): describe(arguments.workdir / f"world-{world}") for world in worlds}
    study = {"machine": outputs.MACHINE, "protocol": PROTOCOL, "worlds": found}
    outputs.write(study, output)
    arguments.output.with_suffix(".md").write_text(to_markdown(study) + "\n")


if __name__ == "__main__":
    main()
