"""Pictures of written weak labels by entropy, by score and by letter."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import plotting
from selw2s_jax.report import reliability_numbers

_MAX_TEXTS = 12  # bars that have room for a text each
_VARIED, _ORIGINAL, _PAPER = plotting.BLUE, plotting.VERMILION, plotting.BLACK
_RIGHT, _WRONG = plotting.SKY_BLUE, "#D9D9D9"
_WIDTH = 0.7  # of a bar


def draw_entropies(rows: Sequence[Mapping[str, Any]], *, title: str) -> plotting.Picture:
    """Labels that are right by entropy, with intervals, above the questions that have it (Figures 3 and 5).

    Args:
        rows: of `reliability_numbers.entropy_rows`.
    """
    with plotting.default_style():
        figure = plotting.figure(width=max(8.5, min(1.2 + 0.95 * len(rows), 14)), height=6.2)
        figure.suptitle(textwrap.fill(title, 70), fontsize=13)
        shares, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        places = np.arange(len(rows))
        styles = {
            "answers to the variations": (_VARIED, "-"),
            "answer to the original prompt": (_ORIGINAL, "--"),
        }
        _draw_line(shares, places - 0.06, rows, "varied", (_VARIED, "-"))
        _draw_line(shares, places + 0.06, rows, "original", (_ORIGINAL, "--"))
        if any(row["paper_right"] is not None for row in rows):
            _draw_papers(shares, places, rows)
            styles["the paper's, not measured here"] = (_PAPER, ":")
        _draw_bars(counts, places, rows)
        shares.set_ylim(-2, 102)
        shares.set_ylabel("labels right, per cent")
        shares.grid(axis="y", alpha=0.25)
        counts.set_ylabel("questions, per cent")
        counts.set_xlabel("S_ent in nats, and how the answers divide")
        counts.set_xticks(places, [_bar_name(row, len(rows)) for row in rows], fontsize=9)
        styles |= {"right": (_RIGHT, "-"), "wrong (answers to the variations)": (_WRONG, "-")}
        plotting.add_legend(figure, styles)
        return plotting.Picture(figure)


def _bar_name(row: Mapping[str, Any], num_bars: int) -> str:
    value = f"{row['entropy']:.3g}"
    return value if num_bars > _MAX_TEXTS else f"{value}\n{textwrap.fill(row['counts'], 10)}"


def _draw_line(
    axes: plotting.Axes,
    places: np.ndarray,
    rows: Sequence[Mapping[str, Any]],
    name: str,
    style: tuple[str, str],
) -> None:
    color, dash = style
    there = [
        (place, row[name], row[f"{name}_interval"])
        for place, row in zip(places, rows, strict=True)
        if row[name] is not None
    ]
    axes.plot(
        [place for place, *_ in there],
        [100 * share for _, share, _ in there],
        color=color,
        linestyle=dash,
        linewidth=1.3,
        marker="o",
        markersize=4.5,
    )
    for place, _, bounds in there:
        if bounds is not None:
            axes.plot([place, place], [100 * bound for bound in bounds], color=color, linewidth=1, marker="_")


def _draw_papers(axes: plotting.Axes, places: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> None:
    there = [
        (place, row["paper_right"])
        for place, row in zip(places, rows, strict=True)
        if row["paper_right"] is not None
    ]
    axes.plot(
        [place for place, _ in there],
        [100 * value for _, value in there],
        color=_PAPER,
        linestyle=":",
        linewidth=1,
        marker="x",
        markersize=6,
        zorder=3,
    )


def _draw_bars(axes: plotting.Axes, places: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> None:
    shares = 100 * np.array([row["share"] for row in rows])
    right = shares * np.array([row["varied"] or 0.0 for row in rows])
    axes.bar(places, right, _WIDTH, color=_RIGHT)
    axes.bar(places, shares - right, _WIDTH, bottom=right, color=_WRONG)
    papers = 100 * np.array([row["paper_share"] or 0.0 for row in rows])
    axes.bar(places[papers > 0], papers[papers > 0], _WIDTH, fill=False, edgecolor=_PAPER, linestyle=":")
    tops = np.maximum(shares, papers)
    if len(rows) <= _MAX_TEXTS:
        for place, top, share, row in zip(places, tops, shares, rows, strict=True):
            axes.text(
                place, top, f"{share:.1f} %\nn = {row['questions']}", ha="center", va="bottom", fontsize=8
            )
    axes.set_ylim(0, 1.3 * max(tops, default=1.0))


def draw_scores(rows: Sequence[Mapping[str, Any]], *, title: str) -> plotting.Picture:
    """Mean S_prob by weak label and truth (Figures 4 and 6).

    Args:
        rows: of `reliability_numbers.score_rows`.
    """
    weak, truth = (list(dict.fromkeys(row[axis] for row in rows)) for axis in ("weak", "truth"))
    values = np.full((len(weak), len(truth)), np.nan)
    with plotting.default_style():
        figure = plotting.figure(
            width=min(3.2 + 1.25 * len(truth), 16), height=min(1.9 + 0.75 * len(weak), 14)
        )
        figure.suptitle(textwrap.fill(title, 40), fontsize=12)
        axes = figure.add_subplot()
        for row in rows:
            if row["mean"] is not None:
                values[weak.index(row["weak"]), truth.index(row["truth"])] = row["mean"]
        image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row in rows:
            _write_cell(axes, truth.index(row["truth"]), weak.index(row["weak"]), row)
        axes.set_xticks(range(len(truth)), [textwrap.fill(name, 14) for name in truth])
        axes.set_yticks(range(len(weak)), [textwrap.fill(name, 14) for name in weak])
        axes.set_xlabel("right answer")
        axes.set_ylabel("weak label")
        figure.colorbar(image, ax=axes, label="mean S_prob")
        return plotting.Picture(figure)


def _write_cell(axes: plotting.Axes, column: int, line: int, row: Mapping[str, Any]) -> None:
    if row["mean"] is None:
        axes.text(column, line, "no label", ha="center", va="center", fontsize=8, color=plotting.GREY)
        return
    bounds = row["mean_interval"]
    interval = "" if bounds is None else f"\n{bounds[0]:.2f} to {bounds[1]:.2f}"
    color = plotting.ON_DARK if row["mean"] > 0.55 else plotting.ON_LIGHT
    text = f"{row['mean']:.3f}{interval}\nn = {row['n']}"
    axes.text(column, line, text, ha="center", va="center", fontsize=8, color=color)


def draw_letters(rows: Sequence[Mapping[str, Any]], *, title: str) -> plotting.Picture:
    """How often each letter was chosen, with intervals, and how often chance alone would.

    Args:
        rows: of `reliability_numbers.letter_rows`.
    """
    panels = {name: label for name, label in reliability_numbers.LABEL_NAMES.items() if name != "majority"}
    with plotting.default_style():
        figure = plotting.figure(width=9, height=3.6)
        figure.suptitle(textwrap.fill(title, 80), fontsize=12)
        grid = figure.subplots(1, len(panels), sharey=True)
        places = np.arange(len(rows))
        for axes, (name, label) in zip(grid, panels.items(), strict=True):
            _draw_line(axes, places, rows, f"{name}_chosen", (_VARIED, "none"))
            for key, color in (("expected", plotting.BLACK), ("right", plotting.ORANGE)):
                there = [(place, row[f"{name}_{key}"]) for place, row in zip(places, rows, strict=True)]
                for place, value in there:
                    if value is not None:
                        axes.plot([place - 0.35, place + 0.35], [100 * value] * 2, color=color, linewidth=1.4)
            axes.set_title(label, fontsize=11, loc="left")
            axes.set_xticks(places, [row["letter"] for row in rows])
            axes.grid(axis="y", alpha=0.25)
        grid[0].set_ylim(bottom=0)
        grid[0].set_ylabel("answers, per cent")
        styles = {"chosen": (_VARIED, "-"), "if all places were as likely": (plotting.BLACK, "-")}
        plotting.add_legend(figure, styles | {"place of the right choice": (plotting.ORANGE, "-")})
        return plotting.Picture(figure)
