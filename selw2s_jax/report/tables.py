"""The tables of a report: which numbers of a run stand in which column, and what each column means."""

import statistics
from collections.abc import Sequence
from typing import Any

from selw2s_jax.analysis import formats, paper, results
from selw2s_jax.analysis.formats import Column
from selw2s_jax.report import auroc_numbers, finding, numbers, registration_sections, stored

_METHOD = Column("method", "method", "the model; what each name stands for is listed under Methods")
_SEED = Column("seed", "seed", "base seed: of the split, the order of batches and the sampling", "count")
_SEEDS = Column("num_seeds", "seeds", "number of seeds finished", "count")
_N = Column("n", "n", "number of test items, the same ones for every seed and method", "count")
_BOOTSTRAP = "bootstrapped over items and seeds, the same ones drawn for all models"

_PROBABILITY = (
    Column(
        "auroc",
        "AUROC",
        "of the probability of class 1, with DeLong's 95 % interval",
        "ratio",
        "auroc_interval",
    ),
    Column(
        "brier",
        "Brier",
        "mean squared error of the probability of class 1; 0.25 is always one half",
        "ratio",
    ),
    Column("calibration_error", "ECE", "expected calibration error of that probability, 15 bins", "ratio"),
)


def of_run(run: stored.Run) -> list[formats.Table]:
    """Every table of a run that has rows."""
    tables = [p_ik_table(run)]
    if run.predictions:
        compared = auroc_table(run), comparison_table(run), mcnemar_table(run), inheritance_table(run)
        tables = [main_table(run), *compared, label_table(run), *tables, seed_table(run)]
    return [table for table in tables if table.rows]


def main_table(run: stored.Run) -> formats.Table:
    rows = numbers.main_results(run)
    base = numbers.BASELINE
    columns = [
        _METHOD,
        Column(
            "accuracy", "accuracy", "share of test items answered right, mean over seeds, per cent", "percent"
        ),
        Column(
            "accuracy_interval",
            "95 % interval",
            "of the accuracy: Wilson's over items, with the spread of the seeds (Student's t) added in squares",
            "percent interval",
        ),
        Column(
            "pgr",
            "PGR",
            "performance gap recovered, (student - weak) / (ceiling - weak) of the mean accuracies: 0 is the weak "
            "model, 1 the ceiling; - where the ceiling is not above the weak model",
            "ratio",
        ),
        Column(
            "pgr_interval",
            "PGR 95 % interval",
            f"{_BOOTSTRAP}; - where the interval of ceiling - weak touches zero",
            "ratio interval",
        ),
        Column("difference", f"minus {base}", f"accuracy less that of {base}, percentage points", "points"),
        Column(
            "difference_interval",
            "difference 95 % interval",
            f"of the difference to {base}, {_BOOTSTRAP}",
            "points interval",
        ),
        _N,
        _SEEDS,
    ]
    if any(row["paper_accuracy"] is not None for row in rows):
        columns.append(
            Column("paper_accuracy", "paper's accuracy", paper.published(run.strong_model), "percent")
        )
    if any(row["printed_pgr"] is not None for row in rows):
        columns.append(Column("printed_pgr", "paper's PGR", paper.published(run.strong_model), "ratio"))
    majority = 100 * numbers.majority_class_accuracy(run)
    notes = [f"Always giving the commonest answer is right on {majority:.2f} per cent of the test items."]
    if run.members and (seeds := run.common_seeds("weak")):
        of_each = 100 * float(run.weak_performance(seeds).mean())
        notes.append(
            "weak is the label that the weak models give together; PGR is measured against the mean of their own "
            f"accuracies, {of_each:.2f} per cent."
        )
    return formats.Table("main", "Main results", columns, rows, notes)


def auroc_table(run: stored.Run) -> formats.Table:
    columns = [
        _METHOD,
        Column(
            "auroc",
            "AUROC",
            "area under the ROC curve of the probability of class 1 for the right class, mean over seeds; 0.5 is "
            "chance. The 95 % interval is DeLong's, with the spread of the seeds (Student's t) added in squares",
            "ratio",
            "auroc_interval",
        ),
        Column(
            "auroc_pgr",
            "PGR on AUROC",
            "performance gap recovered by the mean AUROCs in the place of accuracies; the 95 % interval is "
            f"{_BOOTSTRAP}, and is not there where that of ceiling - weak touches zero",
            "ratio",
            "auroc_pgr_interval",
        ),
        Column("pgr", "PGR", "performance gap recovered on accuracy, beside it", "ratio"),
        Column(
            "base_rate_accuracy",
            "at the base rate",
            "accuracy, per cent, where as many items are called class 1 as are of it, those of the highest "
            "probability, mean over seeds: what the threshold of one half costs is left out",
            "percent",
        ),
        _SEEDS,
    ]
    notes = [
        "AUROC asks for the order of the items alone, accuracy also for the threshold of one half. A student whose PGR "
        "on AUROC is much higher than its PGR ranks the items well and gives one class too often."
    ]
    return formats.Table("auroc", "AUROC, and PGR on it", columns, auroc_numbers.rows(run), notes)


