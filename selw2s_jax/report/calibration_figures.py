"""Reliability of weak labels and P(IK) before and after calibration."""

import textwrap
from collections.abc import Mapping, Sequence

from selw2s_jax.analysis import metrics, plotting

_STYLES = {"before": (plotting.VERMILION, "--"), "after": (plotting.BLUE, "-")}


def draw_calibration(
    bins: Mapping[str, Mapping[str, Sequence[metrics.Bin]]], *, title: str
) -> plotting.Picture:
    """Share right against the score, with the number of rows below; a column for each kind of score.

    Args:
        bins: by kind of score, "before" and "after".
    """
    with plotting.default_style():
        figure = plotting.figure(width=1 + 4.2 * len(bins), height=5.6)
        figure.suptitle(textwrap.fill(title, 80), fontsize=13)
        grid = figure.subplots(2, len(bins), squeeze=False, sharex=True, height_ratios=(3, 1))
        for (shares, counts), (kind, by_time) in zip(grid.T, bins.items(), strict=True):
            shares.plot([0, 1], [0, 1], color=plotting.GREY, linewidth=1)
            for when, style in _STYLES.items():
                plotting.draw_shares(shares, by_time[when], style)
                plotting.draw_counts(counts, by_time[when], style)
            shares.set_ylim(-0.02, 1.02)
            shares.grid(alpha=0.25)
            counts.set_ylim(bottom=0)
            counts.set_xlim(0, 1)
            counts.set_xlabel(kind)
        grid[0, 0].set_ylabel("right")
        grid[1, 0].set_ylabel("rows")
        styles = {f"{when} calibration": style for when, style in _STYLES.items()}
        plotting.add_legend(figure, styles | {"as it should be": (plotting.GREY, "-")})
        return plotting.Picture(figure)
