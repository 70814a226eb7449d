"""The second paper's numbers fit each other: PGRs their accuracies, bars their filter."""

import itertools

import pytest

from selw2s_jax.analysis import metrics, paper, paper_reliability

CELLS = [(pair, task) for pair in paper_reliability.ACCURACY for task in paper_reliability.TASKS]


@pytest.mark.parametrize(("pair", "task"), CELLS)
def test_printed_pgrs_are_those_of_printed_accuracies_within_rounding(pair, task):
    weak, ceiling = (paper_reliability.accuracy(task, *pair, name) for name in ("weak", "ceiling"))
    for method in paper_reliability.METHODS[1:-1]:
        printed = paper_reliability.pgr(task, *pair, method)
        if ceiling <= weak:
            assert printed is None
            continue
        shifts = itertools.product((-0.0005, 0.0005), repeat=3)
        accuracy = paper_reliability.accuracy(task, *pair, method)
        bounds = [
            metrics.performance_gap_recovered(weak + a, accuracy + b, ceiling + c) for a, b, c in shifts
        ]
        assert min(bounds) - 0.0005 <= printed <= max(bounds) + 0.0005, method


def test_cells_are_found_by_task_and_models():
    assert paper.paper_accuracy("mmlu", "llama-2-7b", "llama-2-13b", "entropy_filter") == 0.5
    assert paper.paper_accuracy("gsm8k", "mistral-7b-v0.1", "llama-3-8b", "reweighted") == 0.124
    assert paper_reliability.pgr("mmlu", "llama-2-7b", "llama-2-13b", "entropy_filter") == 0.913
    for cell in (
        ("sciq", "llama-2-7b", "llama-2-13b", "finetune"),
        ("mmlu", "llama-2-13b", "llama-2-7b", "finetune"),
        ("mmlu", "llama-2-7b", "llama-2-13b", "majority"),
    ):
        assert paper.paper_accuracy(*cell) is paper_reliability.pgr(*cell) is None
    assert paper_reliability.pgr("mmlu", "llama-2-7b", "llama-2-13b", "weak") is None
    assert "2406.19032" in paper.published("llama-3-8b") and "2511.14166" in paper.published("qwen-14b")


@pytest.mark.parametrize("task", paper_reliability.TASKS)
def test_bars_make_up_what_the_filter_keeps(task):
    tau, kept, before, after = paper_reliability.entropy_filter(task, "llama-2-7b")
    assert paper_reliability.entropy_filter(task, "mistral-7b-v0.1") is None
    bars = paper_reliability.bars(task, "llama-2-7b")
    assert sum(bar.share for bar in bars) == pytest.approx(1, abs=0.002)
    kept_bars = [bar for bar in bars if bar.entropy <= tau + 1e-3]
    assert sum(bar.share for bar in kept_bars) == pytest.approx(kept, abs=0.002)
    for chosen, expected in ((bars, before), (kept_bars, after)):
        right = sum(bar.share * bar.right for bar in chosen) / sum(bar.share for bar in chosen)
        assert right == pytest.approx(expected, abs=0.006)
    assert [bar.right for bar in bars] == sorted((bar.right for bar in bars), reverse=True)
    assert paper_reliability.bars(task, "mistral-7b-v0.1") == []
    assert paper_reliability.scores(task, "mistral-7b-v0.1") is None
    found = paper_reliability.scores(task, "llama-2-7b")
    assert min(found.agreeing) > found.others[1] >= found.others[0]
