"""The methods by name: each a label rule, a loss, and what it needs. A new method is a new row."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.method import registering

# Subject: the method that a paper proposes, compared with every other. Student: a baseline. Ablation: the subject
# without a part. Control: what would do as well if it were not the method that helped. Reference: no student, but what
# students are measured against. Probe: it answers no questions.
ROLES = ("subject", "student", "ablation", "control", "reference", "probe")
# Config: P(IK) is trained, and its scores come, as p_ik.stage and p_ik.mask say. Frozen: from a model that is trained
# on P(IK) first; the student has no such head. Online: from the student's head, weighed by what that model was fitted.
P_IK_FROM = ("config", "frozen", "online")


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to train a model.

    Attributes:
        description: what it is, for readers of tables.
        role: what it is in a comparison, of `ROLES`.
        label_rule: name in `label_rules.LABEL_RULES`.
        loss: name in `losses.LOSSES`.
        rule_options, loss_options: options that are part of the method; a rule's other options come from
            the config.
        uses_p_ik: whether the model has a P(IK) head and P(IK) examples in its batches.
        p_ik_from: where it has its P(IK) from, of `P_IK_FROM`.
        uses_self_labels: whether the strong model's own labels are among its inputs.
        mask_of: the method whose IK masks, shuffled among the examples of each batch, are this one's scores.
        control_of: of a control, the one method that it is the control of; None where it is one of every method.
        weighs: whether its rule weighs both labels of a row, rather than choose one of them.
        task_weight: weight of the class-head loss (0: P(IK) alone is trained, "P(IK) only").
        is_student: whether it may be listed in `methods` of a config.
        columns: that its examples carry besides those that its label rule reads, as `example_weight`, which the step
            reads.
        weight: name in `experiments.calibrated.WEIGHTS`: what each example counts for in the loss; None: all alike.
        teacher: name in `experiments.teachers.TEACHERS`: whose labels it learns from, and on which rows.
    """

    label_rule: str = "given"
    loss: str = "finetune"
    rule_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    loss_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    uses_p_ik: bool = False
    p_ik_from: str = "config"
    uses_self_labels: bool = False
    mask_of: str | None = None
    control_of: str | None = None
    weighs: bool = False
    task_weight: float = 1.0
    is_student: bool = True
    description: str = ""
    role: str = "student"
    columns: tuple[str, ...] = ()
    weight: str | None = None
    teacher: str = "weak"

    def __post_init__(self):
        if isinstance(self.columns, str):
            raise ValueError(f"columns={self.columns!r} of a method: give a tuple of names")
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} of a method is not one of: {', '.join(ROLES)}")
        if self.p_ik_from not in P_IK_FROM:
            raise ValueError(
                f"p_ik_from={self.p_ik_from!r} of a method is not one of: {', '.join(P_IK_FROM)}"
            )
        if self.p_ik_from != "config" and not self.uses_p_ik:
            raise ValueError(
                f"p_ik_from={self.p_ik_from!r} of a method without P(IK): give it uses_p_ik=True"
            )


METHODS: dict[str, Method] = {}

# Models trained on ground truth, which every run of students has beside them: PGR is measured against these two.
REFERENCES: dict[str, Method] = {
    "weak": Method(
        role="reference",
        is_student=False,
        description="the weak model, fine-tuned on ground truth of its half of the data",
    ),
    "ceiling": Method(
        role="reference",
        is_student=False,
        description="the strong model fine-tuned on ground truth: what a perfect teacher would give",
    ),
}
BASELINE = "finetune"  # the method without any remedy, with which every other student is compared


def register(name: str, method: Method) -> None:
    """Makes a method known under its name.

    Raises:
        ValueError: the name is taken, as `registering.claim` says.
    """
    registering.claim("method", name, is_taken=name in METHODS)
    METHODS[name] = method


def students() -> tuple[str, ...]:
    """Names that `methods` of a config may list."""
    return tuple(name for name, method in METHODS.items() if method.is_student)


