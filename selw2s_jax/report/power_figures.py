"""The picture of what a run could have seen."""

import itertools
import textwrap
from collections.abc import Mapping

import numpy as np

from selw2s_jax.analysis import plotting, power

_STYLES = (
    (plotting.ORANGE, ":"), (plotting.GREEN, "--"), (plotting.PURPLE, "-."), (plotting.VERMILION, ":"),
    (plotting.SKY_BLUE, "--"),
)  # fmt: skip
_OWN = (plotting.BLUE, "-")  # of the run's own number of seeds
_NUM_POINTS = 25
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # of the axis of gains, in points


def draw_detectable(
    pairs: Mapping[str, tuple[power.Components, list[int]]], *, test: power.Test, title: str
) -> plotting.Picture:
    """The least gain that is found with `test.power` against the number of test items, a line per number of seeds.

    Args:
        pairs: by name, each with its components and the numbers of seeds.
        test: that the power is of.
    """
    num_columns = min(len(pairs), 2)
    num_rows = -(-len(pairs) // num_columns)
    with plotting.default_style():
        figure = plotting.figure(width=1.5 + 4.3 * num_columns, height=1.4 + 3.1 * num_rows)
        figure.suptitle(textwrap.fill(title, 45 * num_columns), fontsize=13)
        grid = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True)
        counts = sorted(
            {seeds for found, listed in pairs.values() for seeds in listed if seeds != found.num_seeds}
        )
        styles = dict(zip(counts, itertools.cycle(_STYLES), strict=False))
        for axes, (name, (found, listed)) in itertools.zip_longest(
            grid.flat, pairs.items(), fillvalue=(None, (None, None))
        ):
            if name is None:
                axes.set_axis_off()
                continue
            _draw_panel(axes, found, listed, styles, test)
            axes.set_title(textwrap.fill(name, 44), fontsize=10, loc="left")
        low, high = grid[0, 0].get_ylim()  # all panels share the axis
        low, high = max(low, _TICKS[0]), min(high, _TICKS[-1])
        grid[0, 0].set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        grid[0, 0].set_yticks([], minor=True)
        grid[0, 0].set_ylim(low, high)
        for row in grid:
            row[0].set_ylabel("gain in points")
        handles = {}
        for axes in grid.flat:
            lines, texts = axes.get_legend_handles_labels()
            handles |= dict(zip(texts, lines, strict=True))
        figure.legend(
            handles.values(), handles, loc="outside lower center", ncols=3, frameon=False, handlelength=3
        )
        return plotting.Picture(figure)


def _draw_panel(axes: plotting.Axes, found: power.Components, listed, styles, test: power.Test) -> None:
    items = np.unique(
        np.geomspace(found.num_items / 10, found.num_items * 20, _NUM_POINTS).round().astype(int)
    )
    items = items[items > 1]
    for seeds in listed:
        is_own = seeds == found.num_seeds
        color, dash = _OWN if is_own else styles[seeds]
        gains = [power.detectable_gain(found, seeds=seeds, items=int(number), test=test) for number in items]
        heights = [np.nan if gain is None else 100 * gain for gain in gains]
        label = "1 seed" if seeds == 1 else f"{seeds} seeds"
        label += ", as in this run" if is_own else ""
        axes.plot(items, heights, color=color, linestyle=dash, linewidth=1.8 if is_own else 1.3, label=label)
    own = power.detectable_gain(found, test=test)
    if own is not None:
        axes.plot([found.num_items], [100 * own], color=_OWN[0], marker="o", markersize=8, linestyle="",
                  label="this run")  # fmt: skip
        number = axes.annotate(
            f"{100 * own:.2f}", (found.num_items, 100 * own), (7, 6), textcoords="offset points"
        )
        number.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("test items")
    axes.grid(which="both", alpha=0.2)
