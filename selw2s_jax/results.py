"""results.json and the table: accuracies with intervals, PGR, and the paper's numbers beside them."""

import statistics
from collections.abc import Sequence
from typing import Any

from selw2s_jax.analysis import metrics

# Tables 2 and 3 of Selective Weak-to-Strong Generalization: accuracy in per cent on SciQ, BoolQ, CosmosQA.
_PAPER_TASKS = ("sciq", "boolq", "cosmos_qa")
_PAPER_STRONG = "qwen-14b"
PAPER: dict[str, dict[str, tuple[float, float, float]]] = {
    "gpt2": {
        "weak": (64.70, 64.91, 67.17),
        "finetune": (77.90, 65.89, 71.99),
        "confidence": (82.20, 62.22, 73.37),
        "product": (81.60, 61.02, 73.40),
        "adaptive": (74.00, 62.83, 67.77),
        "reverse_kl": (78.50, 66.29, 74.10),
        "jensen_shannon": (80.00, 65.80, 71.96),
        "selective": (83.30, 68.64, 75.11),
        "ceiling": (93.40, 89.91, 89.72),
    },
    "qwen-1.8b": {
        "weak": (83.80, 78.92, 79.13),
        "finetune": (88.10, 80.85, 81.37),
        "confidence": (89.50, 82.53, 81.34),
        "product": (89.40, 82.47, 82.95),
        "adaptive": (89.60, 81.79, 80.13),
        "reverse_kl": (88.60, 82.62, 82.45),
        "jensen_shannon": (88.80, 83.33, 81.84),
        "selective": (90.60, 83.39, 83.85),
        "ceiling": (93.40, 89.91, 89.72),
    },
}


def paper_accuracy(task: str, weak: str, strong: str, method: str) -> float | None:
    """The paper's accuracy in per cent for this cell, or None where it has none."""
    if strong != _PAPER_STRONG or task not in _PAPER_TASKS:
        return None
    row = PAPER.get(weak, {}).get(method)
    return None if row is None else row[_PAPER_TASKS.index(task)]


def make_records(
    *, task: str, weak: str, strong: str, seed: int, total: int, correct: dict[str, int]
) -> list[dict[str, Any]]:
    """One record per method of one seed, from the number of test items each gets right.

    Args:
        total: test items.
        correct: by method, "weak" and "ceiling" among them.
    """
    accuracy = {method: count / total for method, count in correct.items()}
    records = []
    for method, count in correct.items():
        pgr, reason = None, None
        if method in ("weak", "ceiling"):
            reason = "the reference that PGR is measured against"
        else:
            pgr = metrics.performance_gap_recovered(accuracy["weak"], accuracy[method], accuracy["ceiling"])
            if pgr is None:
                reason = "undefined: the ceiling is not above the weak model"
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
            }
        )
    return records


def summarize(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per method, over seeds: mean accuracy and PGR with a 95 % interval, in the order of the records.

    One seed: the Wilson interval over items. Several: Student's t over seeds, which share the test items.
    """
    rows = []
    for method in dict.fromkeys(record["method"] for record in records):
        mine = [record for record in records if record["method"] == method]
        interval = metrics.mean_interval([record["accuracy"] for record in mine])
        pgrs = [record["pgr"] for record in mine if record["pgr"] is not None]
        rows.append(
            {
                "method": method,
                "seeds": len(mine),
                "n": mine[0]["n"],
                "accuracy": statistics.fmean(record["accuracy"] for record in mine),
                "interval": interval or (mine[0]["accuracy_low"], mine[0]["accuracy_high"]),
                "pgr": statistics.fmean(pgrs) if pgrs else None,
                "pgr_seeds": len(pgrs),
                "pgr_reason": next((r["pgr_reason"] for r in mine if r["pgr_reason"]), None),
                "paper": paper_accuracy(mine[0]["task"], mine[0]["weak"], mine[0]["strong"], method),
            }
        )
    return rows


def format_table(records: Sequence[dict[str, Any]], majority_class_accuracy: float) -> str:
    """The table that a run ends with; the paper's column only where it has this pair and task."""
    rows = summarize(records)
    first = records[0]
    with_paper = any(row["paper"] is not None for row in rows)
    header = ["method", "accuracy", "95 % interval", "n", "seeds", "PGR"] + ["paper's accuracy"] * with_paper
    cells = [header]
    for row in rows:
        low, high = (min(max(bound, 0.0), 1.0) for bound in row["interval"])
        reference = row["method"] in ("weak", "ceiling")
        pgr = "-" if reference else "undefined" if row["pgr"] is None else f"{row['pgr']:.3f}"
        if row["pgr"] is not None and row["pgr_seeds"] < row["seeds"]:
            pgr += f" ({row['pgr_seeds']} of {row['seeds']} seeds)"
        line = [
            row["method"],
            f"{100 * row['accuracy']:.2f}",
            f"{100 * low:.2f} to {100 * high:.2f}",
            str(row["n"]),
            str(row["seeds"]),
            pgr,
        ]
        cells.append(line + [("-" if row["paper"] is None else f"{row['paper']:.2f}")] * with_paper)
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    lines = [f"{first['task']}: {first['weak']} teaches {first['strong']} (accuracy in per cent)"]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    lines.append(f"majority class: {100 * majority_class_accuracy:.2f}")
    undefined = {
        row["pgr_reason"] for row in rows if row["pgr"] is None and row["method"] not in ("weak", "ceiling")
    }
    lines += [f"PGR {reason}" for reason in sorted(filter(None, undefined))]
    return "\n".join(lines)


def format_diagnostics(diagnostics: Sequence[dict[str, Any]]) -> str:
    """One line for each student that chose among labels: what it chose in the second half of training."""

    def show(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    lines = []
    for entry in diagnostics:
        late = entry["second_half"]
        lines.append(
            f"{entry['method']}, seed {entry['seed']}, labels in the second half of training: "
            f"IK rate {show(late['ik_rate'])}; right on IK rows: self {show(late['self_accuracy_on_ik'])}, "
            f"weak {show(late['weak_accuracy_on_ik'])}; right on all rows: weak {show(late['weak_accuracy'])}, "
            f"selected {show(late['prior_accuracy'])}, smoothed {show(late['target_accuracy'])}; "
            f"P(IK) AUROC {show(late['p_ik_auroc'])}"
        )
    return "\n".join(lines)
