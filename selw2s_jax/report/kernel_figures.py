"""Predicted against realised gaps over pairs of models."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from selw2s_jax.analysis import plotting
from selw2s_jax.report import kernel_numbers

_COLORS = (
    plotting.BLUE,
    plotting.VERMILION,
    plotting.GREEN,
    plotting.ORANGE,
    plotting.PURPLE,
    plotting.SKY_BLUE,
    plotting.BLACK,
)
_MARKS = "osD^vP*X"


def draw_gaps(
    pairs: Sequence[Mapping[str, Any]],
    seeds: Sequence[Mapping[str, Any]],
    ranks: Sequence[Mapping[str, Any]],
    *,
    title: str,
) -> plotting.Picture:
    """The realised gap against each predictor.

    Args:
        pairs, seeds: rows of `kernel_numbers.pair_row` and `seed_rows`; what is not finished is left out.
        ranks: of `kernel_numbers.rank_rows`.
    """
    models = {role: list(dict.fromkeys(row[role] for row in pairs)) for role in ("weak", "strong")}
    # A weak model is a colour and a strong one a mark, so that pairs which share one look alike.
    color = dict(zip(models["weak"], itertools.cycle(_COLORS)))
    mark = dict(zip(models["strong"], itertools.cycle(_MARKS)))
    with plotting.default_style():
        figure = plotting.figure(width=12, height=4.2 + 0.2 * len(pairs) / 2)
        figure.suptitle(textwrap.fill(title, 90), fontsize=13)
        panels = figure.subplots(1, len(kernel_numbers.PREDICTORS), sharey=True)
        for axes, (name, heading), rank in zip(panels, kernel_numbers.PREDICTORS.items(), ranks, strict=True):
            for rows, size, alpha in ((seeds, 14, 0.45), (pairs, 70, 1.0)):
                for row in rows:
                    if row[kernel_numbers.REALISED] is not None:
                        style = {"color": color[row["weak"]], "marker": mark[row["strong"]]}
                        axes.scatter(
                            row[name],
                            row[kernel_numbers.REALISED],
                            s=size,
                            alpha=alpha,
                            linewidths=0,
                            **style,
                        )
            rho = "fewer than three pairs" if rank["rho"] is None else f"rho = {rank['rho']:.2f}"
            axes.set_title(rho, fontsize=11)
            axes.set_xlabel(heading)
            axes.grid(alpha=0.25)
            axes.margins(0.12)
            axes.locator_params(axis="x", nbins=5)
        panels[0].set_ylabel("realised gap on the test set")
        _add_legend(figure, pairs, color, mark)
        return plotting.Picture(figure)


def _add_legend(figure, pairs, color, mark) -> None:
    from matplotlib import lines

    handles = [
        lines.Line2D(
            [],
            [],
            linestyle="",
            color=color[row["weak"]],
            marker=mark[row["strong"]],
            markersize=7,
            label=textwrap.fill(f"{row['weak']} teaches {row['strong']}", 50),
        )
        for row in pairs
        if row[kernel_numbers.REALISED] is not None
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
