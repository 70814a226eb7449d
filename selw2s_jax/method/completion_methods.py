"""The methods that learn written answers, by name, as their readers see them (Reliability-Aware Alignment, 2406.19032).

What a method does is the function of its name in `row_weights.ROW_WEIGHTS`; one that a user registers there is a
method too. Losses and label rules are those of no method here: all have the loss of Eq. 5.
"""

from collections.abc import Iterable
from typing import Any

from selw2s_jax.method import registry, row_weights

_P_IK: dict[str, Any] = {"uses_p_ik": True, "p_ik_from": "frozen"}  # of a model that is trained on it first
METHODS: dict[str, registry.Method] = {
    "finetune": registry.Method(
        description="the strong model on the weak model's answers to the original prompts"
    ),
    "entropy_filter": registry.Method(
        role="subject",
        description="all answers to the questions whose answers agree most (uncertainty filtering)",
    ),
    "entropy_filter_sampled": registry.Method(
        description="entropy_filter with as many of its rows as there are questions"
    ),
    "reweighted": registry.Method(
        role="subject", description="all answers, each weighed by how many others agree with it"
    ),
    "reweighted_sampled": registry.Method(
        description="reweighted with as many of its rows as there are questions"
    ),
    "majority": registry.Method(
        description="the commonest answer, as the answer to the original prompt (not in the paper)"
    ),
    "self_training": registry.Method(
        role="control",
        uses_self_labels=True,
        description="control: the strong model's own commonest answer to every question",
    ),
    "selective_by_entropy": registry.Method(
        uses_self_labels=True,
        description="weak answers where the weak model agrees with itself, own ones elsewhere (in neither paper)",
    ),
    "selective_by_consistency": registry.Method(
        uses_self_labels=True,
        description="own answers where the strong model agrees with itself, weak ones elsewhere (in neither paper)",
    ),
    "random_selection": registry.Method(
        role="control",
        control_of="selective_by_consistency",
        uses_self_labels=True,
        description="control: own answers to as many questions, at random, as selective_by_consistency takes",
    ),
    "self_training_by_p_ik": registry.Method(
        uses_self_labels=True,
        **_P_IK,
        description="the strong model's own commonest answers, each weighed by P(IK) (in neither paper)",
    ),
    "self_training_by_shuffled_p_ik": registry.Method(
        role="control",
        control_of="self_training_by_p_ik",
        uses_self_labels=True,
        **_P_IK,
        description="control: self_training_by_p_ik, each question with another one's P(IK)",
    ),
    "finetune_by_p_ik": registry.Method(
        **_P_IK, description="weak answers, each weighed by P(IK) of the strong model (in neither paper)"
    ),
    "finetune_by_shuffled_p_ik": registry.Method(
        role="control",
        control_of="finetune_by_p_ik",
        **_P_IK,
        description="control: finetune_by_p_ik, each question with another one's P(IK)",
    ),
    "question_weights": registry.Method(
        role="ablation", description="reweighted between questions alone: the rows of each weigh the same"
    ),
    "answer_weights": registry.Method(
        role="ablation", description="reweighted within questions alone: all of them weigh the same"
    ),
    "all_variations": registry.Method(
        role="control", description="control: all answers, of weight 1: the variations as augmentation alone"
    ),
    "all_variations_sampled": registry.Method(
        role="control", description="control: as many of all answers, at random, as there are questions"
    ),
    "random_filter": registry.Method(
        role="control",
        control_of="entropy_filter",
        description="control: all answers to as many questions, at random, as the entropy filter keeps",
    ),
    "shuffled_weights": registry.Method(
        role="control",
        control_of="reweighted",
        description="control: all answers, each question with another one's weights",
    ),
}


def students() -> tuple[str, ...]:
    """Names that `methods` of a config may list where answers are written."""
    return tuple(row_weights.ROW_WEIGHTS)


def find(name: str) -> registry.Method | None:
    """What is known of a method; of a user's row weights that they are a student's."""
    return METHODS.get(name) or (registry.Method() if name in row_weights.ROW_WEIGHTS else None)


def use_p_ik(names: Iterable[str]) -> bool:
    """Whether any of these methods uses P(IK)."""
    return any(method is not None and method.uses_p_ik for method in map(find, names))