def is_p_ik_alone(names: Sequence[str]) -> bool:
    """Whether none of these methods learns a task: a run of them has no weak model, no ceiling and no halves."""
    return bool(names) and all(name in METHODS and METHODS[name].task_weight == 0 for name in names)


register("supervised", Method(is_student=False, role="reference"))
register(
    "p_ik_only",
    Method(
        uses_p_ik=True,
        task_weight=0.0,
        role="probe",
        description="P(IK) trained alone; it answers no questions",
    ),
)
register("finetune", Method(description="the strong model on the weak model's labels as they are"))
register(
    "confidence",
    Method(loss="confidence", description="with the auxiliary confidence loss of Burns et al. 2023"),
)
register("product", Method(loss="product", description="on the product of weak and own probabilities"))
register(
    "adaptive", Method(loss="adaptive", description="with the adaptive confidence loss of Guo et al. 2024")
)
register(
    "reverse_kl",
    Method(loss="reverse_kl", description="reverse KL divergence instead of cross-entropy (Yao et al. 2025)"),
)
register(
    "jensen_shannon",
    Method(loss="jensen_shannon", description="Jensen-Shannon divergence instead of cross-entropy"),
)
register(
    "forward_kl", Method(loss="forward_kl", description="forward KL divergence instead of cross-entropy")
)
register(
    "hellinger", Method(loss="hellinger", description="squared Hellinger distance instead of cross-entropy")
)
register(
    "total_variation",
    Method(loss="total_variation", description="total variation distance instead of cross-entropy"),
)
register(
    "chi_squared", Method(loss="chi_squared", description="chi-squared divergence instead of cross-entropy")
)
register(
    "raven",
    Method(
        label_rule="raven",
        description="on labels of all weak models, by weights that are learned beside it (RAVEN, 2510.21332)",
    ),
)
register(
    "selective",
    Method(
        label_rule="selective",
        uses_p_ik=True,
        uses_self_labels=True,
        role="subject",
        description="Selective W2SG: own labels where P(IK) exceeds gamma, smoothed weak labels elsewhere",
    ),
)

# Ablations of the paper's Table 4: w/o IK, w/o GS, MTL.
register(
    "selective_without_ik",
    Method(
        label_rule="smoothed",
        role="ablation",
        description="selective without selection: smoothed weak labels on every row",
    ),
)
register(
    "selective_without_gs",
    Method(
        label_rule="selective",
        rule_options={"refiner": "none"},
        uses_p_ik=True,
        uses_self_labels=True,
        role="ablation",
        description="selective without graph smoothing",
    ),
)
register(
    "mtl",
    Method(
        uses_p_ik=True,
        role="ablation",
        description="weak labels as they are, with P(IK) trained beside but not used",
    ),
)

# Controls, not in the paper: if they do as well, it is not selection that helped.
register(
    "self_training",
    Method(
        label_rule="self_labels",
        uses_self_labels=True,
        role="control",
        description="control: the strong model's own labels on every row",
    ),
)
register(
    "random_selection",
    Method(
        label_rule="selective",
        # The given masks are 0 or 1.
        rule_options={"mask": "given", "selector": "threshold", "gamma": 0.5},
        uses_p_ik=True,
        uses_self_labels=True,
        mask_of="selective",
        role="control",
        description="control: own labels on random rows, as many as selective chose",
    ),
)

