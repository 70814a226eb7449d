"""The numbers of Reliability-Aware Alignment (arXiv 2406.19032), to be shown as the paper's.

Single runs all of them: the standard error of an accuracy over test items alone is 0.5 points on HellaSwag, 0.4 on
MMLU, 0.65 on ETHICS and 0.7 on GSM8K, whose gap between weak model and ceiling is 1 to 7 points, so that a PGR there is
known to one half or so. Methods have their names in `method.row_weights`: `finetune` is "w2s naive", the filter of
Table 1 `entropy_filter`, the re-weighting of Table 2 `reweighted`, "(s.)" `_sampled`.
"""

from typing import Any, NamedTuple

from selw2s_jax.method import reliability

PUBLISHED = "as published in arXiv 2406.19032, a single run, not measured here"
WORKED_OUT = "worked out from the accuracies published in arXiv 2406.19032, not measured here"

TASKS = ("hellaswag", "mmlu", "ethics_commonsense", "gsm8k")
METHODS = (
    "weak", "finetune", "entropy_filter_sampled", "entropy_filter", "reweighted_sampled", "reweighted", "ceiling",
)  # fmt: skip
_L2_7B, _L2_13B, _L3_8B, _MISTRAL = "llama-2-7b", "llama-2-13b", "llama-3-8b", "mistral-7b-v0.1"

# Tables 1 and 2: test accuracy in thousandths by weak and strong model, in the order of TASKS and METHODS.
ACCURACY: dict[tuple[str, str], tuple[tuple[int, ...], ...]] = {
    (_L2_7B, _L2_13B): (
        (801, 812, 800, 827, 767, 819, 855),
        (404, 444, 446, 500, 480, 481, 509),
        (790, 672, 813, 765, 764, 796, 842),
        (58, 62, 65, 62, 55, 61, 74),
    ),
    (_L2_7B, _MISTRAL): (
        (801, 842, 848, 861, 834, 859, 902),
        (404, 509, 509, 458, 516, 507, 594),
        (790, 734, 816, 820, 753, 808, 898),
        (58, 59, 72, 71, 72, 71, 126),
    ),
    (_L2_7B, _L3_8B): (
        (801, 786, 841, 861, 822, 848, 891),
        (404, 448, 471, 476, 510, 505, 609),
        (790, 605, 804, 809, 706, 778, 865),
        (58, 71, 74, 74, 74, 78, 126),
    ),
    (_MISTRAL, _L3_8B): (
        (894, 866, 874, 900, 871, 899, 891),
        (579, 588, 594, 603, 597, 597, 609),
        (894, 669, 829, 859, 739, 841, 865),
        (116, 92, 96, 105, 108, 124, 126),
    ),
}
# PGR as printed there, of METHODS but the first and the last; None where the ceiling is not above the weak model.
PGR: dict[tuple[str, str], tuple[tuple[float, ...] | None, ...]] = {
    (_L2_7B, _L2_13B): (
        (0.205, -0.011, 0.485, -0.618, 0.325),
        (0.387, 0.398, 0.913, 0.728, 0.739),
        (-2.250, 0.440, -0.476, -0.491, 0.126),
        (0.239, 0.434, 0.239, -0.234, 0.148),
    ),
    (_L2_7B, _MISTRAL): (
        (0.403, 0.467, 0.596, 0.329, 0.570),
        (0.554, 0.556, 0.283, 0.591, 0.546),
        (-0.517, 0.245, 0.283, -0.343, 0.174),
        (0.012, 0.203, 0.181, 0.203, 0.181),
    ),
    (_L2_7B, _L3_8B): (
        (-0.165, 0.442, 0.667, 0.228, 0.518),
        (0.216, 0.326, 0.353, 0.517, 0.495),
        (-2.443, 0.194, 0.255, -1.111, -0.153),
        (0.192, 0.237, 0.237, 0.237, 0.293),
    ),
    (_MISTRAL, _L3_8B): (
        None,
        (0.314, 0.500, 0.790, 0.608, 0.608),
        None,
        (-2.432, -2.050, -1.065, -0.829, 0.847),
    ),
}

