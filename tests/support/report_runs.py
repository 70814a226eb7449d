"""Workdirs as runs and sweeps leave them, written by hand, and what tests read reports with."""

import csv
import html.parser
import io
import json
import pathlib

import numpy as np
from support import store_edits

from selw2s_jax.analysis import disagreement, metrics
from selw2s_jax.analysis import p_ik as p_ik_lib
from selw2s_jax.report import p_ik_questions
from selw2s_jax.run import manifests
from selw2s_jax.runtime import artifacts

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
    "method": "selective", "seed": 0, "train_task": "arc", "test_task": "arc", "distribution": "in", "n": 20,
    "known": 15, "auroc": 0.8, "auroc_low": 0.7, "auroc_high": 0.9, "brier": 0.2, "ece": 0.1, "ik_rate": 0.3,
    "ik_precision": 1.0, "bands": [],
}  # fmt: skip


def diagnosis(method="selective", seed=0, self_weight=0.5, effective_neighbours=4.0, **late):
    graph = {"self_weight": self_weight, "effective_neighbours": effective_neighbours}
    return {"method": method, "seed": seed, "second_half": LATE | late, **graph}


DIAGNOSES = (diagnosis(),)


def labels_of(seed=0, num_rows=301, *, self_right=0.6, skill=1.0):
    """Columns of the student's half, for `disagreement.describe`: labels whose errors are independent of each other.

    Args:
        self_right: share of the self labels that are.
        skill: how much P(IK) depends on which are right; 0 is not at all.
    """
    rng = np.random.default_rng([seed, num_rows])
    truth, knows = rng.integers(0, 2, num_rows), rng.uniform(size=num_rows) < self_right
    weak = np.where(rng.uniform(size=num_rows) < 0.7, 0.8 * truth + 0.1, 0.9 - 0.8 * truth)
    logits = rng.normal(size=num_rows) + skill * np.where(knows, 1.0, -1.0)
    own = np.where(knows, truth, 1 - truth).astype(float)
    p_ik = 1 / (1 + np.exp(-logits))
    return {
        "truth": truth,
        "weak": weak,
        "own": own,
        "p_ik": p_ik,
        "target": np.where(p_ik > 0.8, own, weak),
    }


def disagreement_entry(method="selective", seed=0, p_ik_of="selective", **changes):
    """An entry of `disagreement` of results.json."""
    columns = labels_of(seed, **changes)
    found = disagreement.describe(**(columns if p_ik_of else columns | {"p_ik": None}))
    return {"method": method, "seed": seed, "p_ik_of": p_ik_of, **found}


def calibration_entry(seed=0, *, with_weak=True, slope=0.5):
    """An entry of `calibration` of results.json, of made-up scores."""
    rng = np.random.default_rng(seed)

    def described(num_rows):
        scores = {"before": rng.uniform(size=num_rows), "after": rng.uniform(0.2, 0.8, num_rows)}
        right = rng.uniform(size=num_rows) < scores["after"]
        found = {"n": num_rows}
        for when, values in scores.items():
            found |= {f"log_loss_{when}": 0.6, f"brier_{when}": metrics.brier_score(values, right)}
            found[f"ece_{when}"] = metrics.expected_calibration_error(values, right)
            found[f"bins_{when}"] = [
                {
                    "low": one.low,
                    "high": one.high,
                    "n": one.count,
                    "mean_score": one.score,
                    "right": one.share,
                }
                for one in p_ik_lib.reliability_bins(values, right)
            ]
        return found

    fitted = {
        "weak_slope": 0.7,
        "p_ik_intercept": 0.1,
        "p_ik_slope": slope,
        "constant_reliability": 0.6,
    }
    return {"seed": seed, **fitted, "weak": described(41) if with_weak else None, "p_ik": described(37)}


def kernel_entry(seed=0, **changes):
    """An entry of `kernels` of results.json."""
    dimensions = {"effective_dimension_weak": 7.5, "effective_dimension_strong": 9.25}
    gaps = {"gap": 0.05, "weak_label_gap": 0.01, "operator_norm": 0.9}
    return {"seed": seed, "n": 41} | gaps | dimensions | changes


def questions_of(entry, rng=None, *, is_generated=False):
    """Columns of questions with as many known ones as an entry of `p_ik` has."""
    n, rng = entry["n"], rng or np.random.default_rng(entry["seed"])
    known = np.arange(n) < entry["known"]
    confidence = np.full(n, np.nan) if is_generated else rng.uniform(0.5, 1, n)
    return {
        "example_id": [f"{entry['test_task']}/test/{row}" for row in range(n)],
        "text": [f"{entry['test_task']} question {row}" for row in range(n)],
        "known": known,
        "confidence": confidence.astype(np.float32),
        "p_ik": (0.4 * known + rng.uniform(0, 0.6, n)).astype(np.float32),
    }


def p_ik_test(train_task, test_task, *, seed=0, known=60, n=90, skill=1.0, is_generated=False, texts=None):
    """An entry of `p_ik` and its questions, method `p_ik_only`.

    Args:
        skill: how much P(IK) depends on what is known; 0 is not at all.
    """
    rng = np.random.default_rng([seed, len(train_task), len(test_task), n])
    columns = questions_of(
        {"n": n, "known": known, "seed": seed, "test_task": test_task}, rng, is_generated=is_generated
    )
    logits = rng.normal(size=n) + skill * np.where(columns["known"], 1.5, -0.5)
    columns["p_ik"] = (1 / (1 + np.exp(-logits))).astype(np.float32)
    if texts is not None:
        columns["text"] = [texts(row) for row in range(n)]
    scores, right = columns["p_ik"], columns["known"]
    selected = scores > 0.8
    low, high = metrics.auroc_interval(scores, right) or (None, None)
    entry = {
        "method": "p_ik_only",
        "seed": seed,
        "train_task": train_task,
        "test_task": test_task,
        "distribution": "in" if train_task == test_task else "out",
        "n": n,
        "known": known,
        "auroc": metrics.auroc(scores, right),
        "auroc_low": low,
        "auroc_high": high,
        "brier": metrics.brier_score(scores, right),
        "ece": metrics.expected_calibration_error(scores, right),
        "ik_rate": float(selected.mean()),
        "ik_precision": float(right[selected].mean()) if selected.any() else None,
        "bands": p_ik_lib.difficulty_bands(columns["confidence"], scores, right),
    }
    return entry, columns


