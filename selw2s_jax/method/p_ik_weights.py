"""Row weights by P(IK), the probability that the strong model knows the answer (in neither paper).

What S_prob is to a weak answer, how far it is to be trusted, P(IK) is to the strong model's own: so own answers are
weighed by it, and, to tell what comes of the questions and what of whose answers they have, weak ones too. Every
question is a row, the original prompt with its answer.

Weights are P(IK) over its mean over the rows. The mean weight is then 1, as without weights: `self_training` and
`finetune` are the controls with one P(IK) for all questions, on the same rows in the same number of steps.
"""

import numpy as np

from selw2s_jax.method import own_answers, row_weights


@row_weights.register("self_training_by_p_ik")
def make_self_training_by_p_ik(*, unparsed: str = "class") -> row_weights.RowWeights:
    """The strong model's own commonest answer to every question, weighed by P(IK) of the question.

    Args:
        unparsed: of `reliability.assess`.
    """
    return _weighed(own_answers.make_self_training(unparsed=unparsed))


@row_weights.register("self_training_by_shuffled_p_ik")
def make_self_training_by_shuffled_p_ik(*, unparsed: str = "class") -> row_weights.RowWeights:
    """The same, each question with P(IK) of another one.

    Args:
        unparsed: of `reliability.assess`.
    """
    return _weighed(own_answers.make_self_training(unparsed=unparsed), is_shuffled=True)


@row_weights.register("finetune_by_p_ik")
def make_finetune_by_p_ik(*, unparsed: str = "class") -> row_weights.RowWeights:
    """The weak answer to every original prompt, weighed by P(IK) of the question.

    Args:
        unparsed: of `reliability.assess`.
    """
    return _weighed(row_weights.make_finetune(unparsed=unparsed))


@row_weights.register("finetune_by_shuffled_p_ik")
def make_finetune_by_shuffled_p_ik(*, unparsed: str = "class") -> row_weights.RowWeights:
    """The same, each question with P(IK) of another one.

    Args:
        unparsed: of `reliability.assess`.
    """
    return _weighed(row_weights.make_finetune(unparsed=unparsed), is_shuffled=True)


def _weighed(choose: row_weights.RowWeights, *, is_shuffled: bool = False) -> row_weights.RowWeights:
    """The rows of a function that takes original prompts alone, with weights by P(IK)."""

    def weigh(inputs: row_weights.RowInputs) -> row_weights.Rows:
        if inputs.p_ik is None:
            raise ValueError("there is no P(IK); register the method with uses_p_ik=True")
        rows = choose(inputs)
        is_row = rows.weights[:, 0] > 0
        p_ik = np.asarray(inputs.p_ik, np.float64)
        if is_shuffled:
            order = row_weights.drawn_order(inputs, is_row, "shuffled P(IK)")
            p_ik = p_ik.copy()
            p_ik[order] = p_ik[np.roll(order, 1)]  # a ring, so that no question has its own
        # No weight is so small that it is 0 in the loss's float32: that would be no row.
        p_ik = np.maximum(p_ik, np.finfo(np.float32).tiny)
        weights = rows.weights.copy()
        # Added in order of size: the order of the questions changes no bit.
        weights[is_row, 0] = (
            p_ik[is_row] * np.count_nonzero(is_row) / max(np.sum(np.sort(p_ik[is_row])), 1e-300)
        )
        return rows._replace(weights=weights)

    return weigh
