"""What else than the answers' own agreement tells that a written weak label is wrong, on the same questions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import grouped, metrics
from selw2s_jax.method import reliability

Answer = reliability.Answer


def areas(
    answers: Sequence[Sequence[Answer]],
    truths: Sequence[Answer],
    *,
    log_probs: Sequence[float] | None = None,
    own: Sequence[Sequence[Answer]] | None = None,
    p_ik: Sequence[float] | np.ndarray | None = None,
    unparsed: str = "class",
) -> list[dict[str, Any]]:
    """AUROCs for a wrong answer to the original prompt, as the entries "auroc" of `analysis.reliability.describe`.

    Args:
        answers: `[Q][1 + N]` of the weak model, the first to the original prompt.
        truths: `[Q]`.
        log_probs: `[Q]` log-probability of the weak model's answer to the original prompt among its candidates; NaN
            where it was written.
        own: `[Q][1 + N]` answers of the strong model, before any training.
        p_ik: `[Q]` the strong model's P(IK) of the questions, before any other training.
        unparsed: of `reliability.assess`.

    Returns:
        Of each `score` that there is: "confidence" (the log-probability), "own_entropy" (that of the strong model's
        answers to the variations), "own_agreement" (the share of these that the weak label has), "p_ik".
        The last also of the `label` "own", the strong model's own answers to the original prompts.
    """
    takes_part = reliability.assess([given[1:] for given in answers], unparsed=unparsed).takes_part
    asked = [
        question
        for question in np.flatnonzero(takes_part).tolist()
        if answers[question][0] is not None or unparsed == "trained"
    ]
    scores: dict[str, list[float]] = {}
    if log_probs is not None and all(math.isfinite(log_probs[question]) for question in asked):
        scores["confidence"] = [-log_probs[question] for question in asked]
    if own is not None:
        varied = [given[1:] for given in own]
        entropies = reliability.assess(varied).entropies
        # A strong model that says nothing knows nothing: it counts as one whose answers all differ.
        most = math.log(max(map(len, varied), default=1) or 1)
        scores["own_entropy"] = [
            most if math.isnan(entropies[question]) else float(entropies[question]) for question in asked
        ]
        scores["own_agreement"] = [
            -list(varied[question]).count(answers[question][0]) / max(len(varied[question]), 1)
            for question in asked
        ]
    if p_ik is not None:
        scores["p_ik"] = [-float(p_ik[question]) for question in asked]
    wrong = [answers[question][0] is None or answers[question][0] != truths[question] for question in asked]
    found = [area(name, "original", values, wrong, asked) for name, values in scores.items()]
    if own is not None and p_ik is not None:
        # What P(IK) is trained to tell, on other questions: an answer that says nothing is wrong there too.
        is_wrong = [given[0] is None or given[0] != truth for given, truth in zip(own, truths, strict=True)]
        found.append(area("p_ik", "own", [-float(one) for one in p_ik], is_wrong, range(len(is_wrong))))
    return found


def area(
    score: str, label: str, values: Sequence[float], wrong: Sequence[bool], groups: Sequence[int]
) -> dict[str, Any]:
    """AUROC of values, higher where a wrong label is expected, and its interval over questions.

    Args:
        score, label: what the values are, and of which labels.
        groups: the question of each label.
    """
    found = interval = None
    if wrong:
        found = metrics.auroc(values, wrong)
        interval = grouped.auroc_interval(values, wrong, groups)
    low, high = interval or (None, None)
    return {
        "score": score,
        "label": label,
        "n": len(wrong),
        "wrong": sum(wrong),
        "auroc": found,
        "auroc_low": low,
        "auroc_high": high,
    }
