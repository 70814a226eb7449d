"""The numbers of a report on written weak labels and on the methods that learn from those that agree.

Every function takes a `stored.Run` and returns rows, a dict each; means are over seeds, which share the test items and
may share the student's questions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selw2s_jax.analysis import comparisons, paper_reliability, reliability
from selw2s_jax.report import numbers, stored


class Pair(NamedTuple):
    """Two methods that are compared, and what their difference answers."""

    first: str
    second: str
    question: str


_AUGMENTATION = "is there more to it than several prompts to a question?"
_WHICH = "does it count which question has which weights?"
_NAIVE = "does it gain over one answer to a question?"
# The comparisons of every run, in the order of its table; Holm's correction is over those that a run has.
PAIRS = (
    Pair("entropy_filter", "random_filter", "do the questions count that it keeps, or their number?"),
    Pair("reweighted", "shuffled_weights", _WHICH),
    Pair("entropy_filter", "all_variations", _AUGMENTATION),
    Pair("reweighted", "all_variations", _AUGMENTATION),
    Pair("entropy_filter_sampled", "all_variations_sampled", f"{_AUGMENTATION[:-1]}, rows as many?"),
    Pair("reweighted_sampled", "all_variations_sampled", f"{_AUGMENTATION[:-1]}, rows as many?"),
    Pair("question_weights", "all_variations", "does weighing questions gain?"),
    Pair("answer_weights", "all_variations", "does weighing the answers to a question gain?"),
    Pair("entropy_filter", "finetune", _NAIVE),
    Pair("reweighted", "finetune", _NAIVE),
    Pair("entropy_filter_sampled", "finetune", f"{_NAIVE[:-1]}, rows as many?"),
    Pair("reweighted_sampled", "finetune", f"{_NAIVE[:-1]}, rows as many?"),
    Pair("all_variations", "finetune", "do several prompts to a question gain?"),
    Pair("selective_by_consistency", "random_selection", "does it count where own answers are taken?"),
    Pair("selective_by_consistency", "self_training", "do weak answers add to own ones?"),
    Pair("selective_by_consistency", "finetune", _NAIVE),
    Pair("selective_by_entropy", "self_training", "do weak answers add to own ones?"),
    Pair("selective_by_entropy", "finetune", _NAIVE),
    Pair("self_training_by_p_ik", "self_training_by_shuffled_p_ik", _WHICH),
    Pair("self_training_by_p_ik", "self_training", "do weights by P(IK) gain?"),
    Pair("finetune_by_p_ik", "finetune_by_shuffled_p_ik", _WHICH),
    Pair("finetune_by_p_ik", "finetune", "do weights by P(IK) gain?"),
    Pair("majority", "finetune", "does the commonest answer gain over that to the original prompt?"),
)
LABEL_NAMES = {
    "varied": "answers to the variations",
    "original": "answers to the original prompts",
    "majority": "commonest answers",
}
_OTHER_LABELS = {"own": "the strong model's own answers to the original prompts"}
_SCORE_NAMES = {
    "entropy": "S_ent of the question",
    "score": "S_prob of the answer",
    "confidence": "log-probability of the answer",
    "own_entropy": "S_ent of the strong model's own answers",
    "own_agreement": "share of its own answers that are the label",
    "p_ik": "P(IK) of the strong model",
}
_WHEN = ("before", "after")


def filter_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per seed: what was asked, tau, what the filter keeps, what could not be read."""
    rows = []
    for entry in run.reliability:
        conflicts = entry["conflicts"]
        rows.append(
            {
                **{key: entry[key] for key in ("seed", "questions", "variations", "left_out")},
                **dict.fromkeys(("tau", "kept", "kept_share")),
                **{key: (entry["filter"] or {}).get(key) for key in ("tau", "kept", "kept_share")},
                "unparsed": share_unparsed(entry),
                "conflicts": None if conflicts is None else _quotient(conflicts["count"], conflicts["n"]),
            }
        )
    return rows


