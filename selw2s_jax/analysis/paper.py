"""The paper's numbers, to be shown as the paper's (Selective Weak-to-Strong Generalization, arXiv 2511.14166).

All of them, by table; whoever shows them says so with `PUBLISHED` or `WORKED_OUT`, and makes sure that the data and
settings beside them are the paper's. Methods have their names in `method.registry`. Of the models of the second paper,
Reliability-Aware Alignment, they are those of `paper_reliability`.
"""

from selw2s_jax.analysis import paper_reliability
from selw2s_jax.method import registry

PUBLISHED = "as published in arXiv 2511.14166, not measured here"
WORKED_OUT = "worked out from the accuracies published in arXiv 2511.14166, not measured here"

STRONG = "qwen-14b"  # the strong model of all tables here
P_IK_TASK = "arc"  # that P(IK) is trained on, where a table does not say otherwise

# Tables 2 and 3: test accuracy in per cent on these tasks, by weak model and method.
TASKS = ("sciq", "boolq", "cosmos_qa")
PAPER: dict[str, dict[str, tuple[float, float, float]]] = {
    "gpt2": {
        "weak": (64.70, 64.91, 67.17),
        "finetune": (77.90, 65.89, 71.99),
        "confidence": (82.20, 62.22, 73.37),
        "product": (81.60, 61.02, 73.40),
        "adaptive": (74.00, 62.83, 67.77),
        "reverse_kl": (78.50, 66.29, 74.10),
        "jensen_shannon": (80.00, 65.80, 71.96),
        "selective": (83.30, 68.64, 75.11),
        "ceiling": (93.40, 89.91, 89.72),
    },
    "qwen-1.8b": {
        "weak": (83.80, 78.92, 79.13),
        "finetune": (88.10, 80.85, 81.37),
        "confidence": (89.50, 82.53, 81.34),
        "product": (89.40, 82.47, 82.95),
        "adaptive": (89.60, 81.79, 80.13),
        "reverse_kl": (88.60, 82.62, 82.45),
        "jensen_shannon": (88.80, 83.33, 81.84),
        "selective": (90.60, 83.39, 83.85),
        # Table 4.
        "selective_without_ik": (89.86, 82.28, 81.36),
        "selective_without_gs": (90.23, 83.11, 83.12),
        "mtl": (89.98, 82.56, 82.27),
        "ceiling": (93.40, 89.91, 89.72),
    },
}

# Table 5: test accuracy as a fraction of `selective`, by weak model and task that P(IK) is trained on.
SELECTIVE_BY_P_IK_TASK: dict[tuple[str, str], dict[str, float]] = {
    ("qwen-1.8b", "cosmos_qa"): {"sciq": 0.9070, "boolq": 0.8320},
    ("qwen-1.8b", "winogrande"): {"sciq": 0.8980, "boolq": 0.8299},
}

# Table 6: AUROC of P(IK) trained alone, in distribution and trained on ARC, by task that it is tested on.
P_IK_AUROC: dict[str, tuple[float, float]] = {
    "sciq": (0.9214, 0.8934),
    "boolq": (0.8508, 0.7902),
    "cosmos_qa": (0.8801, 0.7992),
    "winogrande": (0.7343, 0.6355),
    "gsm8k": (0.6927, 0.4773),
}


def paper_accuracy(
    task: str, weak: str, strong: str, method: str, *, p_ik_task: str = P_IK_TASK
) -> float | None:
    """The paper's accuracy of this cell as a fraction, or None where it has none.

    Args:
        task, weak, strong, method: of Tables 2 to 4, or of the second paper's Tables 1 and 2.
        p_ik_task: that P(IK) is trained on; for another than the paper's own, Table 5.
    """
    if strong != STRONG:
        return paper_reliability.accuracy(task, weak, strong, method)
    if p_ik_task != P_IK_TASK and method in registry.METHODS and registry.METHODS[method].uses_p_ik:
        return SELECTIVE_BY_P_IK_TASK.get((weak, p_ik_task), {}).get(task) if method == "selective" else None
    row = PAPER.get(weak, {}).get(method)
    return None if row is None or task not in TASKS else row[TASKS.index(task)] / 100


def p_ik_auroc(train_task: str, test_task: str, strong: str, method: str) -> float | None:
    """The paper's AUROC of P(IK) (Table 6), or None where it has none."""
    if strong != STRONG or method != "p_ik_only" or test_task not in P_IK_AUROC:
        return None
    in_distribution, from_arc = P_IK_AUROC[test_task]
    if train_task == test_task:
        return in_distribution
    return from_arc if train_task == P_IK_TASK else None


def published(strong: str) -> str:
    """Where accuracies of `paper_accuracy` are from, by strong model."""
    return PUBLISHED if strong == STRONG else paper_reliability.PUBLISHED


def prints_pgr(strong: str) -> bool:
    """Whether these tables have PGR too."""
    return strong != STRONG


def worked_out(strong: str) -> str:
    """The same, of what is worked out from them."""
    return WORKED_OUT if strong == STRONG else paper_reliability.WORKED_OUT