def comparison_table(run: stored.Run) -> formats.Table:
    columns = [
        Column("first", "method", "the first of two methods"),
        Column("second", "compared with", f"the second: {numbers.BASELINE} or a control"),
        Column("difference", "difference", "accuracy of the first less that of the second, points", "points"),
        Column("difference_interval", "95 % interval", f"of the difference, {_BOOTSTRAP}", "points interval"),
        Column("p_value", "p", "two-sided, of the same draws, for a difference of zero", "p"),
        Column("num_seeds", "seeds", "number of seeds that both are finished for", "count"),
    ]
    notes = [
        "The p-values are not corrected for their number. With three seeds the intervals are a little too narrow where "
        "seeds differ much; take five or more."
    ]
    rows = numbers.comparison_rows(run)
    if run.registration is not None:
        columns.insert(
            2, Column("decided", "decided", "whether it was registered before the first student, or after")
        )
        for row in rows:
            is_registered = registration_sections.are_registered(run, row["first"], row["second"])
            row["decided"] = "before" if is_registered else "after"
    return formats.Table("comparisons", "Paired comparisons of methods", columns, rows, notes)


def mcnemar_table(run: stored.Run) -> formats.Table:
    columns = [
        Column("first", "method", "the first of two methods"),
        Column("second", "compared with", f"the second: {numbers.BASELINE} or a control"),
        _SEED,
        Column("only_first", "first alone", "test items that the first alone gets right", "count"),
        Column("only_second", "second alone", "test items that the second alone gets right", "count"),
        Column("p_value", "p (McNemar)", "McNemar's exact test: that of equal chances of either", "p"),
    ]
    notes = ["Each seed by itself: it knows nothing of the spread between seeds, as the intervals above do."]
    title = "McNemar's exact test of each seed"
    return formats.Table("mcnemar", title, columns, numbers.mcnemar_rows(run), notes)


def inheritance_table(run: stored.Run) -> formats.Table:
    columns = [
        _METHOD,
        Column(
            "agreement", "agrees with weak", "share of test items answered as the weak model does", "percent"
        ),
        Column(
            "inherited", "inherited", "P(wrong | weak wrong): the weak model's errors it makes too", "percent"
        ),
        Column("corrected", "corrected", "P(right | weak wrong): those it does not make", "percent"),
        Column("spoiled", "spoiled", "P(wrong | weak right): errors of its own", "percent"),
        _SEEDS,
    ]
    notes = ["Means over seeds, per cent. The ceiling shows what a model trained on ground truth shares."]
    rows = numbers.inheritance(run)
    return formats.Table("errors", "Errors inherited from the weak model", columns, rows, notes)


def label_table(run: stored.Run) -> formats.Table:
    names = (
        "ik_rate", "self_accuracy_on_ik", "weak_accuracy_on_ik", "weak_accuracy", "prior_accuracy",
        "target_accuracy", "smoothing_move", "smoothing_flips", "self_weight", "effective_neighbours", "p_ik_auroc",
    )  # fmt: skip
    by_method: dict[str, list[dict[str, Any]]] = {}
    for entry in run.diagnostics:
        by_method.setdefault(entry["method"], []).append(entry)
    rows = [
        {
            "method": method,
            "num_seeds": len(entries),
            **{name: numbers.mean([entry[name] for entry in entries]) for name in names},
            **{name: _mean_over_ik_rows(entries, name) for name in names if name.endswith("_on_ik")},
        }
        for method, entries in by_method.items()
    ]
    columns = [
        _METHOD,
        Column("ik_rate", "IK rate", "share of rows that are selected (IK): they get the self label", "percent"),
        Column("self_accuracy_on_ik", "self right (IK)", "self labels right, of the selected rows", "percent"),
        Column("weak_accuracy_on_ik", "weak right (IK)", "weak labels right, of the same rows", "percent"),
        Column("weak_accuracy", "weak right", "weak labels right, of all rows", "percent"),
        Column("prior_accuracy", "selected right", "labels right after selection, of all rows", "percent"),
        Column("target_accuracy", "smoothed right", "labels right after smoothing: the ones trained on", "percent"),
        Column("smoothing_move", "moved", "how far smoothing moves a label, on average (0 to 1)", "ratio"),
        Column("smoothing_flips", "flipped", "labels that smoothing turns to the other class", "percent"),
        Column(
            "self_weight", "self-weight", "weight of a row in its own smoothed label; near 1 it stays", "ratio"
        ),
        Column(
            "effective_neighbours",
            "neighbours",
            "effective number of rows that a label is averaged over, exp of the entropy of their weights",
            "ratio",
        ),
        Column("p_ik_auroc", "P(IK) AUROC", 'of P(IK) for "the self label is right", on the training rows', "ratio"),
        _SEEDS,
    ]  # fmt: skip
    notes = [
        "Training labels against ground truth in the second half of training, which no student saw. Means over seeds; "
        "(IK): over the selected rows of all seeds; self-weight and neighbours: over all of training, in batches of "
        f"{run.config['training']['batch_size']}."
    ]
    return formats.Table("labels", "What selection and smoothing did to the labels", columns, rows, notes)