def share_unparsed(entry: Mapping[str, Any]) -> float | None:
    """Of the answers of a seed to the variations, those in which none was found."""
    answers = entry["unparsed_answers"]
    return _quotient(answers["count"], answers["n"])


def unevenness(entry: Mapping[str, Any]) -> float | None:
    """The most by which the share of a letter of a seed is off from uniform, where places were changed at random."""
    letters = entry["letters"]
    if letters is None or letters["varied"]["p_value"] is None:
        return None
    varied = letters["varied"]
    pairs = zip(varied["chosen"], varied["expected"], strict=True)
    return _quotient(max((abs(chosen - expected) for chosen, expected in pairs), default=0.0), varied["n"])


def label_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per kind of labels: how many are right on all questions, on those that the filter keeps, and by weight."""
    filters = [entry["filter"] for entry in run.reliability if entry["filter"] is not None]
    papers = papers_filter(run)
    rows = []
    for kind, name in LABEL_NAMES.items() if filters else ():
        row: dict[str, Any] = {"labels": name, "num_seeds": len(filters)}
        for when in _WHEN:
            share, bounds = _mean([one[when][kind] for one in filters])
            row |= {when: share, f"{when}_interval": bounds}
            row[f"paper_{when}"] = getattr(papers, when, None) if kind == "varied" else None
        weighted = [entry["weighted"] for entry in run.reliability] if kind == "varied" else []
        row["weighted"], row["weighted_interval"] = _mean(weighted)
        rows.append(row)
    return rows


def entropy_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per value of S_ent: the share of the questions, how many of their labels are right, and the paper's."""
    by_value: dict[float, list[Mapping[str, Any]]] = {}
    for entry in run.reliability:
        for bar in entry["entropies"]:
            by_value.setdefault(bar["entropy"], []).append(bar)
    papers = papers_bars(run)
    rows = []
    for value, bars in sorted(by_value.items()):
        paper = papers.get(value)
        row: dict[str, Any] = {
            "entropy": value,
            "counts": ", ".join(sorted({counts for bar in bars for counts in bar["counts"]}, reverse=True)),
            "questions": sum(bar["questions"] for bar in bars),
            "share": sum(bar["share"] for bar in bars) / len(run.reliability),
            "paper_share": None if paper is None else paper.share,
            "paper_right": None if paper is None else paper.right,
            "num_seeds": len(bars),
        }
        for kind in LABEL_NAMES:
            row[kind], row[f"{kind}_interval"] = _mean([bar[kind] for bar in bars])
        rows.append(row)
    return rows


def papers_bars(run: stored.Run) -> dict[float, paper_reliability.Bar]:
    """By entropy, the bars of the paper's figures where they are of the same data and weak model."""
    if not run.is_papers_data or run.weak is None:
        return {}
    return {bar.entropy: bar for bar in paper_reliability.bars(run.task, run.weak_model)}


def papers_filter(run: stored.Run) -> paper_reliability.Filter | None:
    """What the filter keeps there, likewise."""
    is_there = run.is_papers_data and run.weak is not None
    return paper_reliability.entropy_filter(run.task, run.weak_model) if is_there else None


def score_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per weak label and truth: mean S_prob, and the number of labels of all seeds."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in run.reliability:
        scores = entry["scores"]
        for row, weak in enumerate(scores["weak"]):
            for column, truth in enumerate(scores["truth"]):
                cell = {key: scores[key][row][column] for key in ("n", "mean", "low", "high")}
                found.setdefault((weak, truth), []).append(cell | {"share": cell["mean"]})
    rows = []
    for (weak, truth), cells in found.items():
        mean, bounds = _mean(cells)
        rows.append(
            {
                "weak": weak,
                "truth": truth,
                "n": sum(cell["n"] for cell in cells),
                "mean": mean,
                "mean_interval": bounds,
            }
        )
    # Answers in which none was found come last, also where one seed alone has some.
    return sorted(rows, key=lambda row: row["weak"] == reliability.UNPARSED)


