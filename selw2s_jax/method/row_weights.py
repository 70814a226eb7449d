"""Which answers of the weak model a student trains on, and with which weights, by name (arXiv 2406.19032).

A function of this registry sees the parsed answers of all questions and never ground truth. A row is a prompt and the
answer to it; its weight multiplies its loss (`losses.completion_loss`), and 0 means no row: it is not among the
examples, nor in the number that the loss is divided by.

Chances are drawn by example_id, so that neither order nor number of the other questions changes what is drawn; and for
one purpose alike by all methods, so that two sampled ones train on the same rows where they may.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from selw2s_jax.method import factories, reliability


class RowInputs(NamedTuple):
    """What a function of row weights may use."""

    example_ids: Sequence[str]  # [Q]
    # [Q][1 + N] parsed answers, the first of them to the original prompt; N may differ by question.
    answers: Sequence[Sequence[reliability.Answer]]
    # (purpose, key) -> a uniform draw in [0, 1), such as `data.by_id.keyed_uniform` with a seed.
    draw: Callable[[str, str], float]
    # [Q][1 + N] likewise of the strong model as it was pretrained; None for methods that use no own labels.
    own: Sequence[Sequence[reliability.Answer]] | None = None
    # [Q] P(IK) of the strong model as it was pretrained; None for methods that use none.
    p_ik: np.ndarray | None = None

    @property
    def original(self) -> list[reliability.Answer]:
        """`[Q]` answers to the original prompts."""
        return [given[0] for given in self.answers]

    @property
    def varied(self) -> list[Sequence[reliability.Answer]]:
        """`[Q][N]` answers to the variations."""
        return [given[1:] for given in self.answers]

    def draws(self, purpose: str) -> np.ndarray:
        """`[Q]` a draw for each question."""
        return np.array([self.draw(purpose, name) for name in self.example_ids])


class Rows(NamedTuple):
    """What a student trains on."""

    weights: np.ndarray  # [Q, 1 + N] float64, the first of the original prompt; 0: no row
    # [Q] predictions that the rows of the original prompts are trained on; None: the model's own answers to them.
    predictions: list[reliability.Answer] | None = None
    # [Q] bool: which of them are the strong model's own, and so none that the weak model wrote, even where it said the
    # same; None: none of them.
    is_own: np.ndarray | None = None


RowWeights = Callable[[RowInputs], Rows]


def check_rows(rows: Rows, num_answers: Sequence[int]) -> None:
    """Checks what a function of row weights gives.

    Args:
        num_answers: `[Q]` of each question, 1 + N.

    Raises:
        ValueError: it is no `Rows`; weights are of another shape, no finite numbers of 0 or more in float32, or of
            answers that are not there; or a row has no prediction where there are some.
    """
    if not isinstance(rows, Rows):
        raise ValueError(f"a {type(rows).__name__}: return row_weights.Rows")
    with np.errstate(over="ignore"):
        weights = np.asarray(rows.weights, np.float32)
    wanted = (len(num_answers), max(num_answers, default=1))
    if weights.shape != wanted or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"row weights must be finite and not negative, [questions, 1 + variations]; of {wanted[0]} questions in at "
            f"most {wanted[1]} prompts they are {weights.shape}"
        )
    is_there = np.arange(wanted[1]) < np.array(num_answers, int)[:, None]
    if (weights[~is_there] > 0).any():
        raise ValueError("weight for answers beyond those of a question, which has fewer than others")
    if rows.predictions is None:
        return
    if len(rows.predictions) != wanted[0]:
        raise ValueError(f"{len(rows.predictions)} predictions for {wanted[0]} questions")
    if any(rows.predictions[i] is None for i in np.flatnonzero(weights[:, 0])):
        raise ValueError("weight for the original prompt of a question without a prediction")
    if rows.is_own is not None and np.shape(rows.is_own) != wanted[:1]:
        raise ValueError(f"is_own of shape {np.shape(rows.is_own)} for {wanted[0]} questions: say it of each")


# Of two options of one name the later section's counts: the temperature here is that of reliability.
ROW_WEIGHTS = factories.Registry(
    "row weights",
    sections=("answers", "reliability"),
    built_in=tuple(f"selw2s_jax.method.{name}" for name in ("own_answers", "p_ik_weights")),
)
register = ROW_WEIGHTS.register
NORMALIZE = ("none", "batch", "question")


def get(name: str, **options) -> RowWeights:
    """The row weights registered as `name`, with their options bound.

    Raises:
        KeyError: none of that name.
    """
    return ROW_WEIGHTS.make(name, **options)


def _register_with_sampled(name: str):
    """Registers a factory, and as `{name}_sampled` the same with as many rows as there are questions."""

    def add(factory):
        @functools.wraps(factory)  # its signature too, by which options are found
        def sampled(**options) -> RowWeights:
            weigh = factory(**options)
            return lambda inputs: sample(weigh(inputs), inputs)

        register(f"{name}_sampled")(sampled)
        return register(name)(factory)

    return add


def sample(rows: Rows, inputs: RowInputs) -> Rows:
    """As many of the rows as there are questions, without replacement and each as likely; all where they are fewer."""
    found = [
        # A variation's number has no colon, so that no two rows have one key.
        (inputs.draw("sampled rows", f"{variation}:{inputs.example_ids[question]}"), question, variation)
        for question, variation in np.argwhere(rows.weights > 0).tolist()
    ]
    weights = np.zeros_like(rows.weights)
    for _, question, variation in sorted(found)[: len(inputs.example_ids)]:
        weights[question, variation] = rows.weights[question, variation]
    return rows._replace(weights=weights)


@register("finetune")
def make_finetune(*, unparsed: str = "class") -> RowWeights:
    """The answer to the original prompt, one row for each question (the paper's naive weak-to-strong).

    Args:
        unparsed: of `reliability.assess`; of one answer alone, every way but "trained" leaves it out.
    """

    def weigh(inputs: RowInputs) -> Rows:
        is_row = reliability.assess([[answer] for answer in inputs.original], unparsed=unparsed).is_row
        return of_originals(inputs, is_row.reshape(-1))

    return weigh


@register("majority")
def make_majority(*, unparsed: str = "class") -> RowWeights:
    """The commonest prediction, of tied ones the earliest, as the answer to the original prompt (not in the paper).

    Args:
        unparsed: of `reliability.assess`. Where no answer is the commonest there is no row, whatever this says: there
            is nothing to write.
    """

    def weigh(inputs: RowInputs) -> Rows:
        chosen = commonest(inputs.varied, unparsed)
        return of_originals(inputs, np.array([answer is not None for answer in chosen], bool), chosen)

    return weigh


@_register_with_sampled("all_variations")
def make_all_variations(*, unparsed: str = "class") -> RowWeights:
    """All answers, each with weight 1: the variations as augmentation alone (not in the paper).

    Args:
        unparsed: of `reliability.assess`.
    """
    return lambda inputs: _of_variations(inputs, 1.0, reliability.assess(inputs.varied, unparsed=unparsed))


@_register_with_sampled("entropy_filter")
def make_entropy_filter(
    *, percentile: float = 50.0, ties: str = "keep", unparsed: str = "class"
) -> RowWeights:
    """All answers to the questions that the entropy filter keeps (Section 4.2).

    Args:
        percentile, ties: of `reliability.keep`.
        unparsed: of `reliability.assess`.
    """

    def weigh(inputs: RowInputs) -> Rows:
        found = reliability.assess(inputs.varied, unparsed=unparsed)
        return _of_variations(inputs, kept_questions(inputs, found, percentile, ties)[:, None], found)

    return weigh


@register("random_filter")
def make_random_filter(
    *, percentile: float = 50.0, ties: str = "keep", unparsed: str = "class"
) -> RowWeights:
    """All answers to as many questions at random as the entropy filter keeps (not in the paper).

    Args:
        percentile, ties: of `reliability.keep`.
        unparsed: of `reliability.assess`.
    """

    def weigh(inputs: RowInputs) -> Rows:
        found = reliability.assess(inputs.varied, unparsed=unparsed)
        order = drawn_order(inputs, found.takes_part, "random filter")
        kept = np.zeros(len(inputs.answers), bool)
        kept[order[: np.count_nonzero(kept_questions(inputs, found, percentile, ties))]] = True
        return _of_variations(inputs, kept[:, None], found)

    return weigh


@_register_with_sampled("reweighted")
def make_reweighted(
    *, temperature: float = 0.2, normalize: str = "none", unparsed: str = "class"
) -> RowWeights:
    """All answers, each with its reliability score (Section 4.3).

    Args:
        temperature: T of `reliability.scores`.
        normalize: "none" as in the paper; "question" makes the weights of a question 1 on average; "batch" is the
            loss's, and the weights here are as they are.
        unparsed: of `reliability.assess`.
    """
    _check_normalize(normalize)

    def weigh(inputs: RowInputs) -> Rows:
        found = reliability.assess(inputs.varied, temperature=temperature, unparsed=unparsed)
        return _of_variations(inputs, _normalized(found, normalize), found)

    return weigh


@register("shuffled_weights")
def make_shuffled_weights(
    *, temperature: float = 0.2, normalize: str = "none", unparsed: str = "class"
) -> RowWeights:
    """All answers, each question with the scores of another one, which goes round (not in the paper).

    Where two questions have other numbers of answers to train on, the scores are cut off or begun again.

    Args:
        temperature, normalize, unparsed: as of `reweighted`.
    """
    _check_normalize(normalize)

    def weigh(inputs: RowInputs) -> Rows:
        found = reliability.assess(inputs.varied, temperature=temperature, unparsed=unparsed)
        own, others = _normalized(found, normalize), np.zeros(found.scores.shape)
        order = drawn_order(inputs, np.asarray(found.is_row.any(1)), "shuffled weights")
        for taker, giver in zip(order, np.roll(order, 1), strict=True):  # a ring, so nobody's are its own
            rows = found.is_row[taker]
            others[taker, rows] = np.resize(own[giver, found.is_row[giver]], np.count_nonzero(rows))
        return _of_variations(inputs, others, found)

    return weigh


@register("question_weights")
def make_question_weights(
    *, temperature: float = 0.2, normalize: str = "none", unparsed: str = "class"
) -> RowWeights:
    """All answers, each with the mean score of its question's: what re-weighting does between questions.

    Args:
        temperature, normalize, unparsed: as of `reweighted`; with normalize="question" all weights are 1.
    """
    _check_normalize(normalize)

    def weigh(inputs: RowInputs) -> Rows:
        found = reliability.assess(inputs.varied, temperature=temperature, unparsed=unparsed)
        weights = 1.0 if normalize == "question" else _means(found)[:, None]
        return _of_variations(inputs, weights, found)

    return weigh


@register("answer_weights")
def make_answer_weights(*, temperature: float = 0.2, unparsed: str = "class") -> RowWeights:
    """All answers, each with its score over the mean of its question's: what re-weighting does within a question.

    Args:
        temperature, unparsed: as of `reweighted`.
    """
    return make_reweighted(temperature=temperature, normalize="question", unparsed=unparsed)


def commonest(varied: Sequence[Sequence[reliability.Answer]], unparsed: str) -> list[reliability.Answer]:
    """`[Q]` the commonest answers to the variations, of tied ones the earliest; None where that says nothing.

    Args:
        varied: `[Q][N]`.
        unparsed: of `reliability.assess`.
    """
    takes_part = reliability.assess(varied, unparsed=unparsed).takes_part
    counted = [
        [answer for answer in given if answer is not None or unparsed != "left_out"] for given in varied
    ]
    return [
        reliability.majority(given) if is_there else None
        for given, is_there in zip(counted, takes_part, strict=True)
    ]


def of_originals(
    inputs: RowInputs, is_row: np.ndarray, predictions: list[reliability.Answer] | None = None
) -> Rows:
    """Rows of the original prompts alone, `is_row` `[Q]` bool; predictions as `Rows` has them."""
    weights = np.zeros((len(inputs.answers), max(map(len, inputs.answers), default=1)))
    weights[:, 0] = is_row
    return Rows(weights, predictions)


def _of_variations(inputs: RowInputs, weights: np.ndarray | float, found: reliability.Assessment) -> Rows:
    """Rows of those answers that may be trained on; weights as `[Q, N]` has them."""
    rows = of_originals(inputs, np.zeros(len(inputs.answers)))
    rows.weights[:, 1:] = np.where(found.is_row, weights, 0.0)
    return rows


def kept_questions(
    inputs: RowInputs, found: reliability.Assessment, percentile: float, ties: str
) -> np.ndarray:
    """`[Q]` bool: the questions of the entropy filter, tau being of those that take part."""
    kept = found.takes_part.copy()
    if kept.any():
        draws = inputs.draws("tied entropies")[kept] if ties == "split" else None
        kept[kept] = reliability.keep(found.entropies[kept], percentile, ties, draws)
    return kept


def drawn_order(inputs: RowInputs, may_be: np.ndarray, purpose: str) -> np.ndarray:
    """Indices of the questions that may be, in an order drawn by their ids."""
    draws = inputs.draws(purpose)
    return np.array(sorted(np.flatnonzero(may_be).tolist(), key=lambda question: draws[question]), int)


def _check_normalize(normalize: str) -> None:
    if normalize not in NORMALIZE:
        raise ValueError(f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZE)}")


def _means(found: reliability.Assessment) -> np.ndarray:
    """`[Q]` mean scores of the rows of each question, 1 where it has none."""
    # Added in order of size: equal partitions, in whatever order, have equal means.
    totals = np.sum(np.sort(np.where(found.is_row, found.scores, 0.0), axis=1), axis=1)
    counts = np.count_nonzero(found.is_row, axis=1)
    return np.where(counts > 0, totals / np.maximum(counts, 1), 1.0)


def _normalized(found: reliability.Assessment, normalize: str) -> np.ndarray:
    """`[Q, N]` scores, none of them so small that it is 0 in the loss's float32: that would be no row."""
    weights = found.scores / _means(found)[:, None] if normalize == "question" else found.scores
    return np.maximum(weights, np.finfo(np.float32).tiny)
