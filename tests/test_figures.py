"""Pictures: written whole, equal for equal results, different for different ones."""

import numpy as np
import pytest

from selw2s_jax.analysis import figures


def rows(accuracy: float = 0.7):
    names = ("weak", "ceiling", "finetune", "selective", "self_training", "random_selection")
    return [
        {
            "method": name,
            "accuracy": accuracy,
            "accuracy_low": accuracy - 0.03,
            "accuracy_high": accuracy + 0.02,
        }
        for name in names
    ]


def panel(known, unknown, auroc=0.75, interval=(0.7, 0.8)):
    low, high = interval or (None, None)
    return {
        "title": "P(IK)", "known": np.asarray(known), "unknown": np.asarray(unknown),
        "auroc": auroc, "auroc_low": low, "auroc_high": high,
    }  # fmt: skip


RNG = np.random.default_rng(0)
PANELS = {
    "none": (),
    "one": (panel(RNG.beta(8, 2, 90), RNG.beta(4, 4, 31)),),
    "two, without unknown": (panel(RNG.random(9), RNG.random(7)), panel(RNG.random(5), [], None, None)),
    "an AUROC without interval": (panel([0.1, 0.9], [0.3], 0.5, None),),
}


@pytest.mark.parametrize("name", PANELS)
def test_summary_is_one_png_and_a_function_of_its_results(tmp_path, name):
    def draw(path, accuracy):
        figures.draw_summary(path, title="t", rows=rows(accuracy), p_ik_panels=PANELS[name], gamma=0.8)
        return path.read_bytes()

    first = draw(tmp_path / "a.png", 0.7)
    assert first.startswith(b"\x89PNG\r\n\x1a\n") and len(first) > 10_000
    assert draw(tmp_path / "b.png", 0.7) == first
    assert draw(tmp_path / "a.png", 0.75) != first  # in place of the old one
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_accuracy_by_frequency_is_a_function_of_its_counts(tmp_path):
    def draw(correct):
        figures.draw_accuracy_by_frequency(
            tmp_path / "f.png", title="t", groups=("common", "rare"), series={"weak": (correct, (30, 31))}
        )
        return (tmp_path / "f.png").read_bytes()

    assert draw((29, 15)) == draw((29, 15)) != draw((29, 16))


def test_a_failure_leaves_the_old_picture_and_nothing_else(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(KeyError):
        figures.draw_summary(path, title="t", rows=[{"method": "weak"}], p_ik_panels=(), gamma=0.8)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and path.read_bytes() == b"old"
