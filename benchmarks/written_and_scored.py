"""Does a model write what it holds most probable? Its tests of a finished run, answered anew by the other of both ways.

    python benchmarks/written_and_scored.py --workdir=RUN --output=benchmarks/results/written_and_scored.json

A written answer is the greedy text, as it is parsed; a scored one the candidate with the highest sum of its tokens'
log-probabilities. RUN is the workdir of a run whose models write; it keeps what is made here.
"""

import argparse
import pathlib
import time
from typing import Any

import outputs
from etils import epath

from selw2s_jax import config as config_lib
from selw2s_jax.data import answer_tables
from selw2s_jax.experiments import written, written_inputs
from selw2s_jax.run import saved_config, schedule
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import stage, workbench

WAYS = ("generate", "score")


def answered(workdir: epath.Path, method: str, seed: int, by: str) -> tuple[dict[str, list], float]:
    """Answers of a trained model to the questions of the test, and the seconds that they took here."""
    config = saved_config.get_config(str(workdir / "config.json"))
    config.answers.by = by
    config = config_lib.normalize(config)
    experiment = written.Experiment(config, written_inputs.prepare(config, workdir))
    asked = experiment.evaluation(seed, method)
    store, start = artifacts.Store(workdir), time.monotonic()
    missing = [one for one in stage.in_order([asked]) if stage.find(store, one) is None]
    schedule.make_all(missing, [workbench.Workbench(store, workdir)], {one.key: "" for one in missing})
    table = stage.find(store, asked).read_table(answer_tables.FILE)
    ids = list(dict.fromkeys(table["example_id"]))
    columns = answer_tables.by_question(table, ids)
    by_id = {name: dict(zip(ids, column, strict=True)) for name, column in columns.items()}
    return by_id, time.monotonic() - start


def compare(written_answers: dict[str, Any], scored: dict[str, Any]) -> dict[str, Any]:
    """Of questions that both answer: how many are the same, and those that are not."""
    ids = [name for name, (answer,) in written_answers["prediction"].items() if answer]
    differing = [name for name in ids if written_answers["prediction"][name] != scored["prediction"][name]]
    return {
        "questions": len(scored["prediction"]),
        "parsed": len(ids),
        "same": len(ids) - len(differing),
        "differing": [
            {
                "example_id": name,
                "written": written_answers["text"][name][0],
                "scored": scored["text"][name][0],
            }
            for name in differing
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=epath.Path, required=True)
    parser.add_argument("--method", default="weak")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    found = {by: answered(arguments.workdir, arguments.method, arguments.seed, by) for by in WAYS}
    report = {"machine": outputs.MACHINE, "method": arguments.method}
    report |= compare(*(found[by][0] for by in WAYS))
    outputs.write(report | {"seconds": {by: found[by][1] for by in WAYS}}, arguments.output)


if __name__ == "__main__":
    main()
