"""The pictures of errors where the ceiling knows and the weak model does not."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import method_looks, plotting


def draw_known_errors(
    rows: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    thresholds: Sequence[float],
    threshold: float,
    title: str,
    styles: method_looks.Styles,
) -> plotting.Picture:
    """The lift of each model with its interval, and lift and score against the threshold.

    Args:
        rows: of `blind_spots_numbers.rows`.
        curves: of `blind_spots_numbers.curves`, at `thresholds`.
        threshold: that of the rows.
    """
    with plotting.default_style():
        figure = plotting.figure(width=11, height=max(5.2, 1.9 + 0.26 * len(rows)))
        figure.suptitle(textwrap.fill(title, 90), fontsize=13)
        panels = figure.subplot_mosaic([["forest", "lift"], ["forest", "score"]], width_ratios=(5, 4))
        _draw_lifts(panels["forest"], rows, styles)
        panels["forest"].set_xlabel(f"lift at T = {threshold:g}, with 95 % interval")
        for name in ("lift", "score"):
            axes = panels[name]
            for method, of_thresholds in curves.items():
                color, dash = styles[method]
                heights = [np.nan if one[name] is None else one[name] for one in of_thresholds]
                axes.plot(thresholds, heights, color=color, linestyle=dash, linewidth=1.4)
            axes.axvline(threshold, color=plotting.GREY, linewidth=0.8)
            axes.set_title(f"{name} by threshold T", fontsize=11, loc="left")
            axes.grid(alpha=0.25)
        panels["lift"].axhline(1, color=plotting.GREY, linewidth=0.8)
        shares = [one["share_of_area"] for one in next(iter(curves.values()))]
        panels["score"].fill_between(thresholds, shares, color=plotting.GREY, alpha=0.2, linewidth=0)
        panels["score"].set_title("score by T; grey: share of items", fontsize=11, loc="left")
        panels["score"].set_ylim(0, 1.02)
        panels["score"].set_xlabel("T")
        return plotting.Picture(figure)


def _draw_lifts(axes: plotting.Axes, rows: Sequence[Mapping[str, Any]], styles: method_looks.Styles) -> None:
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows, strict=True):
        if row["lift"] is None:
            axes.text(1, place, "no errors, or no such items", va="center", ha="center", color=plotting.GREY)
            continue
        color, dash = styles[row["method"]]
        if row["lift_interval"] is not None:
            axes.plot(row["lift_interval"], [place, place], color=color, linestyle=dash, linewidth=1.6)
        axes.plot([row["lift"]], [place], color=color, marker="o", markersize=6)
        axes.text(
            1.015, place, f"{row['lift']:.2f}", transform=axes.get_yaxis_transform(), va="center", fontsize=9
        )
    axes.axvline(1, color=plotting.GREY, linewidth=0.8)
    weak = next((row["lift"] for row in rows if row["method"] == "weak"), None)
    if weak is not None:
        axes.axvline(weak, color=plotting.BLACK, linestyle=":", linewidth=1.2)
    axes.set_yticks(places, [textwrap.fill(row["method"], 32) for row in rows], fontsize=9)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="x", alpha=0.25)


def draw_spots(
    points: Mapping[str, Sequence[tuple[float, float]]], *, title: str, styles: method_looks.Styles
) -> plotting.Picture:
    """The share of blind spots against how many times as large the strong model is, a line for each method.

    Args:
        points: by method, size ratio and share, in order.
    """
    with plotting.default_style():
        figure = plotting.figure(width=9, height=max(4.2, 1.2 + 0.22 * len(points)))
        axes = figure.add_subplot()
        axes.set_title(textwrap.fill(title, 80), fontsize=12)
        for method, of_method in points.items():
            color, dash = styles[method]
            ratios, shares = np.array(of_method).T
            label = textwrap.fill(method, 24)
            axes.plot(
                ratios, 100 * shares, color=color, linestyle=dash, marker="o", markersize=4, label=label
            )
        axes.set_xscale("log")
        shown = sorted({ratio for of_method in points.values() for ratio, _ in of_method})
        axes.set_xticks(shown, [f"{ratio:.3g}" for ratio in shown])
        axes.minorticks_off()  # whose labels are powers of ten
        axes.set_ylim(bottom=0)
        axes.set_xlabel("size of the strong model over that of the weak one, layers times width squared")
        axes.set_ylabel("blind spots, per cent of items")
        axes.grid(alpha=0.25)
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)
        return plotting.Picture(figure)
