"""Pictures of results: whole, equal for equal results, different for different ones, nothing cut off."""

import io
import re

import matplotlib
import numpy as np
import pytest
from matplotlib import image

from selw2s_jax.analysis import method_looks, methods, plotting, result_figures

METHODS = (
    "weak", "ceiling", "finetune", "selective", "self_training", "random_selection", "confidence", "product",
    "adaptive", "reverse_kl", "jensen_shannon", "a_method_of_a_user_with_a_long_name",
)  # fmt: skip


def rows(accuracy: float = 0.7, names=METHODS[:4], pgr=0.4, pgr_interval=(0.1, 0.6)):
    return [
        {
            "method": name,
            "accuracy": accuracy,
            "accuracy_interval": (accuracy - 0.03, accuracy + 0.02),
            "pgr": None if name in ("weak", "ceiling") else pgr,
            "pgr_interval": pgr_interval,
        }
        for name in names
    ]


def draw(shown, title="t", chance=0.5) -> plotting.Picture:
    facts = {row["method"]: methods.facts(row["method"]) for row in shown}
    return result_figures.draw_results(shown, title=title, facts=facts, chance=chance)


def pixels(picture: plotting.Picture) -> np.ndarray:
    """`[height, width]`, 0 black to 1 white."""
    return image.imread(io.BytesIO(picture.png))[..., :3].mean(-1)


def has_a_margin(picture: plotting.Picture) -> bool:
    found = pixels(picture)
    return all((edge == 1).all() for edge in (found[:2], found[-2:], found[:, :2], found[:, -2:]))


def test_files_are_functions_of_the_results_and_of_no_setting_of_the_user():
    first = draw(rows())
    assert first.png.startswith(b"\x89PNG\r\n\x1a\n") and first.pdf.startswith(b"%PDF")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.fonttype": "path"}):
        again = draw(rows())
        assert (again.svg, again.pdf, again.png) == (first.svg, first.pdf, first.png)
    other = draw(rows(0.75))
    assert other.svg != first.svg and other.png != first.png
    # No date, no version of what drew it; text is text.
    assert b">selective</text>" in first.svg and b"Matplotlib" not in first.svg + first.pdf
    assert not re.search(rb"20\d\d-\d\d", first.svg) and b"CreationDate" not in first.pdf


@pytest.mark.parametrize(
    "shown",
    [
        rows(names=METHODS[:3], pgr=None),
        rows(names=METHODS, pgr=9.0, pgr_interval=None),
        rows(0.1 + 0.2, names=("ceiling", "weak")),
    ],
    ids=["undefined", "many, far out", "references alone"],
)
def test_results_of_any_size_have_an_empty_margin(shown):
    assert has_a_margin(draw(shown, chance=None))


def test_titles_may_hold_dollar_signs():
    assert b"$\\broken$" in draw(rows(), title="$\\broken$").svg


def test_methods_are_told_apart_by_role():
    """The subject from other methods, controls from both, and what all are compared with from everything."""
    names = ("selective", "confidence", "self_training", "finetune", "mtl", "weak", "p_ik_only")
    roles = [method_looks.role(name, methods.facts(name)) for name in names]
    assert len({method_looks.color(role) for role in roles}) == len(names)
    styles = method_looks.styles({name: methods.facts(name) for name in METHODS})
    assert all(
        styles[name][0] == method_looks.color(role) for name, role in zip(names[:4], roles, strict=False)
    )
    assert all(_contrast(color, plotting.PAPER) >= 3 for color, _ in styles.values())


def _contrast(first: str, second: str) -> float:
    """Of two colours, as WCAG 2.2 defines it."""
    dark, light = sorted(map(_luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    shares = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def draw_counts(correct, totals=(30, 31), groups=("common", "rare")) -> plotting.Picture:
    facts = {name: methods.facts(name) for name in correct}
    return result_figures.draw_by_frequency(
        title="t", groups=groups, correct=correct, totals=totals, facts=facts
    )


def test_accuracy_by_frequency_is_a_function_of_its_counts():
    first = draw_counts({"weak": (29, 15)}).svg
    assert draw_counts({"weak": np.array([29, 15])}).svg == first != draw_counts({"weak": (29, 16)}).svg


def test_accuracy_by_frequency_of_empty_groups_and_many_series():
    correct = {f"method_{n}": np.array([n, 0, 3]) for n in range(10)} | {methods.FEW_SHOT: [0, 0, 2]}
    assert has_a_margin(draw_counts(correct, (20, 0, 3), ("common", "rare", "never")))


def test_p_ik_of_any_number_of_tests_has_no_empty_panel():
    random = np.random.default_rng(0)
    seeds = [(random.beta(8, 2, 31), random.uniform(size=31) < 0.7)] * 2
    nothing_known = [(np.array([0.1, 1.0]), np.zeros(2, bool))]
    panels = {"in distribution": seeds, "trained on arc, " * 6: nothing_known, "third": seeds}
    for number in (1, 3):
        shown = dict(list(panels.items())[:number])
        picture = result_figures.draw_p_ik(shown, title="t", gamma=0.8)
        assert has_a_margin(picture) and picture.svg.count(b"AUROC") == number
