"""The methods by name: each a label rule, a loss, and what it needs. A new method is a new row."""

import dataclasses

from selw2s_jax.method import losses, selection  # noqa: F401  (selection registers its label rules)


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to train a model.

    Attributes:
        label_rule: name in `label_rules.LABEL_RULES`.
        loss: name in `losses.LOSSES`.
        uses_p_ik: whether the model has a P(IK) head and P(IK) examples in its batches.
        uses_self_labels: whether the strong model's few-shot answers are among its inputs.
        task_weight: weight of the class-head loss (0: P(IK) alone is trained, "P(IK) only").
        is_student: whether it may be listed in `methods` of a config.
    """

    label_rule: str = "given"
    loss: str = "finetune"
    uses_p_ik: bool = False
    uses_self_labels: bool = False
    task_weight: float = 1.0
    is_student: bool = True


METHODS: dict[str, Method] = {
    "supervised": Method(is_student=False),
    "p_ik_only": Method(uses_p_ik=True, task_weight=0.0, is_student=False),
    "finetune": Method(),
    "confidence": Method(loss="confidence"),
    "selective": Method(label_rule="selective", uses_p_ik=True, uses_self_labels=True),
}

STUDENTS = tuple(name for name, method in METHODS.items() if method.is_student)
