"""The tables of P(IK) in a report, in the shape of the paper's Tables 6 and 1."""

from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import formats, paper
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import p_ik_numbers

_LONGEST = 300  # characters of a question
_TRAINED = Column("train_task", "trained on", "the task whose questions P(IK) is trained on")
_TESTED = Column("test_task", "tested on", "the task of the questions that P(IK) is tested on")
_METHOD = Column("method", "method", "the method whose model has this P(IK)")
_SEEDS = Column("num_seeds", "seeds", "number of seeds finished", "count")
_N = Column("n", "n", "number of questions of a seed", "count")
_ACCURACY = Column(
    "accuracy",
    "few-shot accuracy",
    "few-shot answers of the strong model that are right, per cent, mean over seeds; the 95 % interval is Wilson's, "
    "with the spread of the seeds added in squares",
    "percent",
    "accuracy_interval",
)
_AUROC = (
    "of P(IK) for the few-shot answer being right, mean over seeds; 50 per cent (0.5) is chance. The 95 % interval is "
    "DeLong's, with the spread of the seeds (Student's t) added in squares"
)


def of_group(group: p_ik_numbers.Group) -> list[formats.Table]:
    """Every table that has rows."""
    tables = (
        matrix_table(group),
        few_shot_table(group),
        test_table(group),
        band_table(group),
        question_table(group),
    )
    return [table for table in tables if table.rows]


def matrix_table(group: p_ik_numbers.Group) -> formats.Table:
    """Table 6: AUROC by test task, trained in distribution and on every other task."""
    rows = p_ik_numbers.matrix_rows(group)
    columns = [*_methods(group), _TESTED]
    headings = {"in": "in distribution"} | {f"from {task}": f"from {task}" for task in group.train_tasks}
    for name, heading in headings.items():
        if any(row[name] is not None for row in rows):
            trained = (
                "P(IK) trained on questions of the test task itself"
                if name == "in"
                else "P(IK) trained on it"
            )
            columns.append(
                Column(name, heading, f"AUROC in per cent, {trained}", "percent", f"{name} interval")
            )
        if any(row[f"{name} paper"] is not None for row in rows):
            columns.append(
                Column(
                    f"{name} paper", f"{heading}: paper's", f"AUROC in per cent, {paper.PUBLISHED}", "percent"
                )
            )
    notes = [f"AUROC {_AUROC}.", *p_ik_numbers.undefined(group)]
    if len({_without_tasks(run.config) for run in group.runs}) > 1:
        notes.append("These runs differ in more of their config than tasks and seeds: see Settings.")
    return formats.Table("p_ik_auroc", "AUROC by task trained and tested on", columns, rows, notes)


def _without_tasks(config: Mapping[str, Any]) -> str:
    shared = {key: value for key, value in config.items() if key not in ("task", "sweep", "seeds")}
    return repr(sorted((shared | {"p_ik": {**shared["p_ik"], "task": None}}).items()))


def test_table(group: p_ik_numbers.Group) -> formats.Table:
    columns = [
        *_methods(group),
        _TRAINED,
        _TESTED,
        _N,
        _SEEDS,
        _ACCURACY,
        Column("auroc", "AUROC", _AUROC, "ratio", "auroc_interval"),
        Column("brier", "Brier", "mean squared error of P(IK) as a probability; lower is better", "ratio"),
        Column("ece", "ECE", "expected calibration error of P(IK), 15 bins; lower is better", "ratio"),
        Column(
            "risk",
            "AURC",
            "share of wrong answers where questions are answered in the order of P(IK), mean over all coverages; "
            "lower is better, and without skill it is the share of wrong answers",
            "ratio",
        ),
        Column("ik_rate", "IK rate", f"share with P(IK) above gamma = {group.gamma:g}, per cent", "percent"),
        Column(
            "ik_precision",
            "IK precision",
            "few-shot answers right, of those of all seeds, per cent",
            "percent",
        ),
    ]
    return formats.Table(
        "p_ik_tests", "Calibration, and what gamma selects", columns, p_ik_numbers.test_rows(group)
    )


def few_shot_table(group: p_ik_numbers.Group) -> formats.Table:
    columns = [_TESTED, _ACCURACY, _N, _SEEDS]
    rows = p_ik_numbers.few_shot_rows(group)
    return formats.Table("few_shot", "Few-shot accuracy of the strong model", columns, rows)


def band_table(group: p_ik_numbers.Group) -> formats.Table:
    columns = [
        *_methods(group),
        _TRAINED,
        _TESTED,
        Column("band", "quarter", "of the questions by few-shot confidence, the least confident first", "count"),
        Column(
            "confidence",
            "confidence",
            "probability of the few-shot answer that was given, lowest to highest of the quarter",
            "ratio interval",
        ),
        _N,
        Column("accuracy", "few-shot accuracy", "few-shot answers right, per cent", "percent"),
        Column("auroc", "AUROC", "of P(IK) within the quarter; - where all answers are right or all wrong", "ratio"),
        Column("ece", "ECE", "expected calibration error of P(IK) within the quarter, 15 bins", "ratio"),
    ]  # fmt: skip
    rows = p_ik_numbers.band_rows(group)
    there = {(row["train_task"], row["test_task"]) for row in rows}
    without = [
        test_name
        for test_name, by_train in group.by_test(group.methods[0]).items()
        if not any((train_task, test_name) in there for train_task in by_train)
    ]
    notes = ["Means over seeds. A P(IK) that only repeats the confidence tells nothing within a quarter."]
    if without:
        notes.append(f"Generated answers have no such confidence: {', '.join(without)}.")
    return formats.Table("p_ik_bands", "By difficulty", columns, rows, notes)


def question_table(group: p_ik_numbers.Group) -> formats.Table:
    """Table 1: the questions of highest and lowest P(IK)."""
    columns = [
        _TESTED,
        Column("end", "P(IK) is", "among the highest or the lowest of the test task"),
        Column("p_ik", "P(IK)", "mean over seeds", "ratio"),
        Column("right", "seeds right", "in how many seeds the few-shot answer is right"),
        Column(
            "text", "question", f"as the P(IK) head reads it; of more than {_LONGEST} characters, both ends"
        ),
        _TRAINED,
    ]
    rows = [row | {"text": shorten(row["text"])} for row in p_ik_numbers.question_rows(group)]
    return formats.Table(
        "p_ik_questions", "Questions of highest and lowest P(IK)", columns, rows, _of_method(group)
    )


def shorten(text: str) -> str:
    """At most `_LONGEST` characters: both ends, as the question may stand before or after its passage."""
    if len(text) <= _LONGEST:
        return text
    ellipsis = " … "
    head = (_LONGEST - len(ellipsis)) // 2
    tail = _LONGEST - len(ellipsis) - head
    return text[:head].rstrip() + ellipsis + text[-tail:].lstrip()


def _methods(group: p_ik_numbers.Group) -> list[Column]:
    return [_METHOD] if len(group.methods) > 1 else []


def _of_method(group: p_ik_numbers.Group) -> Sequence[str]:
    return [f"P(IK) of {group.methods[0]}."] if len(group.methods) > 1 else []
