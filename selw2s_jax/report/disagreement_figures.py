"""The picture of self and weak labels by P(IK)."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import metrics, plotting

_LABELS = {"self": ("self label", (plotting.BLUE, "-")), "weak": ("weak label", (plotting.VERMILION, "--"))}
_PARTS = {"all": "all rows", "disagreeing": "where labels differ"}
_SHIFT = 0.012  # of P(IK), so that the intervals of the two labels do not hide each other


def draw_labels_by_p_ik(
    bins: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], *, title: str, gamma: float
) -> plotting.Picture:
    """How many self and weak labels are right by P(IK), with intervals and the number of rows below.

    Args:
        bins: by whose P(IK) it is, then by part of the rows: of `disagreement_numbers.pooled_bins`.
        gamma: above which the self label is taken.
    """
    with plotting.default_style():
        figure = plotting.figure(width=9, height=1.6 + 3.9 * len(bins))
        figure.suptitle(textwrap.fill(title, 80), fontsize=13)
        grid = figure.subplots(
            2 * len(bins), 2, squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1) * len(bins)
        )
        for row, (whose, by_part) in enumerate(bins.items()):
            for column, (part, name) in enumerate(_PARTS.items()):
                shares, counts = grid[2 * row, column], grid[2 * row + 1, column]
                _draw_panel(shares, counts, by_part[part])
                shares.set_title(textwrap.fill(f"P(IK) of {whose}: {name}", 48), fontsize=11, loc="left")
                for axes in (shares, counts):
                    axes.axvline(gamma, color=plotting.BLACK, linestyle=":", linewidth=1.2)
            grid[2 * row, 0].set_ylabel("labels right, per cent")
            grid[2 * row + 1, 0].set_ylabel("rows")
        for axes in grid[-1]:
            axes.set_xlabel("P(IK)")
        styles = dict(_LABELS.values())
        plotting.add_legend(figure, styles | {f"gamma = {gamma:g}": (plotting.BLACK, ":")})
        return plotting.Picture(figure)


def _draw_panel(shares: plotting.Axes, counts: plotting.Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    for side, (label, (_, style)) in zip((-1, 1), _LABELS.items(), strict=True):
        drawn = [
            metrics.Bin(
                one["low"],
                one["high"],
                one["n"],
                (one["low"] + one["high"]) / 2 + side * _SHIFT,
                one[f"{label}_right"],
            )
            for one in bins
            if one[f"{label}_right"] is not None
        ]
        plotting.draw_shares(shares, drawn, style)
    plotting.draw_counts(counts, drawn, (plotting.GREY, "-"))
    shares.axhline(0.5, color=plotting.GREY, linewidth=1)
    shares.set_ylim(-0.02, 1.02)
    shares.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
    shares.grid(alpha=0.25)
    counts.set_ylim(bottom=0)
    counts.set_xlim(0, 1)
