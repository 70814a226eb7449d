"""Numbers over several runs: methods by task with averages, along an axis of a sweep, by pair of models."""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import comparisons, metrics
from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.method import registry
from selw2s_jax.report import numbers, stored

AVERAGE = "mean over tasks"  # in the place of a task
_MAY_DIFFER = ("task", "sweep", "methods", "seeds")  # in the configs of runs that are averaged over tasks


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of the same models in the same settings, each on a task of its own.

    Attributes:
        settings: by dotted config key, what the sweep varied beside task and models.
        runs: by task.
    """

    weak: str
    strong: str
    settings: Mapping[str, Any]
    runs: Mapping[str, stored.Run]

    @property
    def title(self) -> str:
        return f"{self.weak} teaches {self.strong}" + stored.describe_settings(self.settings)

    @property
    def strong_model(self) -> str:
        """The strong model as the config names it."""
        return next(iter(self.runs.values())).strong_model

    @property
    def methods(self) -> list[str]:
        """Those that are finished for a seed of a task or more, weak model first, ceiling last."""
        return methods_lib.weak_first(method for run in self.runs.values() for method in run.predictions)

    @property
    def facts(self) -> dict[str, methods_lib.Facts]:
        """What each of `methods` is."""
        runs = list(self.runs.values())
        return {
            method: next((run for run in runs if method in run.methods), runs[0]).facts(method)
            for method in self.methods
        }

    def of_role(self, role: str) -> list[str]:
        """Those of `methods` that have a role, of `registry.ROLES`."""
        return methods_lib.of_role(role, self.facts)

    @property
    def has_averages(self) -> bool:
        """Whether the runs are several and their models are trained alike, so that a mean over them says something."""
        configs = [
            {key: value for key, value in run.config.items() if key not in _MAY_DIFFER}
            for run in self.runs.values()
        ]
        return len(configs) > 1 and all(config == configs[0] for config in configs)


def make_groups(runs: Sequence[stored.Run]) -> list[Group]:
    """The groups, in the order of the runs; none where two runs agree in task, models and settings."""
    members: dict[str, dict[str, stored.Run]] = {}
    for run in runs:
        of_group = members.setdefault(json.dumps([run.weak, run.strong, run.settings]), {})
        if run.task in of_group:
            return []
        of_group[run.task] = run
    return [
        Group(first.weak, first.strong, first.settings, of_group)
        for of_group in members.values()
        for first in [next(iter(of_group.values()))]
    ]


def method_rows(group: Group) -> list[dict[str, Any]]:
    """Per method: `TASK accuracy`, `TASK pgr`, their intervals and the paper's, for every task and for `AVERAGE`.

    The average has a value where a method is finished for a seed of every task; its PGR is that of the average
    accuracies, and its intervals are bootstrapped over items and seeds within each task.
    """
    of_tasks = {
        task: {row["method"]: row for row in numbers.main_results(run)} for task, run in group.runs.items()
    }
    rows = []
    for method in group.methods:
        row: dict[str, Any] = {"method": method}
        for task, run in group.runs.items():
            result = of_tasks[task].get(method, {})
            for name in ("accuracy", "accuracy_interval", "pgr", "pgr_interval", "paper_accuracy"):
                row[f"{task} {name}"] = result.get(name)
            row[f"{task} paper_pgr"] = numbers.paper_pgr(run, method)
        if group.has_averages:
            row |= {f"{AVERAGE} {name}": value for name, value in _average(group, method).items()}
        rows.append(row)
    return rows


def _average(group: Group, method: str) -> dict[str, Any]:
    names = ("accuracy", "accuracy_interval", "pgr", "pgr_interval", "paper_accuracy", "paper_pgr")
    row: dict[str, Any] = dict.fromkeys(names)
    correct = _correct(group, method)
    if correct is None:
        return row
    mean = comparisons.pooled_accuracy([right for (right,) in correct])
    row["accuracy"], row["accuracy_interval"] = mean.mean, numbers.interval(mean)
    trio = None if method in registry.REFERENCES else _for_pgr(group, method)
    if trio is not None:
        recovered = comparisons.pooled_pgr(trio)
        row["pgr"], row["pgr_interval"] = recovered.value, numbers.interval(recovered)
    row["paper_accuracy"] = _papers_average(group, method)
    trio = [_papers_average(group, name) for name in ("weak", method, "ceiling")]
    if method not in registry.REFERENCES and None not in trio:
        row["paper_pgr"] = metrics.performance_gap_recovered(*trio)
    return row


def _papers_average(group: Group, method: str) -> float | None:
    papers = [numbers.paper_accuracy(run, method) for run in group.runs.values()]
    return None if None in papers else statistics.fmean(papers)


def _correct(group: Group, *methods: str) -> list[tuple[Any, ...]] | None:
    """Of each task, whether the methods get each item right in the seeds that all have; None where a task has none."""
    of_tasks = []
    for run in group.runs.values():
        seeds = run.common_seeds(*methods)
        if not seeds:
            return None
        of_tasks.append(tuple(run.correct(method, seeds) for method in methods))
    return of_tasks


def _for_pgr(group: Group, method: str) -> list[tuple[Any, ...]] | None:
    """As `_correct` of the weak model, a method and the ceiling; the former as `stored.Run.weak_performance` has it."""
    names = ("weak", method, "ceiling")
    of_tasks = _correct(group, *names)
    if of_tasks is None:
        return None
    weak = [run.weak_performance(run.common_seeds(*names)) for run in group.runs.values()]
    return [(first, *others) for first, (_, *others) in zip(weak, of_tasks, strict=True)]


def difference_rows(group: Group) -> list[dict[str, Any]]:
    """A subject less every other student: `TASK difference` and its interval, for every task and for `AVERAGE`.

    Also `p_value` and `num_tasks`, of the average. No rows where the average would say nothing.
    """
    if not group.has_averages:
        return []
    rows = []
    students = [method for method in group.methods if method not in registry.REFERENCES]
    subjects = group.of_role("subject")
    pairs = [
        (subject, other)
        for place, subject in enumerate(subjects)
        for other in students
        if other not in subjects[: place + 1]  # of two subjects one difference is enough
    ]
    for subject, other in pairs:
        row: dict[str, Any] = {"first": subject, "second": other, "num_tasks": len(group.runs)}
        changes = {task: numbers.difference(run, subject, other) for task, run in group.runs.items()}
        pair = _correct(group, subject, other)
        changes[AVERAGE] = None if pair is None else comparisons.pooled_difference(pair)
        for task, change in changes.items():
            row[f"{task} difference"] = None if change is None else change.mean
            row[f"{task} difference_interval"] = None if change is None else numbers.interval(change)
        row["p_value"] = None if changes[AVERAGE] is None else changes[AVERAGE].p_value
        rows.append(row)
    return rows


def average_majority_class(group: Group) -> float:
    """Accuracy of always giving the commonest answer, mean over tasks."""
    return statistics.fmean(map(numbers.majority_class_accuracy, group.runs.values()))


@dataclasses.dataclass(frozen=True)
class Line:
    """Groups that differ in one setting alone.

    Attributes:
        key: of that setting, a dotted config key.
        groups: in the order of its values, by size where they are numbers.
    """

    key: str
    groups: Sequence[Group]

    @property
    def title(self) -> str:
        first = self.groups[0]
        others = {key: value for key, value in first.settings.items() if key != self.key}
        return f"{first.weak} teaches {first.strong}" + stored.describe_settings(others)

    @property
    def values(self) -> list[Any]:
        return [group.settings[self.key] for group in self.groups]

    @property
    def is_numeric(self) -> bool:
        return all(type(value) in (int, float) for value in self.values)

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(task for group in self.groups for task in group.runs))

    @property
    def methods(self) -> list[str]:
        return methods_lib.weak_first(method for group in self.groups for method in group.methods)

    @property
    def facts(self) -> dict[str, methods_lib.Facts]:
        """What each of `methods` is."""
        known = {method: facts for group in self.groups for method, facts in group.facts.items()}
        return {method: known[method] for method in self.methods}

    def depends(self, method: str) -> bool:
        """Whether a method's models differ along the axis; also where no task tells."""
        of_tasks = [
            [_evaluation_keys(group.runs[task], method) for group in self.groups if task in group.runs]
            for task in self.tasks
        ]
        compared = [keys for keys in of_tasks if len(keys) > 1]
        return not compared or any(keys != others[0] for others in compared for keys in others)


