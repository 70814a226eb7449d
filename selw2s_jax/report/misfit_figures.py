"""The picture of gain against misfit."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import method_looks, plotting

_MARKERS = {"-": "o", "--": "s", "-.": "^", ":": "D"}  # by the dash of a method; of the others:
_OTHER_MARKER = "P"
_OF_PAIRS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")


def draw_gain(
    panels: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str, styles: method_looks.Styles
) -> plotting.Picture:
    """Gain against misfit, a point for each student, seed and pair, with the line on which the two are equal.

    Args:
        panels: by title, rows with `method`, `misfit`, `gain` and `pair`. Of several pairs a marker says which it is;
            hollow ones stand on the edge of the panel and lie beyond it.
        styles: of the methods, by which colour and, of one pair, the marker is.
    """
    pairs = list(dict.fromkeys(row["pair"] for rows in panels.values() for row in rows))
    methods = list(dict.fromkeys(row["method"] for rows in panels.values() for row in rows))
    of_pair = {pair: _OF_PAIRS[place % len(_OF_PAIRS)] for place, pair in enumerate(pairs)}

    def marker(row: Mapping[str, Any]) -> str:
        return (
            of_pair[row["pair"]] if len(pairs) > 1 else _MARKERS.get(styles[row["method"]][1], _OTHER_MARKER)
        )

    num_rows = -(-len(panels) // 2)
    with plotting.default_style():
        figure = plotting.figure(width=11, height=max(1.2 + 3.6 * num_rows, 1.2 + 0.24 * len(methods)))
        figure.suptitle(textwrap.fill(title, 56), fontsize=12)
        grid = figure.subplots(num_rows, 2, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, (name, rows) in zip(grid.flat, panels.items(), strict=False):
            limit = _limit(rows)
            for row in rows:
                place = min(row["misfit"], limit), float(np.clip(row["gain"], -limit, limit))
                is_cut = place != (row["misfit"], row["gain"])
                color = styles[row["method"]][0]
                fill = "none" if is_cut else color
                axes.plot(*place, color=color, marker=marker(row), mfc=fill, ms=5, alpha=0.75, clip_on=False)
            axes.axline((0, 0), slope=1, color=plotting.BLACK, linewidth=1, linestyle="--")
            axes.axhline(0, color=plotting.GREY, linewidth=0.8)
            axes.set_xlim(-0.04 * limit, limit)
            axes.set_ylim(-limit, limit)
            axes.set_title(textwrap.fill(name, 50), fontsize=11, loc="left")
            axes.set_xlabel("misfit, distance of student and weak model", fontsize=10)
            axes.set_ylabel("gain over the weak model", fontsize=10)
            axes.grid(alpha=0.25)
        _add_legend(figure, methods, styles, of_pair if len(pairs) > 1 else {})
        return plotting.Picture(figure)


def _limit(rows: Sequence[Mapping[str, Any]]) -> float:
    """Where both axes end: a few students that went far astray do not hide the others."""
    reach = [max(row["misfit"], abs(row["gain"])) for row in rows]
    return max(1.25 * float(np.quantile(reach, 0.95)), 1e-3)


def _add_legend(
    figure: plotting.Figure,
    methods: Sequence[str],
    styles: method_looks.Styles,
    of_pair: Mapping[str, str],
) -> None:
    from matplotlib import lines

    handles = [lines.Line2D([], [], color=plotting.BLACK, linestyle="--", label="gain = misfit")]
    for method in methods:
        color, dash = styles[method]
        label = textwrap.fill(method, 32)
        # Of several pairs the marker says which it is, and the method is its colour alone.
        look = (
            {"linestyle": "-"}
            if of_pair
            else {"marker": _MARKERS.get(dash, _OTHER_MARKER), "linestyle": "none"}
        )
        handles.append(lines.Line2D([], [], color=color, label=label, **look))
    for pair, marker in of_pair.items():
        label = textwrap.fill(pair, 24)
        handles.append(
            lines.Line2D([], [], color=plotting.GREY, marker=marker, linestyle="none", label=label)
        )
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9)