_OF_FIVE = ((5,), (4, 1), (3, 2), (3, 1, 1), (2, 2, 1), (2, 1, 1, 1), (1, 1, 1, 1, 1))
_OF_TWO = ((2,), (1, 1))
# Figures 3 and 5, weak model Llama2-7B: by how the answers divide the share of answers in per cent, and of them the
# share right, both as read from the drawings. Each answer to a variation counts. Unparsed ones are wrong; those of
# ETHICS are left out, share and accuracy: of two answers that differ one alone can be right, and .71 is above one half.
_BARS = {
    "hellaswag": ((55.3, 0.95), (18.8, 0.67), (11.4, 0.49), (6.7, 0.43), (6.0, 0.34), (1.7, 0.28)),
    "mmlu": ((16.1, 0.82), (16.2, 0.48), (14.8, 0.33), (21.2, 0.32), (22.5, 0.27), (9.2, 0.27)),
    "ethics_commonsense": ((72.4, 0.80), (27.6, 0.71)),
    "gsm8k": ((0.7, 0.37), (2.6, 0.18), (1.7, 0.15), (8.9, 0.11), (7.1, 0.10), (34.3, 0.05), (44.8, 0.03)),
}
# Worked out from the drawings, the same weak model: tau, the share of the questions that is kept, and the share of the
# answers right before and after.
_FILTER = {
    "hellaswag": (0.0, 0.553, 0.762, 0.953),
    "mmlu": (0.950, 0.683, 0.414, 0.480),
    "ethics_commonsense": (0.0, 0.724, 0.773, 0.797),
    "gsm8k": (1.332, 0.552, 0.057, 0.082),
}
# Figures 4 and 6, the same weak model: mean S_prob where weak label and truth agree, and the least and the largest mean
# where they do not.
_SCORES = {
    "hellaswag": ((0.884, 0.938, 0.943, 0.954), (0.374, 0.666)),
    "mmlu": ((0.763, 0.683, 0.690, 0.759), (0.445, 0.561)),
    "ethics_commonsense": ((0.927, 0.871), (0.807, 0.853)),
    "gsm8k": ((0.439,), (0.290, 0.290)),
}


class Bar(NamedTuple):
    """A bar of Figure 3 or 5: its entropy, and as fractions its share of the answers and how many of them are right."""

    entropy: float
    share: float
    right: float


class Filter(NamedTuple):
    """What the entropy filter keeps: tau, and as fractions the share kept and the answers right before and after."""

    tau: float
    kept: float
    before: float
    after: float


class Scores(NamedTuple):
    """Mean S_prob (Figures 4 and 6): where label and truth agree, by label, and the range where they do not."""

    agreeing: tuple[float, ...]
    others: tuple[float, float]


def accuracy(task: str, weak: str, strong: str, method: str) -> float | None:
    """The paper's accuracy of this cell of Tables 1 and 2 as a fraction, or None where it has none."""
    rows = ACCURACY.get((weak, strong))
    if rows is None or task not in TASKS or method not in METHODS:
        return None
    return rows[TASKS.index(task)][METHODS.index(method)] / 1000


def pgr(task: str, weak: str, strong: str, method: str) -> float | None:
    """PGR as Tables 1 and 2 print it, or None where they have none."""
    rows, students = PGR.get((weak, strong)), METHODS[1:-1]
    row = None if rows is None or task not in TASKS else rows[TASKS.index(task)]
    return None if row is None or method not in students else row[students.index(method)]


def bars(task: str, weak: str) -> list[Bar]:
    """The bars of Figures 3 and 5; none of other tasks and weak models."""
    found: tuple[Any, ...] = _BARS.get(task, ()) if weak == _L2_7B else ()
    divisions = _OF_TWO if task == "ethics_commonsense" else _OF_FIVE
    return [
        Bar(reliability.entropy(counts), share / 100, right)
        for counts, (share, right) in zip(divisions, found, strict=False)
    ]


def entropy_filter(task: str, weak: str) -> Filter | None:
    """What the filter keeps there; None of other tasks and weak models."""
    return Filter(*_FILTER[task]) if weak == _L2_7B and task in _FILTER else None


def scores(task: str, weak: str) -> Scores | None:
    """What Figures 4 and 6 show; None of other tasks and weak models."""
    return Scores(*_SCORES[task]) if weak == _L2_7B and task in _SCORES else None
