"""The picture of curves over training."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import plotting

PANELS = {
    "accuracy": "right, on the test set",
    "agreement": "as the weak model, on the test set",
    "agreement_weak_right": "as the weak model, where that is right",
    "agreement_weak_wrong": "as the weak model, where that is wrong",
    "trained": "as the weak label, on rows trained on",
    "held_out": "as the weak label, on rows held out",
}
_MAX_BANDS = 6  # more hide each other


def draw_curves(
    means: Mapping[str, Sequence[Mapping[str, Any]]],
    seeds: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    *,
    levels: Mapping[str, float],
    stopped: Mapping[str, float],
    title: str,
    styles: Mapping[str, tuple[str, plotting.Dash]],
) -> plotting.Picture:
    """Shares of answers by step, a panel for each kind that there is of `PANELS`.

    Args:
        means: by method, of `curve_numbers.step_rows`.
        seeds: by method, of `curve_numbers.seed_curves`.
        levels: of accuracy, fractions by name of the model: horizontal lines.
        stopped: by method, the mean step at which held-out weak labels stop it.
        styles: by method and by the names of `levels`, a colour and a dash.
    """
    panels = [
        name for name in PANELS if any(row[name] is not None for rows in means.values() for row in rows)
    ]
    with plotting.default_style():
        num_rows = -(-len(panels) // 2)
        figure = plotting.figure(width=10, height=1.6 + 2.9 * num_rows)
        figure.suptitle(textwrap.fill(title, 90), fontsize=13)
        grid = figure.subplots(num_rows, 2, squeeze=False, sharex=True)
        for axes, name in itertools.zip_longest(grid.flat, panels):
            if name is None:
                axes.set_axis_off()
                continue
            for method, rows in means.items():
                _draw_method(
                    axes, name, rows, seeds[method], styles[method], with_band=len(means) <= _MAX_BANDS
                )
            axes.set_title(PANELS[name], fontsize=11, loc="left")
            axes.set_ylabel("per cent", fontsize=10)
            axes.set_xlabel("step", fontsize=10)
            axes.tick_params(labelbottom=True)
            axes.grid(alpha=0.25)
        for model, level in levels.items():
            color, dash = styles[model]
            grid[0, 0].axhline(100 * level, color=color, linestyle=dash, linewidth=1.4)
        for method, step in stopped.items():
            _mark(grid[0, 0], means[method], step, styles[method][0])
        plotting.add_legend(figure, {name: styles[name] for name in (*levels, *means)})
        return plotting.Picture(figure)


def _draw_method(
    axes: plotting.Axes,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    seeds: Sequence[Sequence[Mapping[str, Any]]],
    style: tuple[str, plotting.Dash],
    *,
    with_band: bool,
) -> None:
    """Seeds thin, their mean thick, of the accuracy with its interval as a band."""
    color, dash = style
    for of_seed in seeds:
        _draw_line(axes, name, of_seed, color=color, linestyle=dash, linewidth=0.6, alpha=0.45)
    _draw_line(axes, name, rows, color=color, linestyle=dash, linewidth=1.8)
    if name == "accuracy" and with_band:
        low, high = 100 * np.array([row["accuracy_interval"] for row in rows]).T
        axes.fill_between([row["step"] for row in rows], low, high, color=color, alpha=0.08, linewidth=0)


def _draw_line(axes: plotting.Axes, name: str, rows: Sequence[Mapping[str, Any]], **style: Any) -> None:
    there = [row for row in rows if row[name] is not None]
    axes.plot([row["step"] for row in there], [100 * row[name] for row in there], **style)


def _mark(axes: plotting.Axes, rows: Sequence[Mapping[str, Any]], step: float, color: str) -> None:
    """A point on the mean curve at a mean step."""
    height = np.interp(step, [row["step"] for row in rows], [100 * row["accuracy"] for row in rows])
    axes.plot([step], [height], color=color, marker="v", markersize=8, markeredgecolor="white")
