"""What all pictures share: colours, and files that are a function of what is drawn alone."""

import contextlib
import functools
import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import metrics

# Of matplotlib, which is imported when something is drawn.
Axes = Any
Figure = Any
Dash = Any  # a name of a dash, or its lengths

# Okabe and Ito's colours, which people with colour blindness tell apart; orange and sky blue darker than theirs, so
# that every line has a contrast of 3 to 1 with white (WCAG 2.2, 1.4.11).
BLACK, GREY, ORANGE, SKY_BLUE = "#000000", "#6E6E6E", "#C27C00", "#2B93CF"
GREEN, BLUE, VERMILION, PURPLE = "#009E73", "#0072B2", "#D55E00", "#CC79A7"
# Shades beside them.
BROWN, OLIVE, TEAL, PLUM, MAROON = "#8C6D1F", "#5C7F00", "#00716B", "#8A4F7D", "#8F3B1B"
PAPER, GRID = "#FFFFFF", "#B0B0B0"  # behind the drawing, and its lines
# Of text on a coloured cell. Neither is of the colours above, which a page with dark paper changes.
ON_LIGHT, ON_DARK = "#111111", "#FEFEFE"


def default_style() -> contextlib.AbstractContextManager[None]:
    """Matplotlib's own settings, whatever a user's matplotlibrc holds, and names with a dollar sign as they are.

    Vector files have text as text: it can be searched for, copied and edited, and takes a tenth of the place of its
    outlines.
    """
    from matplotlib import style

    own = {
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "selw2s_jax",
        "pdf.fonttype": 42,  # publishers refuse the other kind
        # Verdana is as wide, on machines that have no DejaVu.
        "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
        "grid.color": GRID,
    }
    return style.context(["default", own])


def figure(*, width: float, height: float) -> Figure:
    """A figure of that many inches."""
    from matplotlib import figure as figure_lib

    return figure_lib.Figure(figsize=(width, height), dpi=130, layout="constrained")


class Picture:
    """What was drawn, as files without a date and the version of what drew it; each is made when it is asked for."""

    def __init__(self, drawn: Figure):
        self._figure = drawn
        self._is_laid_out = False

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points of print, of which a page has 4 pixels for 3."""
        width, height = self._figure.get_size_inches()
        return 72 * width, 72 * height

    @functools.cached_property
    def png(self) -> bytes:
        return self._save("png", Software=None)

    @functools.cached_property
    def pdf(self) -> bytes:
        return self._save("pdf", CreationDate=None, Creator=None, Producer=None)

    @functools.cached_property
    def svg(self) -> bytes:
        return self._save("svg", Date=None, Creator=None)

    def _save(self, form: str, **metadata: None) -> bytes:
        file = io.BytesIO()
        with default_style():
            if not self._is_laid_out:  # once, so that all files have the same layout
                self._figure.draw_without_rendering()
                self._figure.set_layout_engine("none")
                self._is_laid_out = True
            self._figure.savefig(file, format=form, metadata=metadata)
        return file.getvalue()


def draw_shares(axes: Axes, bins: Sequence[metrics.Bin], style: tuple[str, Dash]) -> None:
    """The share of each bin at its score, with its interval, as a line of that colour and dash."""
    color, dash = style
    heights = np.array([one.share for one in bins])
    bounds = np.array([one.interval for one in bins]).reshape(-1, 2)
    # Rounding can put a bound of an interval without width on the wrong side.
    reach = np.maximum([heights - bounds[:, 0], bounds[:, 1] - heights], 0)
    axes.errorbar(
        [one.score for one in bins],
        heights,
        yerr=reach,
        color=color,
        linestyle=dash,
        linewidth=1.3,
        elinewidth=0.7,
        marker="o",
        markersize=3.5,
    )


def draw_counts(axes: Axes, bins: Sequence[metrics.Bin], style: tuple[str, Dash]) -> None:
    """The number of rows in each bin, all of one width, as a line of that colour and dash."""
    color, dash = style
    if not bins:
        return
    num_bins = round(1 / (bins[0].high - bins[0].low))
    heights = np.zeros(num_bins)
    heights[[round(one.low * num_bins) for one in bins]] = [one.count for one in bins]
    axes.stairs(heights, np.linspace(0, 1, num_bins + 1), color=color, linestyle=dash, linewidth=1.2)


def add_legend(figure: Figure, styles: Mapping[str, tuple[str, Dash]]) -> None:
    """Names of lines below a figure, each with its colour and dash."""
    from matplotlib import lines

    handles = [
        lines.Line2D([], [], color=color, linestyle=dash, linewidth=1.6, label=textwrap.fill(name, 32))
        for name, (color, dash) in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, handlelength=3)
