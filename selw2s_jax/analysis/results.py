"""results.json and the table: accuracies with intervals, PGR, and the paper's numbers beside them."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import comparisons, formats, metrics, paper
from selw2s_jax.analysis import members as members_lib
from selw2s_jax.method import registry

# Of the questions that P(IK) is tested on.
DISTRIBUTIONS = {"in": "in distribution", "out": "out of distribution"}

# Fifths of the test items by how often the text names their entity.
FREQUENCY_GROUPS = ("most common", "common", "middle", "rare", "rarest")


def make_records(
    *,
    task: str,
    weak: str,
    strong: str,
    seed: int,
    total: int,
    correct: dict[str, int],
    members: Sequence[int] = (),
    aurocs: Mapping[str, float | None] | None = None,
) -> list[dict[str, Any]]:
    """One record per method of one seed, from the number of test items each gets right.

    Args:
        total: test items.
        correct: by method, "weak" and "ceiling" among them.
        members: of several weak models, which "weak" is together: PGR is measured against the mean of these, and the
            record of "weak" has it as `members_accuracy`.
        aurocs: by method, that of its probabilities, None where the test has one class; which the records have then.
    """
    accuracy = {method: count / total for method, count in correct.items()}
    mean = {"members_accuracy": statistics.fmean(members) / total} if members else {}
    gap = accuracy | ({"weak": mean["members_accuracy"]} if members else {})
    records = []
    for method, count in correct.items():
        pgr, reason = _pgr(method, gap)
        low, high = metrics.wilson_interval(count, total)
        records.append(
            {
                "task": task,
                "method": method,
                "weak": weak,
                "strong": strong,
                "seed": seed,
                "n": total,
                "correct": count,
                "accuracy": accuracy[method],
                "accuracy_low": low,
                "accuracy_high": high,
                "pgr": pgr,
                "pgr_reason": reason,
                **({} if aurocs is None else {"auroc": aurocs[method]}),
                **(mean if method == "weak" else {}),
            }
        )
    return records


def summarize(
    records: Sequence[dict[str, Any]], *, of_paper: tuple[str, str] | None = None
) -> list[dict[str, Any]]:
    """Per method, over seeds: mean accuracy with a 95 % interval, and PGR, in the order of the records.

    One seed has the Wilson interval over test items. Several seeds share the items: the half-width of their
    Student-t interval and that of the Wilson interval at the mean accuracy add in squares. PGR is that of the mean
    accuracies: a mean of the seeds' own ratios would be ruled by the seed with the smallest gap.

    Args:
        of_paper: weak and strong model as the config names them, where the paper's numbers are of the same data and may
            stand beside these.

    Raises:
        ValueError: records of one method differ in their number of test items.
    """
    methods = dict.fromkeys(record["method"] for record in records)
    by_method = {method: [record for record in records if record["method"] == method] for method in methods}
    means = {
        method: statistics.fmean(record["accuracy"] for record in mine) for method, mine in by_method.items()
    }
    # Of several weak models their mean counts, not what they say together.
    gap = dict(means)
    if of_members := [one["members_accuracy"] for one in records if "members_accuracy" in one]:
        gap["weak"] = statistics.fmean(of_members)
    rows = []
    for method, mine in by_method.items():
        first = mine[0]
        if any(record["n"] != first["n"] for record in mine):
            sizes = ", ".join(str(record["n"]) for record in mine)
            raise ValueError(f"seeds of {method} are tested on different numbers of items: {sizes}")
        low, high = metrics.accuracy_interval([record["correct"] for record in mine], first["n"])
        pgr, reason = _pgr(method, gap)
        rows.append(
            {
                "method": method,
                "num_seeds": len(mine),
                "n": first["n"],
                "accuracy": means[method],
                "accuracy_low": low,
                "accuracy_high": high,
                "pgr": pgr,
                "pgr_reason": reason,
                "paper_accuracy": paper.paper_accuracy(first["task"], *of_paper, method)
                if of_paper
                else None,
            }
        )
    return rows


def with_pgr_intervals(
    rows: Sequence[dict[str, Any]], correct: Mapping[str, np.ndarray], weak: np.ndarray | None
) -> list[dict[str, Any]]:
    """The rows of `summarize` with `pgr_low` and `pgr_high`, of `comparisons.bootstrap_pgr`; None where not finite.

    Args:
        correct: by method, `[S, N]` bool, whether it gets each test item right, seeds in order.
        weak: the same of what PGR is measured against, of several weak models the mean share; None without one.
    """
    found = []
    for row in rows:
        low = high = None
        if weak is not None and row["method"] not in registry.REFERENCES:
            recovered = comparisons.bootstrap_pgr(weak, correct[row["method"]], correct["ceiling"])
            low, high = recovered.low, recovered.high
        found.append(row | {"pgr_low": low, "pgr_high": high})
    return found


def _pgr(method: str, accuracies: Mapping[str, float]) -> tuple[float | None, str | None]:
    """PGR of a method, or None and why it has none."""
    if method in registry.REFERENCES:
        return None, "the reference that PGR is measured against"
    pgr = metrics.performance_gap_recovered(accuracies["weak"], accuracies[method], accuracies["ceiling"])
    return pgr, "undefined: the ceiling is not above the weak model" if pgr is None else None


def format_table(
    records: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], majority: float | None
) -> str:
    """The table that a run ends with, from records, their summary and the majority class's accuracy if any."""
    first = records[0]
    with_paper = any(row["paper_accuracy"] is not None for row in rows)
    header = ["method", "accuracy", "95 % interval", "n", "seeds", "PGR"] + ["paper's accuracy"] * with_paper
    cells, undefined = [header], set()
    for row in rows:
        is_student = row["method"] not in registry.REFERENCES
        if row["pgr"] is None:
            pgr = "undefined" if is_student else "-"
            undefined |= {row["pgr_reason"]} if is_student else set()
        else:
            pgr = f"{row['pgr']:.3f}"
        line = [
            row["method"],
            formats.percent(row["accuracy"]),
            f"{formats.percent(row['accuracy_low'])} to {formats.percent(row['accuracy_high'])}",
            str(row["n"]),
            str(row["num_seeds"]),
            pgr,
        ]
        cells.append(line + [formats.percent(row["paper_accuracy"])] * with_paper)
    return "\n".join(
        [
            f"{first['task']}: {first['weak']} teaches {first['strong']} (accuracy in per cent)",
            formats.aligned(cells),
            *(() if majority is None else (f"majority class: {formats.percent(majority)}",)),
            *(f"PGR {reason}" for reason in sorted(undefined)),
        ]
    )