def _evaluation_keys(run: stored.Run, method: str) -> list[str]:
    return [entry["key"] for entry in run.manifest["test"]["evaluations"] if entry["method"] == method]


def make_lines(groups: Sequence[Group]) -> list[Line]:
    """A line for each setting that varies, and for each choice of everything else where two groups or more have it."""
    lines = []
    for key in dict.fromkeys(key for group in groups for key in group.settings):
        members: dict[str, list[Group]] = {}
        for group in groups:
            if key in group.settings:
                others = {name: value for name, value in group.settings.items() if name != key}
                members.setdefault(json.dumps([group.weak, group.strong, others]), []).append(group)
        for of_line in members.values():
            line = Line(key, of_line)
            if line.is_numeric:
                line = Line(key, sorted(of_line, key=lambda group: group.settings[key]))
            lines += [line] if len(of_line) > 1 else []
    return lines


def line_rows(line: Line, rows_of: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Per method and value of the axis, `method_rows`; one row, without a value, where it changes nothing.

    Args:
        rows_of: `method_rows` by title of the group.
    """
    keys = dict.fromkeys(key for group in line.groups for row in rows_of[group.title] for key in row)
    rows = []
    for method in line.methods:
        of_method = [
            dict.fromkeys(keys) | row | {"value": stored.setting_text(group.settings[line.key])}
            for group in line.groups
            for row in rows_of[group.title]
            if row["method"] == method
        ]
        # The shared models may be finished for some tasks in one group, for others in another.
        rows += of_method if line.depends(method) else [_overlay(of_method) | {"value": None}]
    return rows


def _overlay(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for row in rows:
        merged |= {key: value for key, value in row.items() if value is not None or key not in merged}
    return merged


def pair_rows(runs: Sequence[stored.Run]) -> list[dict[str, Any]]:
    """Per weak model, strong model and method, the row of `numbers.main_results`."""
    return [
        {"weak": run.weak, "strong": run.strong, **row} for run in runs for row in numbers.main_results(run)
    ]


def transfer_sets(runs: Sequence[stored.Run]) -> dict[str, list[stored.Run]]:
    """By task and settings as a title, the runs that differ in their models, where these are several pairs."""
    by_title: dict[str, list[stored.Run]] = {}
    for run in runs:
        by_title.setdefault(run.task + stored.describe_settings(run.settings), []).append(run)
    return {
        title: of_task
        for title, of_task in by_title.items()
        if 1 < len({(run.weak, run.strong) for run in of_task}) == len(of_task)
    }
