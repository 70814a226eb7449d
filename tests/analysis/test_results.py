"""results.json, the table and progress lines on worked numbers."""

import io
import math
import re

import pytest

from selw2s_jax.analysis import metrics, paper, results
from selw2s_jax.runtime import progress

CORRECT = {"weak": 647, "ceiling": 934, "finetune": 779, "selective": 833}


def records(seed: int = 0, weak: str = "gpt2", strong: str = "qwen-14b", task: str = "sciq", **correct):
    return results.make_records(
        task=task, weak=weak, strong=strong, seed=seed, total=1000, correct=CORRECT | correct
    )


def test_records_of_one_seed():
    found = {record["method"]: record for record in records(seed=3)}
    low, high = metrics.wilson_interval(833, 1000)
    assert found["selective"] == {
        "task": "sciq",
        "method": "selective",
        "weak": "gpt2",
        "strong": "qwen-14b",
        "seed": 3,
        "n": 1000,
        "correct": 833,
        "accuracy": 0.833,
        "accuracy_low": low,
        "accuracy_high": high,
        "pgr": pytest.approx((833 - 647) / (934 - 647)),
        "pgr_reason": None,
    }
    assert list(found) == list(CORRECT)
    for name in ("weak", "ceiling"):
        assert found[name]["pgr"] is None and "reference" in found[name]["pgr_reason"]


def test_records_have_the_auroc_where_probabilities_are_known():
    areas = dict.fromkeys(CORRECT, 0.75) | {"weak": None}
    named = {"task": "sciq", "weak": "gpt2", "strong": "qwen-14b", "seed": 0, "total": 1000}
    found = results.make_records(**named, correct=CORRECT, aurocs=areas)
    assert {record["method"]: record.pop("auroc") for record in found} == areas
    assert found == records()


@pytest.mark.parametrize("ceiling", [647, 500])
def test_pgr_without_a_gap_is_null_with_its_reason(ceiling):
    found = {record["method"]: record for record in records(ceiling=ceiling)}
    for name in ("finetune", "selective"):
        assert found[name]["pgr"] is None
        assert found[name]["pgr_reason"] == "undefined: the ceiling is not above the weak model"


def test_summary_of_one_seed_has_the_interval_over_items():
    rows = {row["method"]: row for row in results.summarize(records())}
    assert list(rows) == list(CORRECT)
    row = rows["finetune"]
    assert (row["num_seeds"], row["n"], row["accuracy"]) == (1, 1000, 0.779)
    assert row["pgr"] == pytest.approx((779 - 647) / (934 - 647))
    assert (row["accuracy_low"], row["accuracy_high"]) == metrics.wilson_interval(779, 1000)


def test_summary_of_several_seeds_adds_the_spread_over_seeds_to_that_over_items():
    several = records(0) + records(1, selective=843) + records(2, selective=853, ceiling=600)
    row = next(row for row in results.summarize(several) if row["method"] == "selective")
    assert row["num_seeds"] == 3
    assert row["accuracy"] == pytest.approx(0.843)
    over_seeds = 4.302653 * 0.01 / 3**0.5
    low, high = metrics.wilson_interval(843, 1000)
    assert row["accuracy_low"] == pytest.approx(0.843 - math.hypot(over_seeds, 0.843 - low))
    assert row["accuracy_high"] == pytest.approx(0.843 + math.hypot(over_seeds, high - 0.843))
    # Of the mean accuracies: the seed without a gap counts too.
    assert row["pgr"] == pytest.approx((843 - 647) / ((934 + 934 + 600) / 3 - 647))
    assert row["pgr_reason"] is None


def test_seeds_of_other_test_items_have_no_summary():
    several = records(0) + [record | {"n": 999} for record in records(1)]
    with pytest.raises(ValueError, match="seeds of weak are tested on different numbers of items: 1000, 999"):
        results.summarize(several)


def test_equal_seeds_still_have_the_error_of_the_items():
    interval = metrics.accuracy_interval([647, 647, 647], 1000)
    assert interval == pytest.approx(metrics.wilson_interval(647, 1000))


def table(some, majority: float = 0.5, with_paper: bool = True) -> str:
    of_paper = (some[0]["weak"], some[0]["strong"]) if with_paper else None
    return results.format_table(some, results.summarize(some, of_paper=of_paper), majority)


def cells(text: str) -> dict[str, list[str]]:
    """Cells of the header and of each of the four methods' lines, by their first cell."""
    rows = [re.split(r" {2,}", line) for line in text.splitlines()[1:6]]
    return {row[0]: row[1:] for row in rows}


def test_table_of_a_pair_of_the_paper():
    text = table(records(), 0.5)
    assert text.splitlines()[0] == "sciq: gpt2 teaches qwen-14b (accuracy in per cent)"
    assert cells(text) == {
        "method": ["accuracy", "95 % interval", "n", "seeds", "PGR", "paper's accuracy"],
        "weak": ["64.70", "61.69 to 67.60", "1000", "1", "-", "64.70"],
        "ceiling": ["93.40", "91.69 to 94.78", "1000", "1", "-", "93.40"],
        "finetune": ["77.90", "75.22 to 80.36", "1000", "1", "0.460", "77.90"],
        "selective": ["83.30", "80.86 to 85.48", "1000", "1", "0.648", "83.30"],
    }
    assert text.splitlines()[-1] == "majority class: 50.00"
    assert all(line == line.rstrip() for line in text.splitlines())


