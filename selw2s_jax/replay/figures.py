"""The pictures of a replay, as PNG bytes. Equal inputs give equal bytes."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import plotting
from selw2s_jax.replay import settings

_LINES = {
    "right_before": ("before smoothing", (plotting.BLUE, "-")),
    "right": ("after smoothing", (plotting.GREEN, "--")),
    "right_at_random": ("as many random rows, expected", (plotting.ORANGE, "-.")),
}
_OWN = "the run's own"
_MOST_PANELS = 8  # methods of a picture
_IN_A_ROW = 4


def draw_all(rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """A picture for each setting that has several values, by its name.

    Args:
        rows: means over seeds, of `results.Found`.
    """
    return {
        axis: draw(series, axis=axis) for axis in settings.AXES if (series := _series(rows, axis)) is not None
    }


def _series(rows: Sequence[Mapping[str, Any]], axis: str) -> dict[str, list[Mapping[str, Any]]] | None:
    """By method, its rows along an axis, all else as in the run; None where nothing varies."""
    series: dict[str, list[Mapping[str, Any]]] = {}
    own = {(row["run"], row["method"]): row for row in rows if row["is_own"]}
    several = len({run for run, _ in own}) > 1
    for row in rows:
        origin = own[row["run"], row["method"]]
        if all(row[other] == origin[other] for other in settings.AXES if other != axis):
            name = f"{row['run']}: {row['method']}" if several else row["method"]
            series.setdefault(name, []).append(row)
    varied = {
        name: sorted(of_one, key=lambda row: row[axis]) for name, of_one in series.items() if len(of_one) > 1
    }
    return varied or None


def draw(series: Mapping[str, Sequence[Mapping[str, Any]]], *, axis: str) -> bytes:
    """How many labels are right and how many rows have the self label, along a setting.

    Args:
        series: rows by method; the first eight are drawn.
        axis: of `settings.AXES`.
    """
    names = list(series)[:_MOST_PANELS]
    num_columns = min(len(names), _IN_A_ROW)
    num_rows = -(-len(names) // num_columns)
    with plotting.default_style():
        figure = plotting.figure(width=max(2.9 * num_columns, 5) + 0.8, height=1.4 + 3.9 * num_rows)
        left_out = len(series) - len(names)
        more = f" ({left_out} more in the table)" if left_out else ""
        figure.suptitle(f"Training labels under other {settings.AXES[axis].heading}{more}", fontsize=13)
        grid = figure.subplots(
            2 * num_rows,
            num_columns,
            squeeze=False,
            sharex=True,
            sharey="row",
            height_ratios=(3, 1) * num_rows,
        )
        for place in range(num_rows * num_columns):
            row, column = divmod(place, num_columns)
            shares, counts = grid[2 * row, column], grid[2 * row + 1, column]
            if place >= len(names):
                shares.set_axis_off()
                counts.set_axis_off()
                continue
            _draw_panel(shares, counts, series[names[place]], axis)
            shares.set_title(textwrap.fill(names[place], 30), fontsize=11, loc="left")
            counts.set_xlabel(settings.AXES[axis].heading)
            if not column:
                shares.set_ylabel("labels right, per cent")
                counts.set_ylabel("self label,\nper cent")
        plotting.add_legend(figure, dict(_LINES.values()) | {_OWN: (plotting.BLACK, ":")})
        return plotting.Picture(figure).png


def _draw_panel(
    shares: plotting.Axes, counts: plotting.Axes, rows: Sequence[Mapping[str, Any]], axis: str
) -> None:
    places = [row[axis] for row in rows]
    for key, (_, (color, dash)) in _LINES.items():
        # Often smoothing changes no class: the first line is then seen on both sides of the second.
        width, alpha = (3.5, 0.5) if key == "right_before" else (1.6, 1.0)
        values = [100 * row[key] for row in rows]
        shares.plot(places, values, color=color, linestyle=dash, linewidth=width, alpha=alpha)
    bounds = 100 * np.array([[row["right_at_random_low"], row["right_at_random_high"]] for row in rows])
    shares.fill_between(places, *bounds.T, color=plotting.ORANGE, alpha=0.18, linewidth=0)
    counts.plot(places, [100 * row["chosen"] for row in rows], color=plotting.GREY, linewidth=1.6)
    for axes in (shares, counts):
        axes.axvline(
            next(row[axis] for row in rows if row["is_own"]),
            color=plotting.BLACK,
            linestyle=":",
            linewidth=1.2,
        )
        axes.grid(alpha=0.25)
        axes.tick_params(labelbottom=axes is counts)
    counts.set_ylim(-4, 104)
