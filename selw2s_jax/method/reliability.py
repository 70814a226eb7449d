"""How reliable the answers to several wordings of one question are (Reliability-Aware Alignment, arXiv 2406.19032).

Answers are whatever compares and hashes as the same answer: an index of a choice, a word's number, an exact fraction;
None is an answer in which none was found. Everything is float64, and a function of how many answers agree: questions
whose answers fall into groups of the same sizes have equal scores bit for bit, in whatever order they came. Without
that, ties with the threshold would be decided by rounding.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

Answer = Hashable | None

UNPARSED = ("class", "left_out", "drop_question", "trained")
TIES = ("keep", "split")


def prediction_set(answers: Sequence[Answer]) -> tuple[list[Answer], list[int]]:
    """The distinct answers in order of appearance, None one of them, and how often each was given (Section 4.1)."""
    counts: dict[Answer, int] = {}
    for answer in answers:
        counts[answer] = counts.get(answer, 0) + 1
    return list(counts), list(counts.values())


def majority(answers: Sequence[Answer]) -> Answer:
    """The commonest answer, of tied ones the first to appear; None may be it.

    Raises:
        ValueError: there are none.
    """
    if not answers:
        raise ValueError("no answers, of which none is the commonest")
    predictions, counts = prediction_set(answers)
    return predictions[counts.index(max(counts))]


def entropy(counts: Sequence[int]) -> float:
    """Entropy of the predictions of one question, in nats: 0 where all answers agree, log N where none do (Eq. 3).

    Args:
        counts: how often each prediction was given.

    Raises:
        ValueError: no counts, or some are not positive.
    """
    # Of p alone, whose quotient is rounded once, and added in order of size.
    return sum((-p * math.log(p) for p in sorted(_probabilities(counts))), 0.0) + 0.0  # never -0.0


def scores(counts: Sequence[int], temperature: float) -> np.ndarray:
    """Reliability of each prediction of one question: a softmax over the distinct predictions (Eq. 2 and 4).

    Args:
        counts: how often each prediction was given.
        temperature: T, positive; 0.2 in the paper.

    Returns:
        `[K]` float64, which add up to 1.

    Raises:
        ValueError: no counts, some are not positive, or the temperature is not.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be positive")
    probabilities = _probabilities(counts)
    largest = max(probabilities)
    powers = [math.exp((p - largest) / temperature) for p in probabilities]
    return np.array(powers) / sum(sorted(powers))


def threshold(entropies: Sequence[float] | np.ndarray, percentile: float) -> float:
    """Tau: the percentile of the entropies of all questions, linearly interpolated between neighbours (Section 4.2).

    Where it falls on one of them it is that one exactly: numpy.percentile, which divides the percentile by 100 first,
    can miss it by a rounding and so lose all questions that are tied with it.

    Args:
        entropies: `[N]`.
        percentile: from 0 to 100; 50 in the paper.

    Raises:
        ValueError: no entropies, some are not finite, or the percentile is outside its range.
    """
    entropies = _checked(entropies)
    return float(np.interp(_place(percentile, len(entropies)), np.arange(len(entropies)), np.sort(entropies)))


def keep(
    entropies: Sequence[float] | np.ndarray,
    percentile: float,
    ties: str = "keep",
    draws: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:
    """The questions that the entropy filter keeps: those whose entropy is at most tau (Section 4.2).

    N answers have few different entropies, so that many questions are tied with tau, and more than the percentile says
    are kept.

    Args:
        entropies: `[N]`, of all questions.
        percentile: that tau is.
        ties: "keep" keeps all that are tied with tau; "split" as many of them as makes the number that would be kept
            if no two entropies were equal, those with the lowest draws.
        draws: `[N]` for "split", uniform and keyed by example so that the order of questions decides nothing. None
            draws by place, with a seed of 0.

    Returns:
        `[N]` bool.

    Raises:
        ValueError: as of `threshold`, or `ties` is unknown, or draws of another number.
    """
    entropies = _checked(entropies)
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}; choose one of {', '.join(TIES)}")
    if ties == "keep":
        return entropies <= threshold(entropies, percentile)
    if draws is None:
        draws = np.random.default_rng(0).random(len(entropies))
    if np.shape(draws) != entropies.shape:
        raise ValueError(f"{np.shape(draws)} draws for {len(entropies)} entropies; give one each")
    order = np.lexsort((np.asarray(draws), entropies))
    kept = np.zeros(len(entropies), bool)
    kept[order[: math.floor(_place(percentile, len(entropies))) + 1]] = True
    return kept


