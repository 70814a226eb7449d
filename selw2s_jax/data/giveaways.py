"""Labels that the form of a text gives away: its length, its first or last word, where the right choice stands.

A model that has learned such a form is right for a reason that nobody meant, and so are its teacher and its ceiling.
One feature at a time is asked how well it alone tells the labels. The thresholds are such that data sets whose right
answers are somewhat longer, as many are, give no alarm, and chance gives none in any number of rows.
"""

import collections
import math
from collections.abc import Callable, Sequence

import numpy as np

from selw2s_jax.analysis import metrics
from selw2s_jax.data import tasks
from selw2s_jax.data.doubts import Doubt

_FEWEST = 10  # examples of each label, below which nothing is said
_SIGMAS = 4.0  # that a figure is above what chance gives
_AUROC = 0.75  # of a length that gives the label away
_GAIN = 0.5  # of the errors that naming the commoner label makes, the share that a word would save
_MOST = 10_000  # examples that are looked at, drawn always the same way: enough for any figure here
_SAME_PLACE = 0.9  # of the right answers at one place among their choices

_LENGTHS: dict[str, Callable[[str], int]] = {
    "number of characters": len,
    "number of words": lambda text: len(text.split()),
}
_KINDS: dict[str, Callable[[str], str]] = {
    "first word": lambda text: text.split()[0],
    "last word": lambda text: text.split()[-1],
    "last character": lambda text: text[-1:],
    "first letter, capital or small,": lambda text: str(text.lstrip()[:1].isupper()),
}


def find(questions: Sequence[tasks.Question], where: str) -> list[Doubt]:
    """The features that tell the labels of questions; none where answers are written.

    Texts are those of yes/no questions, and all choices of the others: a right one has the label 1.

    Args:
        where: what the questions are called, such as their file.
    """
    if not questions or questions[0].solution:
        return []
    pairs = [pair for question in questions for pair in _pairs(question)]
    if len(pairs) > _MOST:
        pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:_MOST]]
    labels = np.array([label for _, label in pairs], np.int32)
    what = "texts" if questions[0].choices is None else "choices"
    if labels.min() == labels.max():
        return [
            Doubt(
                f"{where}: every label is {labels[0]}",
                "give questions of both labels: there is nothing to tell apart",
            )
        ]
    texts = [text for text, _ in pairs]
    remedy = "a model may learn that and nothing else: look at the data, and balance or shorten it"
    return [Doubt(f"{where}: {figure}", remedy) for figure in _figures(texts, labels, what)]


def _pairs(question: tasks.Question) -> list[tuple[str, int]]:
    if question.choices is None:
        return [(question.text, question.answer)]
    right = [(question.choices[question.answer], 1)]
    return right + [(question.choices[i], 0) for i in tasks.wrong_choices(question)]


def _figures(texts: Sequence[str], labels: np.ndarray, what: str) -> list[str]:
    count = len(labels)
    rarer = min(labels.sum(), count - labels.sum())
    if rarer < _FEWEST:
        return []
    by_length = []
    deviation = math.sqrt(
        (count + 1) / (12 * rarer * (count - rarer))
    )  # of the AUROC of a feature that tells nothing
    for name, measure in _LENGTHS.items():
        area = metrics.auroc([measure(text) for text in texts], labels)
        if abs(area - 0.5) >= max(_AUROC - 0.5, _SIGMAS * deviation):
            order = "more" if area > 0.5 else "less"
            by_length.append(
                f"the {name} alone tells the labels of {count} {what}: AUROC {max(area, 1 - area):.2f}, "
                f"{order} where the label is 1"
            )
    by_kind = []
    commoner = 1 - rarer / count
    for name, measure in _KINDS.items():
        right = accuracy_of_kind([measure(text) for text in texts], labels)
        gain = right - commoner
        if gain >= max(_GAIN * (1 - commoner), _SIGMAS * math.sqrt(0.25 / (count // 2))):
            by_kind.append(
                f"the {name} alone tells the labels of {count} {what}: right for {100 * right:.1f} %, where naming the "
                f"commoner label is for {100 * commoner:.1f} %"
            )
    return by_length[:1] + by_kind  # words and characters say the same


def accuracy_of_kind(kinds: Sequence[str], labels: np.ndarray) -> float:
    """How often the commoner label of a kind in one half of the examples is right in the other half.

    Of the two ways round the worse one, so that chance, which favours some kinds in one half, hardly gives a figure.
    What the first half does not have gets the commoner label of all. The halves are drawn, always the same way.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    accuracies = []
    for first, second in (halves, halves[::-1]):
        ones = collections.Counter()
        for i in first:
            ones[kinds[i]] += 1 if labels[i] else -1
        common = 2 * labels[first].sum() >= len(first)
        guesses = [ones[kinds[i]] > 0 if ones[kinds[i]] else common for i in second]
        accuracies.append(np.mean(guesses == labels[second].astype(bool)))
    return float(min(accuracies))


def of_places(questions: Sequence[tasks.Question], where: str) -> list[Doubt]:
    """Whether the right answer of a user's own questions stands at one place nearly always.

    That of SciQ does by the way it is stored; nothing that a model reads tells of it.
    """
    if questions[0].choices is None or len(questions) < 2 * _FEWEST:
        return []
    place, count = collections.Counter(question.answer for question in questions).most_common(1)[0]
    if count < _SAME_PLACE * len(questions):
        return []
    return [
        Doubt(
            f"{where}: the right answer is the choice of index {place} in {count} of {len(questions)} questions",
            "choices are shown one at a time here, so this tells no label: make sure that the answers are right",
        )
    ]
