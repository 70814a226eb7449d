"""Row weights that choose between the weak model's answers and the strong model's own (in neither paper).

What Selective W2SG does by P(IK) is done here by agreement: low entropy of a model's answers to the variations of a
question says that it knows. So the entropy filter of Reliability-Aware Alignment becomes a selector, of weak answers to
be trusted or of own ones. Every question is a row, the original prompt with the answer chosen; a question whose answer
says nothing is none.
"""

from collections.abc import Sequence

import numpy as np

from selw2s_jax.method import reliability, row_weights


@row_weights.register("self_training")
def make_self_training(*, unparsed: str = "class") -> row_weights.RowWeights:
    """The strong model's own commonest answer to every question: what a selection has to beat.

    Args:
        unparsed: of `reliability.assess`.
    """
    return lambda inputs: _rows(inputs, np.ones(len(inputs.answers), bool), unparsed)


@row_weights.register("selective_by_entropy")
def make_selective_by_entropy(
    *, percentile: float = 50.0, ties: str = "keep", unparsed: str = "class"
) -> row_weights.RowWeights:
    """The weak answer where the weak model agrees with itself, the own commonest answer elsewhere.

    Args:
        percentile, ties: of `reliability.keep`, of the weak model's entropies.
        unparsed: of `reliability.assess`.
    """

    def weigh(inputs: row_weights.RowInputs) -> row_weights.Rows:
        agrees = _agreeing(inputs, inputs.varied, percentile, ties, unparsed)
        return _rows(inputs, ~agrees, unparsed)

    return weigh


@row_weights.register("selective_by_consistency")
def make_selective_by_consistency(
    *, percentile: float = 50.0, ties: str = "keep", unparsed: str = "class"
) -> row_weights.RowWeights:
    """The own commonest answer where the strong model agrees with itself, the weak answer elsewhere.

    Args:
        percentile, ties: of `reliability.keep`, of the strong model's entropies.
        unparsed: of `reliability.assess`.
    """

    def weigh(inputs: row_weights.RowInputs) -> row_weights.Rows:
        agrees = _agreeing(inputs, _varied(inputs), percentile, ties, unparsed)
        return _rows(inputs, agrees, unparsed)

    return weigh


@row_weights.register("random_selection")
def make_random_selection(
    *, percentile: float = 50.0, ties: str = "keep", unparsed: str = "class"
) -> row_weights.RowWeights:
    """The own commonest answer to as many questions, at random, as selective_by_consistency takes it for.

    Args:
        percentile, ties, unparsed: as of that.
    """

    def weigh(inputs: row_weights.RowInputs) -> row_weights.Rows:
        varied = _varied(inputs)
        may_be = reliability.assess(varied, unparsed=unparsed).takes_part
        number = np.count_nonzero(_agreeing(inputs, varied, percentile, ties, unparsed))
        takes_own = np.zeros(len(may_be), bool)
        takes_own[row_weights.drawn_order(inputs, may_be, "random selection")[:number]] = True
        return _rows(inputs, takes_own, unparsed)

    return weigh


def _varied(inputs: row_weights.RowInputs) -> list[Sequence[reliability.Answer]]:
    """`[Q][N]` the strong model's answers to the variations."""
    if inputs.own is None:
        raise ValueError("there are no own answers; register the method with uses_self_labels=True")
    return [given[1:] for given in inputs.own]


def _agreeing(
    inputs: row_weights.RowInputs,
    varied: Sequence[Sequence[reliability.Answer]],
    percentile: float,
    ties: str,
    unparsed: str,
) -> np.ndarray:
    """`[Q]` bool: the questions with the lowest entropies; none without an answer."""
    found = reliability.assess(varied, unparsed=unparsed)
    return row_weights.kept_questions(inputs, found, percentile, ties)


def _rows(inputs: row_weights.RowInputs, takes_own: np.ndarray, unparsed: str) -> row_weights.Rows:
    """The original prompts, with own commonest answers where they are taken."""
    own = row_weights.commonest(_varied(inputs), unparsed)
    predictions = [
        mine if takes else weak for mine, takes, weak in zip(own, takes_own, inputs.original, strict=True)
    ]
    is_row = np.array([answer is not None for answer in predictions], bool)
    return row_weights.of_originals(inputs, is_row, predictions)._replace(is_own=takes_own)
