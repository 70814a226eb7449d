"""Workdirs as runs of written answers leave them, with answers that are made up."""

import json
import pathlib

import numpy as np
from support import store_edits

from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.analysis import reliability
from selw2s_jax.run import manifests
from selw2s_jax.runtime import artifacts

# Accuracy on the test set and steps of training of each method.
METHODS = {
    "weak": (0.5, 40),
    "ceiling": (0.8, 60),
    "finetune": (0.55, 60),
    "entropy_filter": (0.66, 170),
    "entropy_filter_sampled": (0.62, 60),
    "reweighted": (0.64, 300),
    "reweighted_sampled": (0.6, 60),
    "all_variations": (0.6, 300),
    "all_variations_sampled": (0.57, 60),
    "random_filter": (0.58, 170),
    "shuffled_weights": (0.59, 300),
    "majority": (0.57, 60),
}
_CONTROLS = ("all_variations", "all_variations_sampled", "random_filter", "shuffled_weights")


def made_answers(num_questions=83, count=5, num_choices=4, *, seed=0, skill=1.0, bias=0.0, unparsed=0.06):
    """Answers `[Q][1 + N]` to questions of choices, truths `[Q]`, and where they stood.

    Args:
        skill: how much easier than others some questions are; 0: all answers are drawn anew.
        bias: how often the letter A is written, whatever stands there.
        unparsed: how often no answer is found.
    """
    rng = np.random.default_rng(seed)
    answers, truths, chosen, right = [], [], [], []
    for _ in range(num_questions):
        truth, ease = int(rng.integers(num_choices)), float(rng.uniform()) ** (1 / max(skill, 1e-9))
        orders = [list(range(num_choices)), *(rng.permutation(num_choices).tolist() for _ in range(count))]
        given = [truth if rng.uniform() < ease else int(rng.integers(num_choices)) for _ in orders]
        given = [order[0] if rng.uniform() < bias else one for one, order in zip(given, orders, strict=True)]
        given = [None if rng.uniform() < unparsed else one for one in given]
        answers.append(given)
        truths.append(truth)
        chosen.append(
            [-1 if one is None else order.index(one) for one, order in zip(given, orders, strict=True)]
        )
        right.append([order.index(truth) for order in orders])
    return answers, truths, reliability.Letters(chosen, right, [num_choices] * num_questions)


def reliability_entry(seed=0, **changes):
    """An entry of "reliability" of results.json."""
    answers, truths, letters = made_answers(seed=seed, **changes)
    conflicts = [[False] * len(given) for given in answers]
    found = reliability.describe(answers, truths, kind="choice", letters=letters, conflicts=conflicts)
    return {"seed": seed, **found}


def facts() -> dict:
    """ "methods" of the manifest."""
    described = {
        name: methods_lib.Facts(
            description=f"{name} of the second paper",
            role="control" if name in _CONTROLS else "student",
            selects=False,
        )
        for name in METHODS
    }
    described |= {name: methods_lib.facts(name) for name in ("weak", "ceiling", "finetune")}
    return {name: vars(one) for name, one in described.items()}


def write_run(
    workdir,
    *,
    methods=METHODS,
    seeds=(0, 1),
    num_items=60,
    task="mmlu",
    weak="llama-2-7b",
    strong="llama-2-13b",
    is_papers_data=False,
    unfinished=(),
    of_seeds=None,
    with_results=True,
) -> pathlib.Path:
    """A workdir whose models answer about as many of the test items as `methods` says, and write some nonsense.

    Args:
        methods: by name, accuracy and steps.
        unfinished: methods that are planned and not evaluated.
        of_seeds: "reliability" of results.json; None for `reliability_entry` of each seed.
    """
    workdir.mkdir(parents=True)
    store, rng = artifacts.Store(workdir), np.random.default_rng(0)
    ids = [f"{task}/test/{row}" for row in range(num_items)]
    truth = rng.integers(4, size=num_items)
    evaluations, stages, trained = [], [], []
    for method, (accuracy, steps) in methods.items():
        for seed in seeds:
            wrong = np.where(rng.uniform(size=num_items) < 0.1, "", ((truth + 1) % 4).astype(str))
            prediction = np.where(rng.uniform(size=num_items) < accuracy, truth.astype(str), wrong)
            inputs = {"method": method, "seed": seed, "task": task}

            def write_answers(folder, prediction=prediction):
                # Prompts of the test set are the original ones; a row of another is none of its answers.
                table = {
                    "example_id": [*ids, ids[0]],
                    "variation": np.array([0] * num_items + [1], np.int32),
                    "prediction": [*prediction.tolist(), "9"],
                }
                artifacts.write_table(folder / "answers.parquet", table)

            def write_summary(folder, steps=steps):
                artifacts.write_text(folder / "summary.json", json.dumps({"num_steps": steps}))

            for name, write in (("complete", write_summary), ("written", write_answers)):
                if method not in unfinished:
                    store_edits.make(store, name, inputs, write)
                key = artifacts.artifact_key(name, inputs)
                stages.append({"label": f"{name} of {method}, seed {seed}", "name": name, "key": key})
                (trained if name == "complete" else evaluations).append(
                    {"method": method, "seed": seed, "key": key}
                    | ({"stage": name} if name == "written" else {})
                )
    answers = [str(answer) for answer in truth]
    manifest = {
        "version": "0.1.0",
        "config": {
            "task": task,
            "weak": {"model": weak},
            "strong": {"model": strong},
            "methods": [name for name in methods if name not in ("weak", "ceiling")],
            "seeds": list(seeds),
            "training": {"batch_size": 24, "match_steps": False},
            "p_ik": {"gamma": 0.8, "task": "arc"},
        },
        "models": {"weak": {"name": weak}, "strong": {"name": strong}},
        "methods": facts(),
        "students": trained,
        "test": {
            "n": num_items,
            "labels_hash": artifacts.content_hash([ids, answers]),
            "is_papers_data": is_papers_data,
            "evaluations": evaluations,
        },
        "stages": stages,
    }
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    (workdir / manifests.TRUTH_FILE).write_text(json.dumps({"example_id": ids, "answer": answers}))
    (workdir / "logs").mkdir()
    for entry in trained:
        lines = [json.dumps({"step": step, "train/loss": 2 / (step + 1)}) for step in range(4)]
        (workdir / "logs" / f"log-{entry['key']}.jsonl").write_text("\n".join(lines) + "\n")
    if with_results:
        entries = [reliability_entry(seed) for seed in seeds] if of_seeds is None else list(of_seeds)
        results = {"manifest": manifest, "diagnostics": [], "p_ik": [], "notes": [], "reliability": entries}
        (workdir / "results.json").write_text(json.dumps(results))
    return workdir