def auroc_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per score and kind of labels: AUROC for a wrong label."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in run.reliability:
        for area in entry["auroc"]:
            ends = {"share": area["auroc"], "low": area["auroc_low"], "high": area["auroc_high"]}
            found.setdefault((area["score"], area["label"]), []).append(area | ends)
    rows = []
    for (score, label), areas in found.items():
        mean, bounds = _mean(areas)
        rows.append(
            {
                "score": _SCORE_NAMES.get(score, score),
                "label": (LABEL_NAMES | _OTHER_LABELS).get(label, label),
                "auroc": mean,
                "auroc_interval": bounds,
                "n": sum(area["n"] for area in areas),
                "wrong": _quotient(sum(area["wrong"] for area in areas), sum(area["n"] for area in areas)),
                "num_seeds": len(areas),
            }
        )
    return rows


def letter_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per letter: how often it was chosen, how often it would be by chance alone, and how often it was right."""
    entries = [entry["letters"] for entry in run.reliability if entry["letters"] is not None]
    num_letters = max((len(entry["letters"]) for entry in entries), default=0)
    rows = []
    for place in range(num_letters):
        having = [entry for entry in entries if place < len(entry["letters"])]
        row: dict[str, Any] = {"letter": having[0]["letters"][place], "num_seeds": len(having)}
        for name in ("varied", "original"):
            of_name = [entry[name] for entry in having]
            chosen = [{key: one[key][place] for key in ("share", "low", "high")} for one in of_name]
            row[f"{name}_chosen"], row[f"{name}_chosen_interval"] = _mean(chosen)
            for key in ("expected", "right"):
                row[f"{name}_{key}"] = _quotient(
                    sum(one[key][place] for one in of_name), sum(one["n"] for one in of_name)
                )
        rows.append(row)
    return rows


def uniformity(run: stored.Run) -> list[str]:
    """Of each seed whose letters were tested against uniform ones, what came out."""
    tested = [
        (entry["seed"], entry["letters"]["varied"])
        for entry in run.reliability
        if entry["letters"] is not None and entry["letters"]["varied"]["p_value"] is not None
    ]
    return [
        f"seed {seed}: chi-square {found['chi_square']:.1f}, p {numbers.p_value(found['p_value'])}"
        for seed, found in tested
    ]


def step_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per method: the steps that it was trained for, also as a multiple of the baseline's."""
    means = {method: numbers.mean(list(of_seed.values())) for method, of_seed in run.steps.items()}
    base = means.get(numbers.BASELINE)
    return [
        {
            "method": method,
            "steps": None if mean is None else round(mean),
            "ratio": None if not base or mean is None or method == "weak" else mean / base,
            "num_seeds": len(run.steps[method]),
        }
        for method, mean in means.items()
    ]


def comparison_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Of `PAIRS`, those that a run has: mean difference by bootstrap, and p-values by Holm."""
    rows = []
    for pair in PAIRS:
        is_there = pair.first in run.predictions and pair.second in run.predictions
        change = numbers.difference(run, pair.first, pair.second) if is_there else None
        if change is not None:
            rows.append(
                {
                    **pair._asdict(),
                    "num_seeds": len(run.common_seeds(pair.first, pair.second)),
                    "difference": change.mean,
                    "difference_interval": numbers.interval(change),
                    "p_value": change.p_value,
                }
            )
    corrected = comparisons.holm([row["p_value"] for row in rows])
    return [row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)]


def _mean(
    shares: Sequence[Mapping[str, Any]],
) -> tuple[float | None, tuple[float, float] | None]:
    """The mean over seeds of those that are there, each with `low` and `high`."""
    there = [one for one in shares if one["share"] is not None]
    bounds = [None if None in (one["low"], one["high"]) else (one["low"], one["high"]) for one in there]
    return numbers.over_seeds([one["share"] for one in there], bounds)


def _quotient(count: float, total: float) -> float | None:
    return count / total if total else None
