"""What all pictures share: colours, and PNG files that are a function of what is drawn alone."""

import contextlib
import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import metrics

# Of matplotlib, which is imported when something is drawn.
Axes = Any
Figure = Any

# Okabe and Ito's colours, which people with colour blindness tell apart.
BLACK, GREY, ORANGE, SKY_BLUE = "#000000", "#6E6E6E", "#E69F00", "#56B4E9"
GREEN, BLUE, VERMILION, PURPLE = "#009E73", "#0072B2", "#D55E00", "#CC79A7"


def default_style() -> contextlib.AbstractContextManager[None]:
    """Matplotlib's own settings, whatever a user's matplotlibrc holds, and names with a dollar sign as they are."""
    from matplotlib import style

    return style.context(["default", {"text.parse_math": False}])


def figure(*, width: float, height: float) -> Figure:
    """A figure of that many inches."""
    from matplotlib import figure as figure_lib

    return figure_lib.Figure(figsize=(width, height), dpi=130, layout="constrained")


def to_png(drawn: Figure) -> bytes:
    """A figure as PNG, without the date and the version of what drew it."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def draw_shares(axes: Axes, bins: Sequence[metrics.Bin], style: tuple[str, str]) -> None:
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


def draw_counts(axes: Axes, bins: Sequence[metrics.Bin], style: tuple[str, str]) -> None:
    """The number of rows in each bin, all of one width, as a line of that colour and dash."""
    color, dash = style
    if not bins:
        return
    num_bins = round(1 / (bins[0].high - bins[0].low))
    heights = np.zeros(num_bins)
    heights[[round(one.low * num_bins) for one in bins]] = [one.count for one in bins]
    axes.stairs(heights, np.linspace(0, 1, num_bins + 1), color=color, linestyle=dash, linewidth=1.2)


def add_legend(figure: Figure, styles: Mapping[str, tuple[str, str]]) -> None:
    """Names of lines below a figure, each with its colour and dash."""
    from matplotlib import lines

    handles = [
        lines.Line2D([], [], color=color, linestyle=dash, linewidth=1.6, label=textwrap.fill(name, 32))
        for name, (color, dash) in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, handlelength=3)
