"""Tables of the paper in one small world that no choice was made on, with the controls the paper lacks.

python benchmarks/world_tables.py --world=30 --tables=table2,table4 --workdir=runs/world_tables \
    --output=benchmarks/results/world_tables
python benchmarks/world_tables.py --world=30 --tables=table6 --workdir=runs/world_p_ik \
    --output=benchmarks/results/world_p_ik

Tables 2 and 4 are sweeps over three tasks and five seeds (configs/tables.py), table 6 one over the five tasks that
P(IK) is trained and tested on (configs/p_ik.py); several processes share out the work, and the report of it follows.
Written are OUTPUT.json (every record, commands, times), OUTPUT-<table>.md (the report's tables over tasks) and its
pictures. The same command goes on where it was stopped; the seconds of all calls are added up.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
from typing import Any


@dataclasses.dataclass(frozen=True)
class Study:
    """A table of the paper.

    Attributes:
        config: that makes it.
        kept: names of the report's tables that are over all tasks.
        pictures: patterns of the names of its pictures.
    """

    config: str
    kept: tuple[str, ...] = ("overview", "ablations", "pooled_differences")
    pictures: tuple[str, ...] = ("averages-*.svg",)


STUDIES = {
    "table2": Study("configs/tables.py:table2,world"),
    "table4": Study("configs/tables.py:table4,world"),
    "table6": Study(
        "configs/p_ik.py:world",
        ("p_ik_auroc", "p_ik_tests", "few_shot", "p_ik_bands", "p_ik_questions"),
        ("p_ik_*-1.svg", "few_shot-1.svg"),
    ),
}


def run_table(
    table: str, world: int, shards: int, workdir: pathlib.Path, overrides: list[str]
) -> dict[str, Any]:
    """Runs a sweep and its report; the commands and the seconds that they took together."""
    base = [
        *(sys.executable, "-m", "selw2s_jax.main", f"--config={STUDIES[table].config}"),
        *(f"--config.world.seed={world}", *overrides, f"--workdir={workdir}"),
    ]
    start = time.monotonic()
    logs = [workdir / f"{table}-{number}.log" for number in range(shards)]
    workdir.mkdir(parents=True, exist_ok=True)
    running = []
    for number, log in enumerate(logs):
        with log.open("w") as output:
            command = [*base, f"--shard={number}/{shards}"]
            running.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
    failed = [log for log, process in zip(logs, running, strict=True) if process.wait()]
    if failed:
        sys.exit(f"{failed[0]} ends with an error:\n{failed[0].read_text()[-2000:]}")
    seconds = time.monotonic() - start
    report = [
        sys.executable,
        "-m",
        "selw2s_jax.report",
        f"--workdir={workdir}",
        f"--output={workdir / table}",
    ]
    start = time.monotonic()
    subprocess.run(report, check=True)
    described = " ".join(["python", *base[1:], f"--shard=I/{shards}"])
    return {
        "command": described,
        "seconds": round(seconds),
        "report_seconds": round(time.monotonic() - start),
    }


def collect(workdir: pathlib.Path) -> dict[str, Any]:
    """What the runs of the sweep found, by name."""
    cells = {}
    for path in sorted((workdir / "runs").glob("*/results.json")):
        found = json.loads(path.read_text())
        cells[path.parent.name] = {
            key: found[key] for key in ("records", "summary", "diagnostics", "p_ik", "notes")
        }
        cells[path.parent.name]["libraries"] = found["manifest"]["libraries"]
    return cells


def keep_report(folder: pathlib.Path, output: pathlib.Path, table: str) -> None:
    """Copies the parts of the report that are over all tasks."""
    study = STUDIES[table]
    texts = [(folder / f"{name}.md").read_text() for name in study.kept if (folder / f"{name}.md").is_file()]
    output.with_name(f"{output.name}-{table}.md").write_text("\n".join(texts))
    for picture in sorted(path for pattern in study.pictures for path in folder.glob(pattern)):
        shutil.copy(picture, output.with_name(f"{output.name}-{table}-{picture.name}"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", type=int, required=True)
    parser.add_argument("--tables", default="table2,table4", help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("overrides", nargs="*", help="further --config.key=value, after --")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    path = arguments.output.with_suffix(".json")
    before = json.loads(path.read_text())["tables"] if path.is_file() else {}
    study = {
        "world": arguments.world,
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "tables": {},
    }
    for table in arguments.tables.split(","):
        # One workdir: the second table trains only what the first has not.
        timing = run_table(table, arguments.world, arguments.shards, arguments.workdir, arguments.overrides)
        timing["seconds"] += before.get(table, {}).get("seconds", 0)
        study["tables"][table] = timing | {"runs": collect(arguments.workdir)}
        keep_report(arguments.workdir / table, arguments.output, table)
        path.write_text(json.dumps(study, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