def test_table_of_another_pair_has_no_paper_column():
    for other in (
        {"strong": "gpt2-xl"},
        {"weak": "gpt2-medium"},
        {"task": "arc"},
        {"strong": "/models/qwen-14b"},
    ):
        assert "paper" not in table(records(**other), 0.5)


def test_table_of_other_data_than_the_papers_has_no_paper_column():
    assert "paper" not in table(records(), with_paper=False)


def test_table_says_why_pgr_is_undefined():
    text = table(records(ceiling=600), 0.625)
    assert cells(text)["selective"][-2:] == ["undefined", "83.30"]
    assert text.splitlines()[-2:] == [
        "majority class: 62.50",
        "PGR undefined: the ceiling is not above the weak model",
    ]


def test_table_keeps_intervals_within_accuracies():
    """Student's t over two seeds that differ much would leave [0, 1]."""
    text = table(records(0, selective=990) + records(1, selective=500), 0.5)
    assert cells(text)["selective"][1] == "0.00 to 100.00"


def test_diagnostics_are_a_line_per_student_with_dashes_for_nothing():
    late = {"ik_rate": 0.0, "self_accuracy_on_ik": None, "weak_accuracy_on_ik": None, "p_ik_auroc": 0.75}
    late |= {"weak_accuracy": 0.7, "prior_accuracy": 0.7, "target_accuracy": 0.713}
    entries = [{"method": "selective", "seed": seed, "second_half": late} for seed in (0, 1)]
    header, first, second = (
        re.split(r" {2,}", line) for line in results.format_diagnostics(entries).splitlines()
    )
    assert len(header) == len(first)
    assert first == ["selective", "0", "0.00", "-", "-", "70.00", "70.00", "71.30", "0.750"]
    assert second == ["selective", "1", *first[2:]]


@pytest.mark.parametrize(
    ("cell", "accuracy"),
    [
        (("sciq", "gpt2", "selective"), 83.30),
        (("boolq", "gpt2", "product"), 61.02),
        (("cosmos_qa", "gpt2", "reverse_kl"), 74.10),
        (("boolq", "qwen-1.8b", "jensen_shannon"), 83.33),
        (("cosmos_qa", "qwen-1.8b", "adaptive"), 80.13),
        (("sciq", "qwen-1.8b", "ceiling"), 93.40),
        (("arc", "gpt2", "selective"), None),
        (("sciq", "gpt2-xl", "selective"), None),
        (("sciq", "gpt2", "random_mask"), None),
    ],
)
def test_paper_accuracy(cell, accuracy):
    task, weak, method = cell
    expected = None if accuracy is None else pytest.approx(accuracy / 100)
    assert paper.paper_accuracy(task, weak, "qwen-14b", method) == expected
    assert paper.paper_accuracy(task, weak, "qwen-7b", method) is None


def test_the_papers_rows_are_whole():
    for rows in paper.PAPER.values():
        assert set(rows) >= {"weak", "ceiling", "finetune", "confidence", "selective"}
        for row in rows.values():
            assert len(row) == 3 and all(60 < value < 95 for value in row)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_tracked_items_come_through_in_order(monkeypatch, terminal):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    assert list(progress.track(iter(range(4)), total=4, label="weak", unit="steps")) == [0, 1, 2, 3]
    assert ("weak" in stream.getvalue()) == terminal  # quick work prints no plain line


def test_plain_progress_lines_tell_done_total_and_time_left(monkeypatch):
    stream, clock = io.StringIO(), iter([0.0, 99.0, 119.0, 139.0, 159.0])
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    tracked = progress.track("abcd", total=4, label="weak", unit="steps", status=lambda: "loss 0.7")
    assert list(tracked) == list("abcd")
    # The first item, which compiles, took 99 s and does not count.
    assert (
        stream.getvalue()
        == "weak: 2/4 steps, loss 0.7, about 40 s left\nweak: 3/4 steps, loss 0.7, about 20 s left\n"
    )


def test_right_answers_by_frequency():
    """Items by rank, whatever their order; of seven two go to each of the first fifths."""
    ranks = [6, 0, 5, 1, 4, 2, 3]
    seeds = [[0, 1, 0, 1, 0, 1, 0], [1, 1, 0, 0, 0, 1, 0]]
    found = results.by_frequency(ranks, {"finetune": [[bool(one) for one in right] for right in seeds]})
    assert found == {"n": [2, 2, 1, 1, 1], "correct": {"finetune": [1.5, 1.0, 0.0, 0.0, 0.5]}}
    few = results.by_frequency([0, 1], {"finetune": [[True, False]]})
    assert results.format_by_frequency(few).splitlines()[-1].split() == [
        "finetune",
        "100.00",
        "0.00",
        *["-"] * 3,
    ]