def format_members(entries: Sequence[dict[str, Any]]) -> str:
    """What each of several weak models is worth: a line for each and seed, and below what they are together."""
    header = [
        "weak models",
        "seed",
        "learns",
        "rows",
        "labels right",
        "entropy",
        "agreement",
        "test accuracy",
    ]
    cells = [header]
    for entry in entries:
        cells.append(
            [
                f"{entry['member']}: {entry['model']}",
                str(entry["seed"]),
                entry["task"],
                str(entry["rows"]),
                formats.percent(entry["accuracy"]),
                f"{entry['entropy']:.3f}",
                formats.percent(entry["agreement"]),
                formats.percent(entry["test_correct"] / entry["test_n"]),
            ]
        )
    for row in members_lib.summarize(list(entries)):
        for name, key in (
            ("their mean, which PGR is measured against", "mean_accuracy"),
            ("together, as they teach", "together_accuracy"),
            (f"the best by the truth, {row['best_member']}: an oracle's", "best_accuracy"),
        ):
            cells.append([name, str(row["seed"]), *[""] * 5, formats.percent(row[key])])
    return formats.aligned(cells)


def format_diagnostics(diagnostics: Sequence[dict[str, Any]]) -> str:
    """What each student that chose among labels chose in the second half of training; shares in per cent."""
    header = [
        "labels, 2nd half of training", "seed", "IK rate", "self right (IK)", "weak right (IK)", "weak right",
        "selected right", "smoothed right", "P(IK) AUROC",
    ]  # fmt: skip
    names = (
        "ik_rate", "self_accuracy_on_ik", "weak_accuracy_on_ik", "weak_accuracy", "prior_accuracy", "target_accuracy",
    )  # fmt: skip
    cells = [header]
    for entry in diagnostics:
        late = entry["second_half"]
        shares, area = [formats.percent(late[name]) for name in names], late["p_ik_auroc"]
        auroc = formats.NOTHING if area is None else f"{area:.3f}"
        cells.append([entry["method"], str(entry["seed"]), *shares, auroc])
    return formats.aligned(cells)


def format_disagreement(entries: Sequence[dict[str, Any]]) -> str:
    """How often weak and self label differ, which is then right, and whether P(IK) tells: a line for each P(IK)."""
    header = [
        "where labels differ", "seed", "share", "self right", "weak right", "P(IK) AUROC", "95 % interval",
        "error correlation",
    ]  # fmt: skip
    # Without any P(IK), the labels alone.
    shown = [entry for entry in entries if entry["p_ik_of"] is not None] or entries
    cells = {}
    for entry in shown:
        rows, count = entry["disagreeing"], entry["all"]["n"]
        if rows is None:
            continue
        correlation, whose = entry["error_correlation"], entry["p_ik_of"]
        interval = formats.NOTHING
        if entry["auroc_low"] is not None:
            interval = f"{entry['auroc_low']:.3f} to {entry['auroc_high']:.3f}"
        cells[whose, entry["seed"]] = [
            formats.NOTHING if whose is None else f"P(IK) of {whose}",
            str(entry["seed"]),
            formats.percent(rows["n"] / count),
            formats.percent(rows["self_right"]),
            formats.percent(rows["weak_right"]),
            formats.NOTHING if entry["auroc"] is None else f"{entry['auroc']:.3f}",
            interval,
            formats.NOTHING if correlation is None else f"{correlation:.3f}",
        ]
    return formats.aligned([header, *cells.values()])


