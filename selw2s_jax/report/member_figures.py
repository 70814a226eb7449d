"""The weights of several weak models over the steps of training."""

import textwrap
from collections.abc import Mapping, Sequence

from selw2s_jax.analysis import plotting

_COLORS = (
    plotting.BLUE, plotting.VERMILION, plotting.GREEN, plotting.ORANGE, plotting.SKY_BLUE, plotting.PURPLE,
    plotting.BLACK,
)  # fmt: skip
_DASHES = ("-", "--", ":")

_LEAST_ROOM = 0.01  # above and below the curves

Curves = Sequence[Sequence[tuple[Sequence[float], Sequence[float]]]]


def draw_weights(weights: Mapping[str, Curves], *, title: str, names: Sequence[str]) -> plotting.Picture:
    """A column for each method: the weight of each weak model, a line a seed, and what equal ones would have.

    Args:
        weights: by method, of each weak model for each seed steps and weights.
        names: of the weak models, for the legend.
    """
    with plotting.default_style():
        figure = plotting.figure(width=4 + 4.2 * len(weights), height=3.8)
        figure.suptitle(textwrap.fill(title, 80), fontsize=13)
        (row,) = figure.subplots(1, len(weights), squeeze=False, sharey=True)
        styles = {}
        for axes, (method, of_members) in zip(row, weights.items(), strict=True):
            axes.axhline(1 / len(of_members), color=plotting.GREY, linewidth=1)
            for number, of_seeds in enumerate(of_members):
                dash = _DASHES[number // len(_COLORS) % len(_DASHES)]
                style = styles[names[number]] = (_COLORS[number % len(_COLORS)], dash)
                for steps, values in of_seeds:
                    axes.plot(steps, values, color=style[0], linestyle=style[1], linewidth=1.2, alpha=0.8)
            axes.set_title(method, fontsize=11, loc="left")
            axes.set_xlabel("step", fontsize=10)
            axes.grid(alpha=0.25)
        values = [
            value
            for of_members in weights.values()
            for curves in of_members
            for _, one in curves
            for value in one
        ]
        values += [1 / len(of_members) for of_members in weights.values()]
        low, high = min(values), max(values)
        room = max(0.1 * (high - low), _LEAST_ROOM)  # weights that hardly move are to look like it
        row[0].set_ylim(low - room, high + room)
        row[0].set_ylabel("weight")
        plotting.add_legend(figure, styles | {"equal weights": (plotting.GREY, "-")})
        return plotting.Picture(figure)
