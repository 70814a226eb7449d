"""The numbers of P(IK) over the runs of a report: by task that it is trained on and task that it is tested on."""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax import config as config_lib
from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.analysis import metrics, paper
from selw2s_jax.analysis import p_ik as p_ik_lib
from selw2s_jax.report import numbers, p_ik_questions, stored

# Settings, at their defaults, under which the paper's numbers are of the same thing.
_PAPER_SETTINGS = (
    "p_ik.data", "p_ik.file", "p_ik.num_train", "p_ik.num_samples", "p_ik.temperature", "p_ik.epochs", "p_ik.prompt",
    "self_label.num_shots",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """P(IK) of a method trained on one task and tested on another, over seeds.

    Attributes:
        beside: the task that a student learned with the same model; None where P(IK) alone is trained.
        run: the run of these tests.
        tests: by seed, the entry of `Run.p_ik`.
        questions: by seed, those that are stored.
    """

    method: str
    train_task: str
    test_task: str
    beside: str | None
    run: stored.Run
    tests: Mapping[int, dict[str, Any]]
    questions: Mapping[int, p_ik_questions.Questions]

    @property
    def is_in_distribution(self) -> bool:
        return self.train_task == self.test_task

    @property
    def paper_auroc(self) -> float | None:
        """The paper's AUROC of P(IK) on the same data and model; None where it has none."""
        varied = {key: value for key, value in self.run.settings.items() if key != "p_ik.task"}
        varied |= {key: _setting(self.run.config, key) for key in _PAPER_SETTINGS}
        if not self.run.is_papers_data or any(
            not config_lib.is_default(key, value) for key, value in varied.items()
        ):
            return None
        return paper.p_ik_auroc(self.train_task, self.test_task, self.run.strong_model, self.method)

    def values(self, name: str) -> list[float]:
        """A number of each seed that has it."""
        return [test[name] for test in self.tests.values() if test[name] is not None]

    def pooled(self, name: str) -> np.ndarray:
        """`known`, `confidence` or `p_ik` of the questions of all seeds."""
        return np.concatenate([getattr(questions, name) for questions in self.questions.values()])


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Tests of P(IK) of one strong model in the same settings.

    Attributes:
        weak: name of the weak model; None where P(IK) alone is trained.
        settings: by dotted config key, what the sweep varied beside task, models and the task of P(IK).
        runs: that the tests are of.
        workdir: of the one run, where runs cannot be told apart; else None.
    """

    strong: str
    weak: str | None
    settings: Mapping[str, Any]
    runs: Sequence[stored.Run]
    pairs: Sequence[Pair]
    workdir: str | None = None

    @property
    def title(self) -> str:
        teacher = "" if self.weak is None else f" beside what {self.weak} teaches"
        where = f" ({self.workdir})" if self.workdir else ""
        return f"P(IK) of {self.strong}{teacher}{stored.describe_settings(self.settings)}{where}"

    @property
    def gamma(self) -> float:
        return self.runs[0].config["p_ik"]["gamma"]

    @property
    def methods(self) -> list[str]:
        """That P(IK) is tested of; what pictures are of comes first."""
        return methods_lib.p_ik_first({pair.method: pair.run.facts(pair.method) for pair in self.pairs})

    @property
    def train_tasks(self) -> list[str]:
        """ARC first, as the paper trains on it."""
        tasks = dict.fromkeys(pair.train_task for pair in self.pairs)
        return sorted(tasks, key=lambda task: task != paper.P_IK_TASK)

    def by_test(self, method: str) -> dict[str, dict[str, Pair]]:
        """The pairs of a method by what they are tested on, then by task that P(IK) is trained on."""
        order = {task: place for place, task in enumerate(self.train_tasks)}
        by_name: dict[str, dict[str, Pair]] = {}
        for pair in sorted(
            self.pairs, key=lambda pair: (not pair.is_in_distribution, order[pair.train_task])
        ):
            if pair.method == method:
                by_name.setdefault(self.test_name(pair), {})[pair.train_task] = pair
        names = dict.fromkeys(self.test_name(pair) for pair in self.pairs)
        return {name: by_name[name] for name in names if name in by_name}

    def test_name(self, pair: Pair) -> str:
        """The test task; with the student's task where several students' P(IK) are tested on it."""
        students = {other.beside for other in self.pairs if other.test_task == pair.test_task}
        return pair.test_task if len(students) == 1 else f"{pair.test_task} (student of {pair.beside})"


def make_groups(runs: Sequence[stored.Run]) -> list[Group]:
    """The groups, in the order of the runs; a run by itself where another has the same test of a seed."""
    members: dict[str, list[stored.Run]] = {}
    for run in runs:
        if run.p_ik:
            key = json.dumps([run.strong, run.weak, _settings(run), run.config["p_ik"]["gamma"]])
            members.setdefault(key, []).append(run)
    groups = []
    for of_group in members.values():
        pairs = _make_pairs(of_group)
        if pairs is not None:
            groups.append(_make_group(of_group, pairs))
        else:
            places = stored.places(of_group)
            groups += [_make_group([run], _make_pairs([run]), places[run]) for run in of_group]
    return groups


def _make_group(runs: Sequence[stored.Run], pairs: Sequence[Pair], workdir: str | None = None) -> Group:
    first = runs[0]
    return Group(first.strong, first.weak, _settings(first), runs, pairs, workdir)


def _setting(config: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; the default in a run of a version that did not have it."""
    try:
        return config_lib.get(config, key)
    except KeyError:
        return config_lib.get(config_lib.default_config(), key)


def _settings(run: stored.Run) -> dict[str, Any]:
    return {key: value for key, value in run.settings.items() if key != "p_ik.task"}


def _make_pairs(runs: Sequence[stored.Run]) -> list[Pair] | None:
    """The pairs; None where two runs have a test in common."""
    pairs: dict[tuple[str | None, ...], Pair] = {}
    for run in runs:
        for entry in run.p_ik:
            key = p_ik_questions.TestKey.of(entry)
            beside = run.task if run.has_classifiers else None
            name = (key.method, key.train_task, key.test_task, beside)
            pair = pairs.setdefault(name, Pair(*name, run, {}, {}))
            if pair.run is not run:
                return None
            # A student whose task is that of P(IK) has two tests: held-out questions, and then its own test set.
            if key.seed not in pair.tests:
                pair.tests[key.seed] = entry
                if key in run.p_ik_items:
                    pair.questions[key.seed] = run.p_ik_items[key]
    return list(pairs.values())


def auroc(pair: Pair) -> tuple[float | None, tuple[float, float] | None]:
    """Mean over the seeds where it is defined, with the interval of `metrics.seeds_interval`."""
    there = [test for test in pair.tests.values() if test["auroc"] is not None]
    if not there:
        return None, None
    values = [test["auroc"] for test in there]
    bounds = [
        None if test["auroc_low"] is None else (test["auroc_low"], test["auroc_high"]) for test in there
    ]
    return statistics.fmean(values), metrics.seeds_interval(values, bounds)


def few_shot_accuracy(pair: Pair) -> tuple[float, tuple[float, float]]:
    """Share of few-shot answers that are right, mean over seeds, with the interval of `metrics.accuracy_interval`."""
    total = round(statistics.fmean(pair.values("n")))
    shares = [known / n for known, n in zip(pair.values("known"), pair.values("n"), strict=True)]
    return statistics.fmean(shares), metrics.accuracy_interval([share * total for share in shares], total)


def matrix_rows(group: Group) -> list[dict[str, Any]]:
    """Per method and test task: `in` and `from TASK`, with their intervals and the paper's; None where not run."""
    names = ["in", *(f"from {task}" for task in group.train_tasks)]
    rows = []
    for method in group.methods:
        for test_name, by_train in group.by_test(method).items():
            row = {"method": method, "test_task": test_name}
            for name in names:
                row |= {name: None, f"{name} interval": None, f"{name} paper": None}
            for train_task, pair in by_train.items():
                name = "in" if pair.is_in_distribution else f"from {train_task}"
                row[name], row[f"{name} interval"] = auroc(pair)
                row[f"{name} paper"] = pair.paper_auroc
            rows.append(row)
    return rows


def test_rows(group: Group) -> list[dict[str, Any]]:
    """Per pair, means over seeds: accuracy of the answers, AUROC, calibration and what gamma selects."""
    rows = []
    for method, test_name, pair in _all_pairs(group):
        accuracy, accuracy_interval = few_shot_accuracy(pair)
        area, area_interval = auroc(pair)
        risks = [p_ik_lib.area_under_risk_coverage(one.p_ik, one.known) for one in pair.questions.values()]
        selected = [test for test in pair.tests.values() if test["ik_precision"] is not None]
        rows.append(
            {
                "method": method,
                "train_task": pair.train_task,
                "test_task": test_name,
                "n": round(statistics.fmean(pair.values("n"))),
                "num_seeds": len(pair.tests),
                "accuracy": accuracy,
                "accuracy_interval": accuracy_interval,
                "auroc": area,
                "auroc_interval": area_interval,
                "brier": numbers.mean(pair.values("brier")),
                "ece": numbers.mean(pair.values("ece")),
                "risk": numbers.mean(risks),
                "ik_rate": numbers.mean(pair.values("ik_rate")),
                # A seed that selects few questions counts for as little.
                "ik_precision": statistics.fmean(
                    [test["ik_precision"] for test in selected],
                    [test["ik_rate"] * test["n"] for test in selected],
                )
                if selected
                else None,
            }
        )
    return rows


def _all_pairs(group: Group) -> list[tuple[str, str, Pair]]:
    return [
        (method, test_name, pair)
        for method in group.methods
        for test_name, by_train in group.by_test(method).items()
        for pair in by_train.values()
    ]


def band_rows(group: Group) -> list[dict[str, Any]]:
    """Per pair and band of few-shot confidence, means over seeds."""
    rows = []
    for method, test_name, pair in _all_pairs(group):
        banded = [bands for bands in pair.values("bands") if bands]
        for number in range(max(map(len, banded), default=0)):
            of_band = [bands[number] for bands in banded if number < len(bands)]
            low, high = (statistics.fmean(band[end] for band in of_band) for end in ("low", "high"))
            names = ("accuracy", "auroc", "ece")
            rows.append(
                {
                    "method": method,
                    "train_task": pair.train_task,
                    "test_task": test_name,
                    "band": number + 1,
                    "confidence": (low, high),
                    "n": round(statistics.fmean(band["n"] for band in of_band)),
                    **{name: numbers.mean([band[name] for band in of_band]) for name in names},
                }
            )
    return rows


def few_shot_rows(group: Group) -> list[dict[str, Any]]:
    """Per test task, the accuracy of the few-shot answers, whatever P(IK) is trained on and beside."""
    rows: dict[str, dict[str, Any]] = {}
    for pair in group.pairs:
        accuracy, interval = few_shot_accuracy(pair)
        row = {"test_task": pair.test_task, "accuracy": accuracy, "accuracy_interval": interval}
        row |= {"n": round(statistics.fmean(pair.values("n"))), "num_seeds": len(pair.tests)}
        # Of runs that are not all finished, the one with the most seeds.
        if row["num_seeds"] > rows.get(pair.test_task, {}).get("num_seeds", 0):
            rows[pair.test_task] = row
    return list(rows.values())


def question_rows(group: Group, num_questions: int = 3) -> list[dict[str, Any]]:
    """The questions of highest and lowest P(IK), means over seeds, of the first method.

    P(IK) is that trained in distribution, else on ARC, else on the first task there is.

    Args:
        num_questions: of each end and test task; fewer where it has less than twice as many.
    """
    rows = []
    for test_name, by_train in group.by_test(group.methods[0]).items():
        pair = next(iter(by_train.values()))
        scores: dict[str, list[float]] = {}
        known: dict[str, list[bool]] = {}
        texts: dict[str, str] = {}
        for questions in pair.questions.values():
            for name, text, score, right in zip(
                questions.ids, questions.texts, questions.p_ik.tolist(), questions.known.tolist(), strict=True
            ):
                scores.setdefault(name, []).append(score)
                known.setdefault(name, []).append(right)
                texts[name] = text
        order = sorted(scores, key=lambda name: (-statistics.fmean(scores[name]), name))
        count = min(num_questions, len(order) // 2)
        for end, names in (("highest", order[:count]), ("lowest", order[len(order) - count :][::-1])):
            rows += [
                {
                    "test_task": test_name,
                    "train_task": pair.train_task,
                    "end": end,
                    "p_ik": statistics.fmean(scores[name]),
                    "right": f"{sum(known[name])} of {len(known[name])}",
                    "text": texts[name],
                }
                for name in names
            ]
    return rows


def undefined(group: Group) -> list[str]:
    """A line for each test whose AUROC is undefined in some seeds."""
    tasks_of: dict[tuple[str, str, str, str], list[str]] = {}
    for method, test_name, pair in _all_pairs(group):
        for words, share in (("right", 1), ("wrong", 0)):
            seeds = [str(seed) for seed, test in pair.tests.items() if test["known"] == share * test["n"]]
            if seeds:
                of_method = f"{method}, " if len(group.methods) > 1 else ""
                key = of_method, test_name, ", ".join(seeds), words
                tasks_of.setdefault(key, []).append(pair.train_task)
    return [
        f"{of_method}tested on {test_name}, trained on {', '.join(train_tasks)}, seed {seeds}: every few-shot answer "
        f"is {words}, so the AUROC is undefined."
        for (of_method, test_name, seeds, words), train_tasks in tasks_of.items()
    ]