def format_reliability(entries: Sequence[dict[str, Any]]) -> str:
    """What the entropy filter keeps of written weak labels, how many are right before and after it: a line a seed."""
    header = [
        "answers to variations", "seed", "questions", "tau", "kept", "right", "right where kept", "right by weight",
        "AUROC of S_ent", "unparsed",
    ]  # fmt: skip
    cells = [header]
    for entry in entries:
        if (kept := entry["filter"]) is None:
            continue
        before, after, unparsed = kept["before"]["varied"], kept["after"]["varied"], entry["unparsed_answers"]
        (area,) = (one for one in entry["auroc"] if (one["score"], one["label"]) == ("entropy", "varied"))
        cells.append(
            [
                "",
                str(entry["seed"]),
                str(entry["questions"]),
                f"{kept['tau']:.3f}",
                formats.percent(kept["kept_share"]),
                formats.percent(before["share"]),
                formats.percent(after["share"]),
                formats.percent(entry["weighted"]["share"]),
                formats.NOTHING if area["auroc"] is None else f"{area['auroc']:.3f}",
                formats.percent(unparsed["count"] / unparsed["n"]),
            ]
        )
    return formats.aligned(cells)


def format_kernels(entries: Sequence[dict[str, Any]]) -> str:
    """The gap between student and ceiling that embeddings of the pretrained models predict: a line for each seed."""
    names = {
        "gap": "predicted gap",
        "weak_label_gap": "with weak labels",
        "operator_norm": "operator norm",
        "effective_dimension_weak": "dimension, weak",
        "effective_dimension_strong": "dimension, strong",
    }
    cells = [["kernels", "seed", "rows", *names.values()]]
    cells += [
        ["", str(entry["seed"]), str(entry["n"]), *(f"{entry[name]:.3g}" for name in names)]
        for entry in entries
    ]
    return formats.aligned(cells)


def format_p_ik_tests(tests: Sequence[dict[str, Any]]) -> str:
    """AUROC of P(IK) for "the few-shot answer is right", by seed, in and out of the distribution it trained on."""
    cells = [
        ["P(IK)", "seed", "tested on", "", "AUROC", "95 % interval", "n", "few-shot right", "IK rate", "right (IK)"]
    ]  # fmt: skip
    for entry in tests:
        interval = "-"
        if entry["auroc_low"] is not None:
            interval = f"{entry['auroc_low']:.3f} to {entry['auroc_high']:.3f}"
        cells.append(
            [
                entry["method"],
                str(entry["seed"]),
                entry["test_task"],
                DISTRIBUTIONS[entry["distribution"]],
                "-" if entry["auroc"] is None else f"{entry['auroc']:.3f}",
                interval,
                str(entry["n"]),
                formats.percent(entry["known"] / entry["n"]),
                formats.percent(entry["ik_rate"]),
                formats.percent(entry["ik_precision"]),
            ]
        )
    return formats.aligned(cells)


def by_frequency(ranks: Sequence[float], correct: Mapping[str, Sequence[Sequence[bool]]]) -> dict[str, Any]:
    """Right answers to the test items by fifths of entity frequency, from common to rare.

    Args:
        ranks: `[N]` of the entities that the items are about, the most common first.
        correct: by method, `[S, N]` whether its answers are right, for each seed.

    Returns:
        A JSON value: `n` items of each fifth, and `correct` of them by method, the mean over seeds.
    """
    groups = np.array_split(np.argsort(ranks, kind="stable"), len(FREQUENCY_GROUPS))

    def count(right: Sequence[bool]) -> list[int]:
        return [int(np.sum(np.asarray(right)[group])) for group in groups]

    means = {name: np.mean([count(right) for right in seeds], axis=0) for name, seeds in correct.items()}
    return {
        "n": [len(group) for group in groups],
        "correct": {name: mean.tolist() for name, mean in means.items()},
    }


def format_by_frequency(counts: dict[str, Any]) -> str:
    """Test accuracy in per cent by fifths of entity frequency."""
    cells = [["accuracy by frequency", *FREQUENCY_GROUPS], ["n", *map(str, counts["n"])]]
    for name, correct in counts["correct"].items():
        shares = [formats.percent(c / n if n else None) for c, n in zip(correct, counts["n"], strict=True)]
        cells.append([name, *shares])
    return formats.aligned(cells)
