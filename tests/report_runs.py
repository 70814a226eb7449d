"""Workdirs as runs and sweeps leave them, written by hand, and what tests read reports with."""

import csv
import html.parser
import io
import json
import pathlib

import numpy as np

from selw2s_jax import artifacts, collect, sweep

NUM_ITEMS = 10
TRUTH = np.array([1, 0, 1, 0, 1, 0, 1, 0, 1, 1])
# Right items of each method by seed, of ten.
RIGHT = {
    "weak": (5, 4),
    "ceiling": (9, 10),
    "finetune": (6, 6),
    "selective": (8, 7),
    "random_selection": (5, 7),
}
NASTY = r"<b>&a_b%\{c}|$d#`~^</b>" + "\n'\""
LATE = {
    "ik_rate": 0.4, "self_accuracy_on_ik": 0.9, "weak_accuracy_on_ik": 0.8, "weak_accuracy": 0.7,
    "prior_accuracy": 0.75, "target_accuracy": 0.76, "smoothing_move": 0.01, "smoothing_flips": 0.0,
    "p_ik_auroc": 0.8,
}  # fmt: skip
P_IK = {
    "method": "selective", "seed": 0, "task": "arc", "distribution": "in", "n": 20, "known": 15, "auroc": 0.8,
    "auroc_low": 0.7, "auroc_high": 0.9, "brier": 0.2, "calibration_error": 0.1, "ik_rate": 0.3,
    "ik_precision": 1.0,
}  # fmt: skip


def diagnosis(method="selective", seed=0, self_weight=0.5, effective_neighbours=4.0, **late):
    graph = {"self_weight": self_weight, "effective_neighbours": effective_neighbours}
    return {"method": method, "seed": seed, "second_half": LATE | late, **graph}


DIAGNOSES = (diagnosis(),)


def write_run(
    workdir,
    *,
    root=None,
    right=RIGHT,
    task="sciq",
    weak="gpt2",
    strong="qwen-14b",
    is_papers_data=False,
    unfinished=(),
    diagnostics=DIAGNOSES,
    p_ik=(P_IK,),
    notes=(),
    order=None,
    num_items=NUM_ITEMS,
    with_results=True,
    seeds=None,
    settings=None,
    depend=(),
) -> pathlib.Path:
    """A workdir as a run leaves it: method m of seed s gets the first right[m][s] items right.

    Args:
        root: the workdir with artifacts and logs, of a cell of a sweep.
        unfinished: methods that have been planned and not evaluated.
        order: of the items in the files.
        num_items: of the test set, whose labels are those of `TRUTH` again and again.
        seeds: one for each of the numbers of a method; counted from 0 without.
        settings: by "section.key" of the config.
        depend: methods that the settings change; the others are shared by all settings of a task.
    """
    root = workdir if root is None else root
    workdir.mkdir(parents=True)
    truth = np.resize(TRUTH, num_items)
    order = list(range(num_items)) if order is None else list(order)
    ids = [f"item-{index}" for index in order]
    seeds = list(range(len(right["weak"]))) if seeds is None else list(seeds)
    store = artifacts.Store(root)
    evaluations, stages, trained = [], [], []
    for method, counts in right.items():
        for seed, count in zip(seeds, counts, strict=True):
            correct = np.arange(num_items) < count
            prob_1 = np.where(correct == truth, 0.8, 0.2)[order]
            key_of = {"method": method, "seed": seed, "task": task, "weak": weak, "strong": strong}
            key_of["settings"] = settings if method in depend else None

            def write(folder, prob_1=prob_1):
                table = {"example_id": ids, "prob_0": 1 - prob_1, "prob_1": prob_1}
                artifacts.write_table(folder / "predictions.parquet", table)

            if method not in unfinished:
                store.make("predictions", key_of, write)
            key = artifacts.artifact_key("predictions", key_of)
            entry = {"method": method, "seed": seed}
            evaluations.append({**entry, "key": key})
            label = f"evaluation of {method}, seed {seed}"
            stages.append({"label": label, "name": "predictions", "key": key})
            trained.append({**entry, "key": f"{key[:8]}{len(trained):08x}"})
    labels = truth[order].tolist()
    config = {
        "task": task,
        "weak": {"model": weak},
        "strong": {"model": strong},
        "methods": [method for method in right if method not in ("weak", "ceiling")],
        "seeds": seeds,
        "training": {"batch_size": 32},
        "p_ik": {"gamma": 0.8, "task": "arc"},
    }
    for name, value in (settings or {}).items():
        section, _, key = name.partition(".")
        config[section] = config.get(section, {}) | {key: value}
    manifest = {
        "version": "0.1.0",
        "config": config,
        "models": {"weak": {"name": weak}, "strong": {"name": strong}},
        "students": trained,
        "test": {
            "n": num_items,
            "labels_hash": artifacts.content_hash([ids, labels]),
            "is_papers_data": is_papers_data,
            "evaluations": evaluations,
        },
        "stages": stages,
    }
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    (workdir / collect.TRUTH_FILE).write_text(json.dumps({"example_id": ids, "label": labels}))
    (root / "logs").mkdir(exist_ok=True)
    for entry in trained:
        if entry["method"] not in unfinished:
            lines = [json.dumps({"step": step, "train/loss": 1 / (step + 1)}) for step in range(3)]
            log = root / "logs" / f"log-{entry['key']}.jsonl"
            log.write_text("\n".join([*lines, '{"step": 3, "tra']))
    if with_results:
        results = {"manifest": manifest, "diagnostics": list(diagnostics), "p_ik": list(p_ik)}
        (workdir / "results.json").write_text(json.dumps(results | {"notes": list(notes)}))
    return workdir


def write_sweep(workdir, cells, *, not_begun=(), **shared) -> pathlib.Path:
    """A workdir as a sweep leaves it.

    Args:
        cells: arguments of `write_run` by name of the cell.
        not_begun: axes by name of the cell.
        shared: arguments of all.
    """
    workdir.mkdir(parents=True)
    listed = []
    for name, changes in cells.items():
        arguments = shared | changes
        write_run(workdir / "runs" / name, root=workdir, **arguments)
        axes = {"task": arguments.get("task", "sciq"), "weak.model": arguments.get("weak", "gpt2")}
        listed.append({"name": name, "axes": axes | (arguments.get("settings") or {})})
    listed += [{"name": name, "axes": axes} for name, axes in dict(not_begun).items()]
    (workdir / sweep.FILE).write_text(json.dumps({"cells": listed}))
    return workdir


def damage(path: pathlib.Path, content: str | None):
    path.unlink() if content is None else path.write_text(content)


def read_csv(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


class Page(html.parser.HTMLParser):
    """The tags of a page, with a check that they are closed in order."""

    def __init__(self, content: bytes):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(content.decode())
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