def _mean_over_ik_rows(entries: Sequence[dict[str, Any]], name: str) -> float | None:
    """A seed that selected next to nothing counts for as little."""
    selected = [entry for entry in entries if entry["ik_rate"] and entry[name] is not None]
    weights = [entry["ik_rate"] for entry in selected]
    return statistics.fmean([entry[name] for entry in selected], weights) if selected else None


def p_ik_table(run: stored.Run) -> formats.Table:
    rows = [
        entry
        | {
            "distribution": results.DISTRIBUTIONS[entry["distribution"]],
            "auroc_interval": None
            if entry["auroc_low"] is None
            else (entry["auroc_low"], entry["auroc_high"]),
            "known": entry["known"] / entry["n"],
        }
        for entry in run.p_ik
    ]
    columns = [
        _METHOD,
        _SEED,
        Column("train_task", "trained on", "the task whose questions P(IK) is trained on"),
        Column("test_task", "tested on", "task of the questions"),
        Column("distribution", "distribution", "whether P(IK) was trained on questions of that task"),
        Column("auroc", "AUROC", "of P(IK) for the few-shot answer being right; 0.5 is chance", "ratio"),
        Column("auroc_interval", "95 % interval", "of the AUROC (DeLong)", "ratio interval"),
        Column("brier", "Brier", "mean squared error of P(IK) as a probability; lower is better", "ratio"),
        Column(
            "ece",
            "ECE",
            "expected calibration error of P(IK), 15 bins; lower is better",
            "ratio",
        ),
        Column("n", "n", "number of questions", "count"),
        Column("known", "few-shot right", "few-shot answers right, of all questions, per cent", "percent"),
        Column(
            "ik_rate", "IK rate", f"share with P(IK) above gamma = {run.config['p_ik']['gamma']}", "percent"
        ),
        Column("ik_precision", "right (IK)", "few-shot answers right, of those", "percent"),
    ]
    return formats.Table("p_ik", "P(IK) on held-out questions", columns, rows)


def seed_table(run: stored.Run) -> formats.Table:
    columns = [
        _METHOD,
        _SEED,
        Column("accuracy", "accuracy", "share of test items answered right, per cent", "percent"),
        Column("accuracy_interval", "95 % interval", "Wilson's, over items", "percent interval"),
        Column("pgr", "PGR", "performance gap recovered in this seed", "ratio"),
        *(_PROBABILITY if run.has_probabilities else ()),
        Column("correct", "right", "number of test items answered right", "count"),
        _N,
    ]
    return formats.Table("seeds", "Each seed", columns, numbers.by_seed(run))


def finding_table(findings: Sequence[tuple[str, finding.Finding]]) -> formats.Table:
    """The warnings.

    Args:
        findings: each with the name of its run.
    """
    columns = [
        Column("run", "run", "task and models"),
        Column("method", "method", "the model or models concerned"),
        Column("seeds", "seeds", "in which it was seen"),
        Column("observation", "what was seen", "with the numbers"),
        Column("remedy", "what to try", "before concluding anything"),
    ]
    rows = [
        {
            "run": name,
            "method": one.method,
            "seeds": one.seeds,
            "observation": one.observation,
            "remedy": one.remedy,
        }
        for name, one in findings
    ]
    return formats.Table("warnings", "Warnings", columns, rows)
