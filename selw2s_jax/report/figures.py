"""Pictures of a report beside those that runs draw too (`analysis.result_figures`)."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import method_looks, plotting, result_figures

_LOSSES_OF_A_HEAD = ("train/loss_task", "train/loss_ik")
_CURVES = {
    "train/loss": "loss (all terms)",
    "train/loss_task": "loss of the class head",
    "train/loss_ik": "loss of P(IK)",
    "train/ik_rate": "IK rate",
    "train/self_weight": "self-weight",
    "train/effective_neighbours": "effective neighbours",
}
_NUM_WINDOWS = 25  # curves are running means over this share of the steps


def draw_training(
    logs: Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]],
    *,
    title: str,
    styles: method_looks.Styles,
) -> plotting.Picture | None:
    """Running means of metrics over the steps of training: seeds thin, their mean thick; None where nothing was logged.

    Args:
        logs: by method and seed, the logged steps.
    """
    names = [
        name
        for name in _CURVES
        if any(name in step for of_seed in logs.values() for steps in of_seed.values() for step in steps)
    ]
    if not names:
        return None
    with plotting.default_style():
        num_rows = -(-len(names) // 2)
        figure = plotting.figure(width=10, height=1.5 + 2.5 * num_rows + 0.07 * len(logs))
        figure.suptitle(_fold(title, 90), fontsize=13)
        grid = figure.subplots(num_rows, 2, squeeze=False)
        drawn = set()
        for axes, name in itertools.zip_longest(grid.flat, names):
            if name is None:
                axes.set_axis_off()
                continue
            for method, of_seed in logs.items():
                if _draw_curves(axes, list(of_seed.values()), name, styles[method]):
                    drawn.add(method)
            axes.set_title(_CURVES[name], fontsize=11, loc="left")
            axes.grid(alpha=0.25)
            axes.set_xlabel("step", fontsize=10)
        plotting.add_legend(figure, {name: styles[name] for name in logs if name in drawn})
        return plotting.Picture(figure)


def _draw_curves(
    axes: plotting.Axes,
    seeds: Sequence[Sequence[Mapping[str, float]]],
    name: str,
    style: tuple[str, plotting.Dash],
) -> bool:
    """The curves of one method; False where it has none."""
    color, dash = style
    curves = [sorted({step["step"]: step[name] for step in steps if name in step}.items()) for steps in seeds]
    if name in _LOSSES_OF_A_HEAD:  # it is logged as zero where there is no such head
        curves = [curve for curve in curves if any(value for _, value in curve)]
    curves = [np.array(curve).T for curve in curves if curve]
    if not curves:
        return False
    for steps, values in curves:
        axes.plot(steps, _running_mean(values), color=color, linestyle=dash, linewidth=0.6, alpha=0.45)
    shared = set.intersection(*(set(steps) for steps, _ in curves))
    if shared:
        steps = np.array(sorted(shared))
        mean = np.mean([values[np.isin(steps_of, steps)] for steps_of, values in curves], axis=0)
        axes.plot(steps, _running_mean(mean), color=color, linestyle=dash, linewidth=1.8)
    return True


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Centred means; fewer values at the ends."""
    window = np.ones(2 * (len(values) // (2 * _NUM_WINDOWS)) + 1)
    if len(window) == 1:
        return values
    return np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")


def draw_labels(
    stages: Mapping[str, Sequence[Sequence[float]]], *, title: str, styles: method_looks.Styles
) -> plotting.Picture | None:
    """How many labels are right before and after selection and smoothing, and what the student made of them.

    Args:
        stages: by method, of each seed the shares that are right: weak labels, selected, smoothed, and the trained
            student's answers on the test set.

    Returns:
        None where there is no method.
    """
    if not stages:
        return None
    with plotting.default_style():
        figure = plotting.figure(width=9, height=4.4)
        axes = figure.add_subplot()
        axes.set_title(_fold(title, 80), fontsize=13)
        places = np.arange(4)
        for method, seeds in stages.items():
            color, dash = styles[method]
            values = 100 * np.array(seeds)
            axes.plot(places, values.T, color=color, linestyle=dash, linewidth=0.6, alpha=0.45)
            axes.plot(
                places,
                values.mean(0),
                color=color,
                linestyle=dash,
                linewidth=1.8,
                marker="o",
                label=_fold(method, 32),
            )
        axes.axvspan(2.5, 3.5, color=plotting.GREY, alpha=0.12, linewidth=0)
        axes.set_xlim(-0.4, 3.5)
        names = ("weak labels", "after selection", "after smoothing", "trained student,\non the test set")
        axes.set_xticks(places, names)
        axes.set_ylabel("right, in per cent")
        axes.grid(axis="y", alpha=0.25)
        figure.legend(loc="outside right upper", frameon=False)
        return plotting.Picture(figure)


def draw_transfer(
    values: Mapping[str, Mapping[tuple[str, plotting.Dash], float | None]],
    *,
    title: str,
    is_pgr: bool = False,
) -> plotting.Picture:
    """A number of students by weak and strong model, a panel per method.

    Args:
        values: by method, then by the pair of weak and strong model: accuracy as a fraction, or PGR; None where PGR
            is undefined.
        is_pgr: which of the two.
    """
    pairs = [pair for of_pair in values.values() for pair in of_pair]
    weak, strong = (list(dict.fromkeys(pair[place] for pair in pairs)) for place in (0, 1))
    low, high = _color_limits([value for of_pair in values.values() for value in of_pair.values()], is_pgr)
    num_columns = min(len(values), 2)
    num_rows = -(-len(values) // num_columns)
    with plotting.default_style():
        figure = plotting.figure(
            width=2.5 + num_columns * max(1.3 * len(strong), 2.6),
            height=1.3 + num_rows * (1.3 + 0.55 * len(weak)),
        )
        figure.suptitle(_fold(title, 60), fontsize=13)
        grid = figure.subplots(num_rows, num_columns, squeeze=False)
        for axes, method in itertools.zip_longest(grid.flat, values):
            if method is None:
                axes.set_axis_off()
                continue
            cells = np.full((len(weak), len(strong)), np.nan)
            texts = np.full(cells.shape, "not run", dtype=object)
            for (row, column), value in values[method].items():
                place = weak.index(row), strong.index(column)
                texts[place] = "undefined"
                if value is not None:
                    cells[place] = value
                    texts[place] = f"{value:.2f}" if is_pgr else f"{100 * value:.1f}"
            axes.imshow(cells, cmap="Blues", vmin=low, vmax=high, aspect="auto")
            for (row, column), text in np.ndenumerate(texts):
                color = plotting.ON_DARK if cells[row, column] > (low + high) / 2 else plotting.ON_LIGHT
                axes.text(column, row, text, ha="center", va="center", color=color)
            axes.set_xticks(range(len(strong)), [_fold(name, 14) for name in strong], fontsize=9)
            axes.set_yticks(range(len(weak)), [_fold(name, 18) for name in weak], fontsize=9)
            axes.set_title(_fold(method, 30), fontsize=11)
        figure.supxlabel("strong model", fontsize=11)
        figure.supylabel("weak model", fontsize=11)
        return plotting.Picture(figure)


def _color_limits(values: Sequence[float | None], is_pgr: bool) -> tuple[float, float]:
    """Where colours end: a little outside of the values, PGR far out of [0, 1] left aside."""
    margin = 0.05
    if is_pgr:
        values = np.clip(
            [0.0, 1.0, *(value for value in values if value is not None)], *result_figures.PGR_LIMITS
        )
    return min(values) - margin, max(values) + margin


def draw_axis(
    panels: Mapping[str, Mapping[str, Sequence[Mapping[str, Any] | None]]],
    *,
    title: str,
    key: str,
    values: Sequence[Any],
    styles: method_looks.Styles,
) -> plotting.Picture:
    """Accuracy and PGR with intervals against a setting, whose values stand at equal distances.

    Args:
        panels: by task and method, for each of the values a row with `accuracy`, `pgr` and their intervals, None
            where there is none.
        key: name of the setting.
        values: of it, in order.
    """
    methods = list(dict.fromkeys(method for of_task in panels.values() for method in of_task))
    with plotting.default_style():
        figure = plotting.figure(width=11, height=1.3 + 3.0 * len(panels))
        figure.suptitle(_fold(title, 90), fontsize=13)
        grid = figure.subplots(len(panels), 2, squeeze=False)
        # Beside each other, as intervals of one value would hide one another.
        shifts = dict(zip(methods, np.linspace(-0.25, 0.25, len(methods) + 2)[1:-1], strict=True))
        for pair, (task, of_task) in zip(grid, panels.items(), strict=True):
            for axes, name, scale in zip(pair, ("accuracy", "pgr"), (100, 1), strict=True):
                for method, rows in of_task.items():
                    _draw_line(axes, rows, name, scale, shifts[method], styles[method])
                axes.set_xticks(range(len(values)), [_fold(str(value), 12) for value in values])
                axes.set_xlim(-0.5, len(values) - 0.5)
                axes.set_xlabel(_fold(key, 50))
                axes.grid(axis="y", alpha=0.25)
            pair[0].set_title(_fold(f"{task}: test accuracy in per cent", 50), fontsize=11, loc="left")
            pair[1].set_title(_fold(f"{task}: PGR", 50), fontsize=11, loc="left")
            low, high = pair[1].get_ylim()
            pair[1].set_ylim(
                max(min(low, -0.25), result_figures.PGR_LIMITS[0]),
                min(max(high, 1.25), result_figures.PGR_LIMITS[1]),
            )
            for reference in (0, 1):
                pair[1].axhline(reference, color=plotting.GREY, linestyle="--", linewidth=1)
        lines = [
            grid[0, 0].plot([], [], color=styles[method][0], linestyle=styles[method][1], marker="o")[0]
            for method in methods
        ]
        names = [_fold(method, 32) for method in methods]
        figure.legend(lines, names, loc="outside right upper", frameon=False, handlelength=3.2)
        return plotting.Picture(figure)


def _draw_line(
    axes: plotting.Axes,
    rows: Sequence[Mapping[str, Any] | None],
    name: str,
    scale: float,
    shift: float,
    style: tuple[str, plotting.Dash],
) -> None:
    color, dash = style
    places = np.arange(len(rows)) + shift
    present = [None if row is None else row[name] for row in rows]
    heights = scale * np.array([np.nan if value is None else value for value in present])
    axes.plot(places, heights, color=color, linestyle=dash, linewidth=1.4, marker="o", markersize=4)
    for place, row in zip(places, rows, strict=True):
        if row is not None and row[f"{name}_interval"] is not None:
            bounds = scale * np.array(row[f"{name}_interval"])
            axes.plot([place, place], bounds, color=color, linewidth=1, marker="_", markersize=5, alpha=0.7)


def _fold(text: str, width: int) -> str:
    return textwrap.fill(text, width)
