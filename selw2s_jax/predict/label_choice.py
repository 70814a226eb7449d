"""The labels that a trained student's own label rule would choose for questions beside its training examples."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from selw2s_jax.method import graph_smoothing, label_rules, method_options, objectives

# What `Choice.used` calls the labels that the selective rule does not take from the strong model, by its refiner.
_REFINED = {"graph": "smoothed", "none": "weak"}
_COLUMNS = {"weak_probs", "self_labels", "given_p_ik"}


class Choice(NamedTuple):
    """Labels of N questions, probabilities of class 1; None where there is none.

    Attributes:
        smoothed: prior labels smoothed over the graph (Selective W2SG, Eq. 2).
        used: which label training would use (Eq. 3): "self", or "smoothed" or "weak".
        target: that label.
    """

    smoothed: Sequence[float | None]
    used: Sequence[str | None]
    target: Sequence[float | None]


def choose(
    config: ml_collections.ConfigDict,
    method_name: str,
    *,
    class_logits: np.ndarray,
    p_ik: np.ndarray | None,
    embeddings: np.ndarray,
    weak_probs: np.ndarray | None,
    own: np.ndarray | None,
) -> Choice:
    """The labels of batches of `training.batch_size` questions in their order; the last one may be smaller.

    A rule that selects smooths the weak labels with the strong model's own ones in their place where P(IK) is above
    gamma; of any other method the weak labels themselves are smoothed, and none is used. P(IK) is always the
    student's: scores of a file, or of a model that was trained before, are of other questions. So are all columns
    beside weak and own labels: a rule that reads more counts as one that does not select.

    Args:
        config: of the run.
        method_name: of the student.
        class_logits: `[N, 2]` of the student.
        p_ik: `[N]` of the student, None without that head: then nothing is selected.
        embeddings: `[N, D]` of the student.
        weak_probs: `[N, 2]` soft labels, None without a weak model: then nothing is smoothed.
        own: `[N]` the strong model's own labels, None where they are not known.
    """
    num, method = len(class_logits), method_options.applied(config, method_name)
    objective = objectives.make_objective(config, method)
    options = dict(objective.rule_options)
    selects = objective.label_rule == "selective" and method.mask_of is None and p_ik is not None
    # Questions that were asked later have no columns but these.
    selects = selects and set(label_rules.reads("selective", options)) <= _COLUMNS
    rule = label_rules.get("selective", **options) if selects else label_rules.get("given")
    unknown = np.full(num, 0.5, np.float32)
    p_ik = unknown if p_ik is None else p_ik
    targets, ik_mask, smoothed = _label_batches(
        rule,
        {
            "class_logits": class_logits,
            "p_ik": p_ik,
            "embeddings": embeddings,
            "columns": {
                "weak_probs": np.stack([unknown, unknown], axis=-1) if weak_probs is None else weak_probs,
                "self_labels": unknown if own is None else own,
                "given_p_ik": p_ik,
            },
        },
        batch_size=config.training.batch_size,
        graph={key: value for key, value in config.graph.items() if key != "over"},
    )
    if selects and options["refiner"] == "graph":
        smoothed = np.where(ik_mask, smoothed, targets)  # the same number, whichever program rounded it
    none = [None] * num
    knows_prior = not selects or own is not None or options["self_label"] == "class_head"
    smoothed = smoothed.tolist() if weak_probs is not None and knows_prior else none
    if not selects:
        return Choice(smoothed, none, none)
    other = None if weak_probs is None else _REFINED.get(options["refiner"], options["refiner"])
    used = ["self" if is_known else other for is_known in ik_mask]
    if not knows_prior:
        return Choice(smoothed, used, none)
    target = [value if name else None for value, name in zip(targets.tolist(), used, strict=True)]
    return Choice(smoothed, used, target)


def _label_batches(
    rule: label_rules.LabelRule, inputs: dict[str, Any], *, batch_size: int, graph: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, IK masks and smoothed prior labels `[N]`, of class 1, batch by batch.

    Args:
        inputs: fields of `label_rules.RuleInputs`, `[N, ...]`.
    """
    label = _make_label(rule, graph)
    num = len(inputs["p_ik"])
    parts = []
    for start in range(0, num, batch_size):
        batch = jax.tree.map(lambda array, i=start: _pad(array[i : i + batch_size], batch_size), inputs)
        mask = start + np.arange(batch_size) < num
        arrays = label(label_rules.RuleInputs(**batch, example_mask=mask, step_fraction=np.float32(1)))
        parts.append([np.asarray(array)[mask] for array in arrays])
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _make_label(rule: label_rules.LabelRule, graph: dict[str, Any]) -> Callable:
    @jax.jit
    def label(batch: label_rules.RuleInputs):
        labels = rule(batch)
        smoothed, _ = graph_smoothing.smooth_labels(
            batch.embeddings, labels.prior, example_mask=batch.example_mask, **graph
        )
        return labels.targets[:, 1], labels.ik_mask, smoothed[:, 1]

    return label


def _pad(array: np.ndarray, length: int) -> jax.Array:
    return jnp.pad(array, [(0, length - len(array)), *[(0, 0)] * (array.ndim - 1)])
