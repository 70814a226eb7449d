"""Does a model write what it holds most probable? Its tests of a finished run, answered anew by the other of both ways.

    python benchmarks/written_and_scored.py --workdir=RUN --output=benchmarks/results/written_and_scored.json

A written answer is the greedy text, as it is parsed; a scored one the candidate whose tokens and end of text have the
highest sum of log-probabilities. They need not be the same: greedy writing decides at the first token, where candidates
differ by a letter. So letters are scored by themselves too, which has to give the letters that are written, but for
ties in the compute dtype. RUN is the workdir of a run whose models write and choose; it keeps what is made here.
"""

import argparse
import pathlib
import string
import time
from typing import Any

import numpy as np
import outputs
from etils import epath

from selw2s_jax import config as config_lib
from selw2s_jax.data import answer_tables
from selw2s_jax.experiments import written, written_inputs
from selw2s_jax.inference import candidates
from selw2s_jax.run import saved_config, schedule
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import stage, workbench

WAYS = ("generate", "score")


class Asked:
    """The tests of a trained model of a run, answered in one of `WAYS`.

    Attributes:
        columns: of `answer_tables`, by example_id.
        seconds: that the answers took, next to nothing where they were there.
    """

    def __init__(self, workdir: epath.Path, method: str, seed: int, by: str):
        config = saved_config.get_config(str(workdir / "config.json"))
        config.answers.by = by
        self.config = config_lib.normalize(config)
        experiment = written.Experiment(self.config, written_inputs.prepare(self.config, workdir))
        self.stage = experiment.evaluation(seed, method)
        self.bench, start = workbench.Workbench(artifacts.Store(workdir), workdir), time.monotonic()
        missing = [one for one in stage.in_order([self.stage]) if stage.find(self.bench.store, one) is None]
        schedule.make_all(missing, [self.bench], {one.key: "" for one in missing})
        self.seconds = time.monotonic() - start
        table = stage.find(self.bench.store, self.stage).read_table(answer_tables.FILE)
        ids = list(dict.fromkeys(table["example_id"]))
        columns = answer_tables.by_question(table, ids)
        self.columns = {
            name: dict(zip(ids, (one for (one,) in own), strict=True)) for name, own in columns.items()
        }

    def letters(self) -> dict[str, np.ndarray]:
        """Log-probabilities of each letter that may follow a prompt, by example_id."""
        split, tokenizer = self.stage.split, self.stage.model.tokenizer
        prompts = [split.task.prompt(question) for question in split.questions]
        letters = [[f" {one}" for one in string.ascii_uppercase[: len(q.choices)]] for q in split.questions]
        own, found = candidates.encode_batch(tokenizer, prompts, letters, split.ids)
        model = self.stage.hold(self.bench)
        options = {"mesh": model.mesh, "batch_tokens": self.config.execution.score_tokens, "label": "letters"}
        log_probs = candidates.log_probs(model, own, found, split.ids, **options)
        return dict(zip(split.ids, log_probs, strict=True))


def compare(by_writing: Asked, by_score: Asked) -> dict[str, Any]:
    """Of questions that both answer: how many answers are the same, how many are right, and how many letters."""
    split, (first, second) = by_writing.stage.split, (by_writing.columns, by_score.columns)
    truth = {name: str(split.task.truth(q)) for name, q in zip(split.ids, split.questions, strict=True)}
    ids = [name for name, answer in first["prediction"].items() if answer]
    same = {name for name in ids if first["prediction"][name] == second["prediction"][name]}
    lettered = [name for name in ids if first["letter"][name] >= 0 and first["rule"][name] == "letter"]
    log_probs = by_writing.letters()
    behind = {
        name: float(np.max(log_probs[name]) - log_probs[name][first["letter"][name]]) for name in lettered
    }

    def right(which: dict[str, Any], members) -> int:
        return sum(which["prediction"][name] == truth[name] for name in members)

    return {
        "questions": len(split),
        "parsed": len(ids),
        "same": len(same),
        "same_right": right(first, same),
        "written_right": right(first, ids),
        "scored_right": right(second, ids),
        "written_by_letter": len(lettered),
        "letter_is_likeliest": sum(gap == 0 for gap in behind.values()),
        "largest_gap_to_the_likeliest": max(behind.values(), default=None),  # of log-probabilities
        "seconds": {"generate": by_writing.seconds, "score": by_score.seconds},
        "differing": [
            {"example_id": name, "written": first["text"][name], "scored": second["text"][name]}
            for name in ids
            if name not in same
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
    found = [Asked(arguments.workdir, arguments.method, arguments.seed, by) for by in WAYS]
    report = {"machine": outputs.MACHINE, "method": arguments.method, **compare(*found)}
    outputs.write(report, arguments.output)


if __name__ == "__main__":
    main()