def write_questions(folder, tests) -> None:
    """The file of questions of a run.

    Args:
        tests: pairs of an entry of `p_ik` and its columns.
    """
    rows: dict[str, list] = {}
    for entry, columns in tests:
        shared = {name: [entry[name]] * entry["n"] for name in p_ik_questions.TestKey._fields}
        for name, values in (shared | columns).items():
            rows.setdefault(name, []).extend(values)
    artifacts.write_table(folder / manifests.P_IK_ITEMS_FILE, rows)


def write_p_ik_run(workdir, *, train_task, test_task, seeds=(0,), tests=None, with_questions=True, **others):
    """A workdir as a run of P(IK) alone leaves it.

    Args:
        tests: pairs of `p_ik_test` of each seed; made without.
        others: arguments of `p_ik_test`, and of `write_run`.
    """
    names = ("known", "n", "skill", "is_generated", "texts")
    of_test = {name: others.pop(name) for name in names if name in others}
    if tests is None:
        tests = [p_ik_test(train_task, test_task, seed=seed, **of_test) for seed in seeds]
    settings = {"p_ik.task": train_task} | (others.pop("settings", None) or {})
    write_run(
        workdir,
        right={},
        task=test_task,
        weak=None,
        seeds=seeds,
        settings=settings,
        diagnostics=(),
        p_ik=[entry for entry, _ in tests],
        questions=tests if with_questions else None,
        **others,
    )
    return workdir


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
    questions="of p_ik",
    examples=(),
    notes=(),
    order=None,
    num_items=NUM_ITEMS,
    with_results=True,
    seeds=None,
    settings=None,
    depend=(),
    described=None,
    of_labels=None,
) -> pathlib.Path:
    """A workdir as a run leaves it: method m of seed s gets the first right[m][s] items right.

    Args:
        root: the workdir with artifacts and logs, of a cell of a sweep.
        unfinished: methods that have been planned and not evaluated.
        order: of the items in the files.
        num_items: of the test set, whose labels are those of `TRUTH` again and again.
        seeds: one for each of the numbers of a method; counted from 0 without.
        settings: by "section.key" of the config.
        questions: pairs of an entry of `p_ik` and its columns; None for no file of questions.
        depend: methods that the settings change; the others are shared by all settings of a task.
        described: "methods" of the manifest; None as in a run of an earlier version.
        of_labels: "disagreement", "calibration", "kernels" of results.json; None as in a run of an earlier version.
    """
    root = workdir if root is None else root
    workdir.mkdir(parents=True)
    truth = np.resize(TRUTH, num_items)
    order = list(range(num_items)) if order is None else list(order)
    ids = [f"item-{index}" for index in order]
    seeds = list(range(len(right["weak"]))) if seeds is None else list(seeds)
    methods = [method for method in right if method not in ("weak", "ceiling")]
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
                store_edits.make(store, "predictions", key_of, write)
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
        "methods": methods or ["p_ik_only"],
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
        "models": {role: {"name": name} for role, name in (("weak", weak), ("strong", strong)) if name},
        "students": trained,
        "test": {
            "n": num_items,
            "labels_hash": artifacts.content_hash([ids, labels]),
            "is_papers_data": is_papers_data,
            "evaluations": evaluations,
        },
        "stages": stages,
        "examples": list(examples),
    }
    manifest |= {} if described is None else {"methods": described}
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    (workdir / manifests.TRUTH_FILE).write_text(json.dumps({"example_id": ids, "label": labels}))
    (root / "logs").mkdir(exist_ok=True)
    for entry in trained:
        if entry["method"] not in unfinished:
            lines = [json.dumps({"step": step, "train/loss": 1 / (step + 1)}) for step in range(3)]
            log = root / "logs" / f"log-{entry['key']}.jsonl"
            log.write_text("\n".join([*lines, '{"step": 3, "tra']))
    if with_results:
        results = {"manifest": manifest, "diagnostics": list(diagnostics), "p_ik": list(p_ik)}
        (workdir / "results.json").write_text(
            json.dumps(results | {"notes": list(notes)} | (of_labels or {}))
        )
        if questions == "of p_ik":
            questions = [(entry, questions_of(entry)) for entry in p_ik]
        if questions:
            write_questions(workdir, questions)
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
        folder = workdir / "runs" / name
        if "test_task" in arguments:
            write_p_ik_run(folder, root=workdir, **arguments)
            axes = {"task": arguments["test_task"], "p_ik.task": arguments["train_task"]}
            axes |= {"strong.model": arguments.get("strong", "qwen-14b")}
        else:
            write_run(folder, root=workdir, **arguments)
            axes = {"task": arguments.get("task", "sciq"), "weak.model": arguments.get("weak", "gpt2")}
        listed.append({"name": name, "axes": axes | (arguments.get("settings") or {})})
    listed += [{"name": name, "axes": axes} for name, axes in dict(not_begun).items()]
    (workdir / manifests.SWEEP_FILE).write_text(json.dumps({"cells": listed}))
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
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
