"""What the answers to several prompts of one question tell of weak labels: by entropy, by score, by letter.

A *label* is an answer of the weak model: to the original prompt of a question, or to one of its variations, N to a
question. Entropies and scores are those of the variations' answers, which methods train on (arXiv 2406.19032), and so
are the bars of its Figures 3 and 5 and the cells of its Figures 4 and 6; what is of the original prompt says so. An
answer in which none was found is a wrong one. Ground truth is joined after training, for analysis alone.

Answers to one question depend on each other, so intervals are `grouped` by question. The order of the questions
changes no bit.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from selw2s_jax.analysis import distributions, grouped, weak_errors
from selw2s_jax.method import reliability

KINDS = ("choice", "words", "number")  # of answers
LABELS = ("original", "varied", "majority")  # whose accuracy is told
UNPARSED = "none"  # in the place of the name of an answer
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Answer = reliability.Answer


class Letters(NamedTuple):
    """Where answers to questions with choices stood; of each question and answer as `answers` of `describe` has them.

    Attributes:
        chosen: `[Q][1 + N]` place of the answer among the choices as they were shown; -1 for none.
        right: `[Q][1 + N]` place of the right choice.
        num_choices: `[Q]`.
    """

    chosen: Sequence[Sequence[int]]
    right: Sequence[Sequence[int]]
    num_choices: Sequence[int]


def describe(
    answers: Sequence[Sequence[Answer]],
    truths: Sequence[Answer],
    *,
    kind: str,
    letters: Letters | None = None,
    conflicts: Sequence[Sequence[bool]] | None = None,
    names: Sequence[str] | None = None,
    percentile: float = 50.0,
    ties: str = "keep",
    draws: Sequence[float] | None = None,
    temperature: float = 0.2,
    unparsed: str = "class",
) -> dict[str, Any]:
    """The labels of one seed on the student's questions.

    Args:
        answers: `[Q][1 + N]` parsed answers, the first of the original prompt; N may differ by question. Choices are
            in original order.
        truths: `[Q]` the right ones.
        kind: of `KINDS`.
        letters: of questions with choices, where the answers stood; None without.
        conflicts: `[Q][1 + N]`, whether letter and text of an answer disagreed; None where nobody looked.
        names: of the answers 0, 1, ...; without, letters.
        percentile, ties, draws: of `reliability.keep`; `draws` `[Q]` are those of the `entropy_filter` of the run.
        temperature, unparsed: of `reliability.assess`.

    Returns:
        A JSON value:
        `questions`, `variations` (the most to a question), `left_out` (questions that do not take part in tau), and
            the settings `kind`, `percentile`, `ties`, `temperature` and `unparsed`.
        `unparsed_answers`: of all answers to variations, those that do not count too, `n`, and the `count` of those in
            which none was found.
        `entropies`: for each value of S_ent, from low to high, `entropy`, `counts` (how the answers divide, "4 1"),
            `questions`, their `share` of those that take part, and `original`, `varied` and `majority`: of these
            labels `n`, how many are `right` and `unparsed`, the `share` right and its 95 % interval `low`, `high`
            (None without labels). `majority` is the commonest prediction, of tied ones the earliest.
        `filter`: `tau`, `kept` questions, `kept_share` of those that take part, and `before` and `after`: the same
            three, over questions that take part, and over those that are kept. None where none takes part.
        `weighted`: share right of the labels that may be trained on, each counting by its S_prob, as re-weighting
            has it; `share`, `low`, `high`.
        `scores`: mean S_prob by weak label (`weak`, a row each) and truth (`truth`, a column each): `mean`, `low`,
            `high` (None without labels, or of one question) and `n`. Of choices both are letters as they were shown,
            of words names; of numbers the label is right or wrong and there is one column.
        `auroc`: of each `score` ("entropy" of the question, "score": S_prob of what the label says, 0 where no
            variation had it) for a wrong `label` ("original", "varied") among those that may be trained on: `n`,
            `wrong`, `auroc`, `auroc_low`, `auroc_high`.
        `letters`: see `_letters`; None without.
        `conflicts`: `n` answers, `count` of them in which letter and text disagreed; None where nobody looked.
    """
    if kind not in KINDS or len(answers) != len(truths) or not all(map(len, answers)):
        raise ValueError(
            f"kind {kind!r:.40}, or {len(answers)} questions with answers and {len(truths)} truths"
        )
    varied = [list(given[1:]) for given in answers]
    found = reliability.assess(varied, temperature=temperature, unparsed=unparsed)
    labels = _Labels([given[0] for given in answers], varied, list(truths), found, unparsed)
    kept = np.zeros(len(answers), bool)
    if found.takes_part.any():
        own_draws = None if draws is None else np.asarray(draws)[found.takes_part]
        entropies = found.entropies[found.takes_part]
        kept[found.takes_part] = reliability.keep(entropies, percentile, ties, own_draws)
    return {
        "kind": kind,
        "questions": len(answers),
        "variations": max(map(len, varied), default=0),
        "left_out": int((~found.takes_part).sum()),
        "percentile": percentile,
        "ties": ties,
        "temperature": temperature,
        "unparsed": unparsed,
        "unparsed_answers": {
            "n": sum(map(len, varied)),
            "count": sum(answer is None for given in varied for answer in given),
        },
        "entropies": _entropies(labels),
        "filter": _filter(labels, kept, percentile) if kept.any() else None,
        "weighted": _weighted(labels),
        "scores": _scores(labels, kind, letters, names),
        "auroc": _areas(labels),
        "letters": None if letters is None else _letters(letters),
        "conflicts": None
        if conflicts is None
        else {"n": sum(map(len, conflicts)), "count": sum(bool(one) for given in conflicts for one in given)},
    }


class _Labels(NamedTuple):
    """Answers by question, and what they say of themselves."""

    original: list[Answer]
    varied: list[list[Answer]]
    truths: list[Answer]
    found: reliability.Assessment
    unparsed: str

    def counted(self, question: int) -> list[int]:
        """Places of the variations whose answers count."""
        return [
            place
            for place in range(len(self.varied[question]))
            if not math.isnan(self.found.scores[question, place])
        ]

    def majority(self, question: int) -> Answer:
        """The commonest prediction of those that count, the earliest where some are as common."""
        given = self.varied[question]
        return reliability.majority([given[place] for place in self.counted(question)])

    def rows(self) -> list[tuple[int, int]]:
        """Question and place of every answer to a variation that may be trained on."""
        return [(question, place) for question, place in np.argwhere(self.found.is_row).tolist()]

    def is_right(self, question: int, answer: Answer) -> bool:
        return answer is not None and answer == self.truths[question]

    def accuracies(self, questions: Sequence[int]) -> dict[str, dict[str, Any]]:
        """Of the three kinds of labels of some questions that take part."""
        by_kind = {
            "original": [[self.original[question]] for question in questions],
            "varied": [[self.varied[q][place] for place in self.counted(q)] for q in questions],
            "majority": [[self.majority(question)] for question in questions],
        }
        return {name: self._accuracy(questions, given) for name, given in by_kind.items()}

    def _accuracy(self, questions: Sequence[int], given: Sequence[Sequence[Answer]]) -> dict[str, Any]:
        right = [
            sum(self.is_right(question, answer) for answer in own)
            for question, own in zip(questions, given, strict=True)
        ]
        total = [len(own) for own in given]
        low, high = grouped.share_interval(right, total) or (None, None)
        return {
            "n": sum(total),
            "right": sum(right),
            "unparsed": sum(answer is None for own in given for answer in own),
            "share": sum(right) / sum(total) if sum(total) else None,
            "low": low,
            "high": high,
        }


def _entropies(labels: _Labels) -> list[dict[str, Any]]:
    by_value: dict[float, list[int]] = {}
    for question in np.flatnonzero(labels.found.takes_part).tolist():
        by_value.setdefault(float(labels.found.entropies[question]), []).append(question)
    total = sum(map(len, by_value.values()))
    return [
        {
            "entropy": value,
            "counts": sorted({_partition(labels, question) for question in questions}, reverse=True),
            "questions": len(questions),
            "share": len(questions) / total,
            **labels.accuracies(questions),
        }
        for value, questions in sorted(by_value.items())
    ]


def _partition(labels: _Labels, question: int) -> str:
    """How its answers divide, "3 1 1"."""
    given = labels.varied[question]
    _, counts = reliability.prediction_set([given[place] for place in labels.counted(question)])
    return " ".join(map(str, sorted(counts, reverse=True)))


def _filter(labels: _Labels, kept: np.ndarray, percentile: float) -> dict[str, Any]:
    takes_part = labels.found.takes_part
    return {
        "tau": reliability.threshold(labels.found.entropies[takes_part], percentile),
        "kept": int(kept.sum()),
        "kept_share": int(kept.sum()) / int(takes_part.sum()),
        "before": labels.accuracies(np.flatnonzero(takes_part).tolist()),
        "after": labels.accuracies(np.flatnonzero(kept).tolist()),
    }


def _weighted(labels: _Labels) -> dict[str, float | None]:
    """Share right by weight, with the interval of a ratio: of S (right - share), over the mean of S."""
    rows = labels.rows()
    if not rows:
        return {"share": None, "low": None, "high": None}
    weights = [float(labels.found.scores[row]) for row in rows]
    right = [labels.is_right(question, labels.varied[question][place]) for question, place in rows]
    total = math.fsum(weights)
    share = math.fsum(w for w, is_right in zip(weights, right, strict=True) if is_right) / total
    excess = [w * (is_right - share) for w, is_right in zip(weights, right, strict=True)]
    bounds = grouped.mean_interval(excess, [question for question, _ in rows])
    if bounds is None:
        return {"share": share, "low": None, "high": None}
    half = (bounds[1] - bounds[0]) / 2 / (total / len(rows))
    return {"share": share, "low": max(share - half, 0.0), "high": min(share + half, 1.0)}


def _scores(
    labels: _Labels, kind: str, letters: Letters | None, names: Sequence[str] | None
) -> dict[str, Any]:
    """Mean scores of the answers that count, by what they say and what is right."""
    cells: dict[tuple[Any, Any], list[tuple[float, int]]] = {}
    for question, given in enumerate(labels.varied):
        for place in labels.counted(question):
            answer, truth = given[place], labels.truths[question]
            if kind == "number":
                answer, truth = None if answer is None else int(answer != truth), 0
            elif kind == "choice" and letters is not None:
                truth = letters.right[question][place + 1]
                answer = None if answer is None else letters.chosen[question][place + 1]
            score = float(labels.found.scores[question, place])
            cells.setdefault((answer, truth), []).append((score, question))
    weak: list[int | None] = [0, 1]
    rights, named = [0], ["right", "wrong"]
    if kind != "number":
        largest = max((one for cell in cells for one in cell if one is not None), default=0)
        named = list(names or _LETTERS[: largest + 1])
        rights = list(range(len(named)))
        weak = [*rights]
    weak += [None] if any(answer is None for answer, _ in cells) else []
    table = [[_cell(cells.get((answer, right), [])) for right in rights] for answer in weak]
    return {
        "weak": [UNPARSED if answer is None else named[answer] for answer in weak],
        "truth": ["any"] if kind == "number" else [named[right] for right in rights],
        **{key: [[cell[key] for cell in row] for row in table] for key in ("n", "mean", "low", "high")},
    }


def _cell(scores: Sequence[tuple[float, int]]) -> dict[str, Any]:
    """Of scores and their questions."""
    if not scores:
        return {"n": 0, "mean": None, "low": None, "high": None}
    values = [score for score, _ in scores]
    low, high = grouped.mean_interval(values, [question for _, question in scores]) or (None, None)
    return {
        "n": len(values),
        "mean": math.fsum(values) / len(values),
        "low": None if low is None else max(low, 0.0),
        "high": None if high is None else min(high, 1.0),
    }


def _areas(labels: _Labels) -> list[dict[str, Any]]:
    """AUROC of entropies and scores for a wrong label: higher where one is expected."""
    rows = labels.rows()
    originals = [
        question
        for question in np.flatnonzero(labels.found.takes_part).tolist()
        if labels.original[question] is not None or labels.unparsed == "trained"
    ]
    wrong = {
        "original": [not labels.is_right(question, labels.original[question]) for question in originals],
        "varied": [not labels.is_right(question, labels.varied[question][place]) for question, place in rows],
    }
    groups = {"original": originals, "varied": [question for question, _ in rows]}
    entropies, scores = labels.found.entropies, labels.found.scores
    values = {
        ("entropy", "original"): entropies[originals].tolist(),
        ("score", "original"): [-_original_score(labels, question) for question in originals],
        ("entropy", "varied"): [entropies[question] for question, _ in rows],
        ("score", "varied"): [-scores[row] for row in rows],
    }
    return [
        weak_errors.area(score, label, of_each, wrong[label], groups[label])
        for (score, label), of_each in values.items()
    ]


def _original_score(labels: _Labels, question: int) -> float:
    """S_prob of the answer to the original prompt among those to the variations; 0 where it is none of them."""
    given, scores = labels.varied[question], labels.found.scores[question]
    same = [place for place in labels.counted(question) if given[place] == labels.original[question]]
    return float(scores[same[0]]) if same else 0.0


def _letters(letters: Letters) -> dict[str, Any]:
    """Which letters were chosen, and which were right.

    Returns:
        `letters`; `original` and `varied`, of these prompts: `n` answers with a letter, and by letter how often it was
        `chosen`, that many of `n` as `share` with its interval `low`, `high`, how often it would be `expected` if all
        places were as likely, and how often it was `right`; and of `varied`, Pearson's `chi_square` of chosen against
        expected, and its `p_value`. A model that reads what choices say, whatever their place, chooses uniformly where
        their orders are drawn at random; so both are None where no question was shown in two orders.
    """
    num_letters = max(letters.num_choices, default=0)
    places = {"original": slice(0, 1), "varied": slice(1, None)}
    described: dict[str, Any] = {"letters": list(_LETTERS[:num_letters])}
    for name, of in places.items():
        chosen = [[letter for letter in given[of] if letter >= 0] for given in letters.chosen]
        right = [
            [right for right, letter in zip(own[of], given[of], strict=True) if letter >= 0]
            for own, given in zip(letters.right, letters.chosen, strict=True)
        ]
        described[name] = _of_letters(chosen, right, letters.num_choices, num_letters)
    is_varied = any(len(set(own[1:])) > 1 for own in letters.right)
    described["varied"] |= _uniformity(described["varied"]) if is_varied else _NO_TEST
    return described


_NO_TEST: dict[str, float | None] = {"chi_square": None, "p_value": None}


def _of_letters(
    chosen: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
    num_choices: Sequence[int],
    num_letters: int,
) -> dict[str, Any]:
    totals = [len(given) for given in chosen]
    of_size: dict[int, int] = {}  # answers by the number of choices of their questions
    for total, size in zip(totals, num_choices, strict=True):
        of_size[size] = of_size.get(size, 0) + total
    counts = [[given.count(letter) for given in chosen] for letter in range(num_letters)]
    bounds = [grouped.share_interval(own, totals) or (None, None) for own in counts]
    return {
        "n": sum(totals),
        "chosen": [sum(own) for own in counts],
        "share": [sum(own) / sum(totals) if sum(totals) else None for own in counts],
        "low": [low for low, _ in bounds],
        "high": [high for _, high in bounds],
        "expected": [
            math.fsum(count / size for size, count in of_size.items() if letter < size)
            for letter in range(num_letters)
        ],
        "right": [sum(own.count(letter) for own in right) for letter in range(num_letters)],
    }


def _uniformity(of: dict[str, Any]) -> dict[str, float | None]:
    pairs = [
        (chosen, expected) for chosen, expected in zip(of["chosen"], of["expected"], strict=True) if expected
    ]
    if len(pairs) < 2:
        return _NO_TEST
    chi_square = math.fsum((chosen - expected) ** 2 / expected for chosen, expected in pairs)
    return {"chi_square": chi_square, "p_value": distributions.chi_square_tail(chi_square, len(pairs) - 1)}