class Assessment(NamedTuple):
    """What the answers of Q questions say of themselves; N is the largest number of answers to one."""

    entropies: np.ndarray  # [Q] float64; NaN for a question that does not take part
    scores: np.ndarray  # [Q, N] float64: S_prob of each answer; NaN where it does not count, or there is none
    is_row: np.ndarray  # [Q, N] bool: the answers that may be trained on

    @property
    def takes_part(self) -> np.ndarray:
        """`[Q]` bool: questions among which tau is found."""
        return np.isfinite(self.entropies)


def assess(
    answers: Sequence[Sequence[Answer]], *, temperature: float = 0.2, unparsed: str = "class"
) -> Assessment:
    """Entropies and scores of the answers to varied prompts of many questions.

    Args:
        answers: of each question, in order of its variations; the numbers of them may differ.
        temperature: T of `scores`.
        unparsed: what a None is: "class", one prediction among the others, never trained on; "trained", one that is;
            "left_out", no answer at all; "drop_question", the end of its question. A question without an answer to
            train on takes no part: its agreement on nothing would lower tau.

    Raises:
        ValueError: `unparsed` is unknown, or the temperature is not positive.
    """
    if unparsed not in UNPARSED:
        raise ValueError(f"unparsed is {unparsed!r}; choose one of {', '.join(UNPARSED)}")
    shape = len(answers), max(map(len, answers), default=0)
    found = Assessment(np.full(len(answers), np.nan), np.full(shape, np.nan), np.zeros(shape, bool))
    for question, given in enumerate(answers):
        counted = _counted(given, unparsed)
        if not counted:
            continue
        predictions, counts = prediction_set([given[i] for i in counted])
        of_each = dict(zip(predictions, scores(counts, temperature), strict=True))
        found.entropies[question] = entropy(counts)
        for i in counted:
            found.scores[question, i] = of_each[given[i]]
            found.is_row[question, i] = unparsed == "trained" or given[i] is not None
    return found


def _counted(given: Sequence[Answer], unparsed: str) -> list[int]:
    """Places of the answers that count; none of a question that has no row."""
    parsed = [i for i, answer in enumerate(given) if answer is not None]
    if unparsed == "trained" or (unparsed == "class" and parsed):
        return list(range(len(given)))
    return [] if unparsed == "drop_question" and len(parsed) < len(given) else parsed


def _probabilities(counts: Sequence[int]) -> list[float]:
    """Empirical probabilities p (Eq. 2)."""
    if not len(counts) or min(counts) <= 0:
        raise ValueError(f"counts of predictions must be positive, and some: {list(counts)}")
    total = sum(counts)
    return [int(count) / int(total) for count in counts]


def _checked(entropies: Sequence[float] | np.ndarray) -> np.ndarray:
    entropies = np.asarray(entropies, np.float64)
    if entropies.ndim != 1 or not entropies.size or not np.isfinite(entropies).all():
        raise ValueError("entropies must be a list of finite numbers, at least one")
    return entropies


def _place(percentile: float, count: int) -> float:
    """Where a percentile lies among ordered values, from 0."""
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile is {percentile}; it must be from 0 to 100")
    return percentile * (count - 1) / 100  # multiplied first: whole where it is a whole place
