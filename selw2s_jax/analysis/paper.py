"""The paper's numbers, to be shown as the paper's (Selective W2SG, arXiv 2511.14166)."""

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


# Tables 2 and 3 of Selective Weak-to-Strong Generalization: accuracy in per cent on SciQ, BoolQ, CosmosQA.
_PAPER_TASKS = ("sciq", "boolq", "cosmos_qa")


_PAPER_STRONG = "qwen-14b"


def paper_accuracy(task: str, weak: str, strong: str, method: str) -> float | None:
    """The paper's accuracy of this cell, or None where it has none."""
    if strong != _PAPER_STRONG or task not in _PAPER_TASKS:
        return None
    row = PAPER.get(weak, {}).get(method)
    return None if row is None else row[_PAPER_TASKS.index(task)] / 100
