"""The picture of what gains are made of."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import plotting

# Parts of a bar: key of the share, sign, colour, hatch, name.
_ITEMS = (
    ("weak_wrong_gained", 1, plotting.GREEN, "", "weak wrong: corrected"),
    ("weak_right_gained", 1, plotting.SKY_BLUE, "//", "weak right: kept"),
    ("weak_wrong_lost", -1, plotting.ORANGE, "\\\\", "weak wrong: no longer corrected"),
    ("weak_right_lost", -1, plotting.VERMILION, "xx", "weak right: spoiled"),
)
_STEPS = (
    ("chance", plotting.ORANGE, "D", "control minus finetune"),
    ("own", plotting.BLUE, "o", "method less control"),
)
_SHIFT = 0.17


def draw(
    gains: Sequence[Mapping[str, Any]], splits: Mapping[str, Mapping[str, Any]], *, title: str
) -> plotting.Picture:
    """Gains over finetune, by what happened on which items, and by what a control has too.

    Args:
        gains: of `audit_numbers.gain_rows`, from top to bottom.
        splits: rows of `audit_numbers.chance_rows` by method, of those that have a control of their own.
    """
    with plotting.default_style():
        width, ratios, letters = (12, (3, 2), 100) if splits else (8.4, (1,), 80)
        figure = plotting.figure(width=width, height=2.3 + 0.42 * len(gains))
        figure.suptitle(textwrap.fill(f"What gains over finetune are made of: {title}", letters), fontsize=12)
        panels = figure.subplots(1, len(ratios), squeeze=False, sharey=True, width_ratios=ratios)[0]
        places = np.arange(len(gains))[::-1]
        _draw_items(panels[0], gains, places)
        panels[0].set_yticks(places, [textwrap.fill(row["method"], 32) for row in gains], fontsize=10)
        panels[0].set_ylim(-0.7, len(gains) - 0.3)
        if splits:
            _draw_steps(panels[1], gains, splits, places)
        for axes in panels:
            axes.axvline(0, color=plotting.BLACK, linewidth=0.8)
            axes.set_xlabel("points of test accuracy")
            axes.grid(axis="x", alpha=0.25)
        handles = _legend(bool(splits))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(panels) + 2, frameon=False)
        return plotting.Picture(figure)


def _draw_items(axes: plotting.Axes, gains: Sequence[Mapping[str, Any]], places: np.ndarray) -> None:
    ends = {1: np.zeros(len(gains)), -1: np.zeros(len(gains))}
    for key, sign, color, hatch, _ in _ITEMS:
        widths = sign * 100 * np.array([row[key] for row in gains])
        axes.barh(
            places,
            widths,
            left=ends[sign],
            height=0.6,
            color=color,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
        )
        ends[sign] = ends[sign] + widths
    axes.use_sticky_edges = False  # bars would end at the frame
    for place, row in zip(places, gains, strict=True):
        _draw_interval(axes, row, "gain", place, plotting.BLACK, "o")
    axes.set_title("by item, and the whole gain", fontsize=11, loc="left")


def _draw_steps(
    axes: plotting.Axes,
    gains: Sequence[Mapping[str, Any]],
    splits: Mapping[str, Mapping[str, Any]],
    places: np.ndarray,
) -> None:
    for place, row in zip(places, gains, strict=True):
        if (split := splits.get(row["method"])) is not None:
            for (key, color, marker, _), shift in zip(_STEPS, (_SHIFT, -_SHIFT), strict=True):
                _draw_interval(axes, split, key, place + shift, color, marker)
    axes.set_title("by chance, and by its own choice", fontsize=11, loc="left")


def _draw_interval(
    axes: plotting.Axes, row: Mapping[str, Any], key: str, place: float, color: str, marker: str
) -> None:
    from matplotlib import patheffects

    mean, (low, high) = 100 * row[key], (100 * bound for bound in row[f"{key}_interval"])
    # Rounding can put a bound of an interval without width on the wrong side.
    reach = [[max(mean - low, 0)], [max(high - mean, 0)]]
    drawn = axes.errorbar(
        mean, place, xerr=reach, fmt=marker, color=color, markersize=5, capsize=3, linewidth=1.3
    )
    # It lies on bars, of whatever colour, on paper that may be dark.
    halo = patheffects.withStroke(linewidth=3, foreground=plotting.PAPER)
    for artist in drawn.get_children():
        artist.set_path_effects([halo])


def _legend(with_steps: bool) -> list:
    from matplotlib import lines, patches

    handles = [
        patches.Patch(facecolor=color, hatch=hatch, edgecolor="white", label=name)
        for _, _, color, hatch, name in _ITEMS
    ]
    points = [(plotting.BLACK, "o", "whole gain, 95 % interval")]
    points += [(color, marker, name) for _, color, marker, name in _STEPS] if with_steps else []
    return handles + [
        lines.Line2D([], [], color=color, marker=marker, linewidth=1.3, label=name)
        for color, marker, name in points
    ]