# Not in the paper: P(IK) trained first and frozen, and what two calibrated labels say together.
_FROZEN: dict[str, Any] = {"uses_p_ik": True, "p_ik_from": "frozen", "uses_self_labels": True}
register(
    "selective_frozen",
    Method(
        label_rule="selective",
        rule_options={"mask": "frozen_p_ik"},
        **_FROZEN,
        description="selective with the scores of a P(IK) that was trained first, and no such head in the student",
    ),
)
register(
    "selective_by_confidence",
    Method(
        label_rule="selective",
        rule_options={"mask": "reliability", "selector": "by_confidence", "refiner": "none"},
        **_FROZEN,
        description="own labels where calibrated P(IK) exceeds the calibrated confidence of the weak label",
    ),
)
register(
    "posterior",
    Method(
        label_rule="posterior",
        **_FROZEN,
        weighs=True,
        description="the posterior of weak and own label, each by its calibrated reliability",
    ),
)
register(
    "posterior_online",
    Method(
        label_rule="posterior_online",
        uses_p_ik=True,
        p_ik_from="online",
        uses_self_labels=True,
        weighs=True,
        description="posterior with P(IK) of the student's own head, trained jointly",
    ),
)
register(
    "posterior_online_shuffled",
    Method(
        label_rule="posterior_online",
        rule_options={"is_shuffled": True},
        uses_p_ik=True,
        p_ik_from="online",
        uses_self_labels=True,
        role="control",
        control_of="posterior_online",
        weighs=True,
        description="control: posterior_online with P(IK) shuffled among the rows of each batch",
    ),
)
register(
    "posterior_shuffled",
    Method(
        label_rule="posterior",
        rule_options={"reliability": "shuffled_reliability"},
        **_FROZEN,
        role="control",
        control_of="posterior",
        weighs=True,
        description="control: posterior with P(IK) shuffled among the rows",
    ),
)
register(
    "posterior_constant",
    Method(
        label_rule="posterior",
        rule_options={"reliability": "constant_reliability"},
        **_FROZEN,
        role="control",
        control_of="posterior",
        weighs=True,
        description="control: posterior with one reliability of own labels for all rows",
    ),
)
register(
    "random_selection_frozen",
    Method(
        label_rule="selective",
        rule_options={"mask": "shuffled_p_ik"},
        **_FROZEN,
        role="control",
        control_of="selective_frozen",
        description="control: own labels on random rows, as many as selective_frozen chose",
    ),
)
register(
    "random_selection_by_confidence",
    Method(
        label_rule="selective",
        # The mask is 0 or 1.
        rule_options={
            "mask": "shuffled_choice_by_confidence",
            "selector": "threshold",
            "gamma": 0.5,
            "refiner": "none",
        },
        **_FROZEN,
        role="control",
        control_of="selective_by_confidence",
        description="control: own labels on random rows, as many as selective_by_confidence chose",
    ),
)

# Of several weak models: where they disagree, the strong model's own label, and no P(IK).
_BY_DISAGREEMENT = {"selector": "by_disagreement", "refiner": "none", "mask": "online"}
register(
    "selective_by_disagreement",
    Method(
        label_rule="selective",
        rule_options=_BY_DISAGREEMENT,
        uses_self_labels=True,
        description="own labels where the weak models disagree, their mean label elsewhere",
    ),
)
register(
    "random_selection_by_disagreement",
    Method(
        label_rule="selective",
        rule_options=_BY_DISAGREEMENT | {"each": "shuffled_weak_each"},
        uses_self_labels=True,
        role="control",
        control_of="selective_by_disagreement",
        description="control: own labels on random rows, as many as selective_by_disagreement chose",
    ),
)

# Of several weak models too: what Reliability-Aware Alignment does with the answers of one to several prompts.
register(
    "reweighted_by_agreement",
    Method(
        weight="agreement",
        description="the weak models' mean label, each row weighed by how many of them agree with it (S_prob)",
    ),
)
register(
    "shuffled_weights_by_agreement",
    Method(
        weight="shuffled_agreement",
        role="control",
        control_of="reweighted_by_agreement",
        description="control: reweighted_by_agreement with the weights shuffled among the rows",
    ),
)

# Not in the paper: earlier students as teachers, as the weak model is one for the others.
register(
    "two_stage",
    Method(
        teacher="two_stage",
        description="weak labels where they are surest, and of a student of these the surest of the others",
    ),
)
register(
    "two_stage_random",
    Method(
        teacher="two_stage_random",
        role="control",
        control_of="two_stage",
        description="control: two_stage with weak labels on as many random rows",
    ),
)
register(
    "chain",
    Method(
        teacher="chain",
        description="labels handed on over models of growing size, each taught by the one before (Burns et al. 2023)",
    ),
)
register(
    "iterate",
    Method(
        teacher="iterate",
        description="the strong model on the labels of a student of itself, round after round",
    ),
)
