"""Pictures: written whole, equal for equal results, different for different ones, nothing cut off."""

import matplotlib
import numpy as np
import pytest
from matplotlib import image

from selw2s_jax.run import figures
from selw2s_jax.runtime import storage

METHODS = (
    "weak", "ceiling", "finetune", "selective", "self_training", "random_selection", "confidence", "product",
    "adaptive", "reverse_kl", "jensen_shannon", "a_method_of_a_user_with_a_long_name",
)  # fmt: skip


def rows(accuracy: float = 0.7, methods=METHODS[:4]):
    return [
        {
            "method": name,
            "accuracy": accuracy,
            "accuracy_low": accuracy - 0.03,
            "accuracy_high": accuracy + 0.02,
        }
        for name in methods
    ]


def panel(known, unknown, auroc=0.75, interval=(0.7, 0.8), title="P(IK)"):
    low, high = interval or (None, None)
    return {
        "title": title, "known": np.asarray(known), "unknown": np.asarray(unknown),
        "auroc": auroc, "auroc_low": low, "auroc_high": high,
    }  # fmt: skip


RNG = np.random.default_rng(0)
PANEL = panel(RNG.beta(8, 2, 90), RNG.beta(4, 4, 31))


def draw(path, rows, panels=(), title="t", gamma=0.8) -> bytes:
    figures.draw_summary(path, title=title, rows=rows, p_ik_panels=panels, gamma=gamma)
    return path.read_bytes()


def pixels(path) -> np.ndarray:
    """`[height, width]`, 0 black to 1 white."""
    return image.imread(path)[..., :3].mean(-1)


@pytest.mark.parametrize("panels", [(), (PANEL,)], ids=["accuracies alone", "with P(IK)"])
def test_summary_is_one_png_and_a_function_of_its_results(tmp_path, panels):
    first = draw(tmp_path / "a.png", rows(0.7), panels)
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    assert draw(tmp_path / "b.png", rows(0.7), panels) == first
    before = pixels(tmp_path / "a.png")
    draw(tmp_path / "a.png", rows(0.75), panels)  # in place of the old one
    assert (pixels(tmp_path / "a.png") != before).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("num_methods", "panels"),
    [
        (3, (PANEL,)),
        (12, (PANEL, PANEL, panel([0.5], [0.4], title="P(IK) of a_method_of_a_user_with_a_long_name, " * 2))),
        (12, ()),
        (6, (panel([], [], None, None), panel([0.1, 1.0], [], None, None), panel([0.1], [0.0], 1.0, None))),
    ],
    ids=["few methods", "long names, three panels", "no panel", "nothing known or unknown"],
)
def test_summary_of_any_size_has_an_empty_margin(tmp_path, num_methods, panels):
    draw(tmp_path / "a.png", rows(methods=METHODS[:num_methods]), panels)
    picture = pixels(tmp_path / "a.png")
    height, width = picture.shape
    assert width == (1430 if panels else 1040) and 590 <= height <= 800
    edges = (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:])
    assert all((edge == 1).all() for edge in edges)


def test_summary_of_references_in_any_order_and_intervals_without_width(tmp_path):
    same = {"accuracy": 0.1 + 0.2, "accuracy_low": 0.30000000000000010, "accuracy_high": 0.3}
    draw(tmp_path / "a.png", [{"method": name, **same} for name in ("ceiling", "weak")])
    draw(tmp_path / "b.png", [{"method": "weak", **same}])
    draw(tmp_path / "c.png", [{"method": "selective (frozen P(IK))", **same}])
    pictures = [pixels(tmp_path / f"{name}.png") for name in "abc"]
    assert all(picture.min() < 0.5 for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_pictures_do_not_depend_on_the_settings_of_the_user(tmp_path):
    plain = draw(tmp_path / "a.png", rows(), (PANEL,))
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 50}):
        assert draw(tmp_path / "a.png", rows(), (PANEL,)) == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_titles_may_hold_dollar_signs(tmp_path):
    assert draw(tmp_path / "a.png", rows(), title="$\\broken$") != draw(
        tmp_path / "a.png", rows(), title="$a$"
    )


def test_accuracy_by_frequency_is_a_function_of_its_counts(tmp_path):
    def draw_counts(correct):
        figures.draw_accuracy_by_frequency(
            tmp_path / "f.png", title="t", groups=("common", "rare"), series={"weak": (correct, (30, 31))}
        )
        return (tmp_path / "f.png").read_bytes()

    assert draw_counts((29, 15)) == draw_counts(np.array([29, 15])) != draw_counts((29, 16))


def test_accuracy_by_frequency_of_empty_groups_and_many_series(tmp_path):
    series = {f"method_{n}": (np.array([n, 0, 3]), np.array([20, 0, 3])) for n in range(10)}
    series["of other questions"] = ([0, 1, 2], [4, 4, 4])
    groups = ("common", "rare", "never")
    figures.draw_accuracy_by_frequency(tmp_path / "f.png", title="t", groups=groups, series=series)
    picture = pixels(tmp_path / "f.png")
    assert all((edge == 1).all() for edge in (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]))


def test_a_failure_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(KeyError):
        draw(path, [{"method": "weak"}])

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(storage.os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        draw(path, rows())
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and path.read_bytes() == b"old"
