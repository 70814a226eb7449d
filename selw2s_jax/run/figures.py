"""Pictures of results as PNG files. Equal inputs give equal bytes, whatever a user's matplotlibrc holds."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from selw2s_jax.analysis import methods, metrics, plotting
from selw2s_jax.runtime import storage

# Colour and marker of a method, by its role; those of the other roles look as students do.
_LOOKS = {
    "reference": (plotting.GREY, "s"),
    "student": (plotting.SKY_BLUE, "o"),
    "subject": (plotting.BLUE, "o"),
    "control": (plotting.ORANGE, "D"),
}
_LINES = tuple(
    zip(
        (
            plotting.GREEN,
            plotting.GREY,
            plotting.BLACK,
            plotting.SKY_BLUE,
            plotting.BLUE,
            plotting.ORANGE,
            plotting.VERMILION,
            plotting.PURPLE,
        ),
        "os^Dvp*X",
        strict=True,
    )
)
_CHANCE = 50  # per cent, of two classes
_NUM_BINS = 20
_TITLE_WIDTH = 60  # letters that fit above a panel


def draw_summary(
    path: epath.PathLike,
    *,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    p_ik_panels: Sequence[Mapping[str, Any]],
    gamma: float,
) -> None:
    """Test accuracies with intervals, and P(IK) on known and unknown questions.

    Args:
        rows: from top to bottom, each with "method", "accuracy", "accuracy_low" and "accuracy_high" (fractions),
            as `results.summarize` makes them; there may be none.
        p_ik_panels: up to three, each with "title", the scores "known" and "unknown" `[N]`, and "auroc" with
            "auroc_low" and "auroc_high" (all three may be None).
        gamma: threshold on P(IK).
    """
    with plotting.default_style():
        height = max(4.6, 2.0 + 0.32 * len(rows), 1.4 + 1.5 * len(p_ik_panels))
        figure = plotting.figure(width=11 if rows and p_ik_panels else 8, height=height)
        figure.suptitle(title, fontsize=13)
        # Halves of fixed width: long names of methods take no room from the panels.
        halves = figure.subfigures(1, max(bool(rows) + bool(p_ik_panels), 1), squeeze=False)[0]
        if rows:
            _draw_accuracies(halves[0].add_subplot(), rows)
            halves[0].legend(handles=_legend_of_looks(rows), loc="outside lower left", ncols=4, frameon=False)
        if p_ik_panels:
            panels = halves[-1].subplots(len(p_ik_panels), sharex=True, squeeze=False)[:, 0]
            for axes, panel in zip(panels, p_ik_panels, strict=True):
                _draw_p_ik(axes, panel, gamma)
            panels[-1].set_xlabel("P(IK)")
            halves[-1].legend(
                handles=_legend_of_p_ik(gamma), loc="outside lower right", ncols=3, frameon=False
            )
        storage.write_bytes(path, plotting.to_png(figure))


def _draw_accuracies(axes: plotting.Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    places = np.arange(len(rows))[::-1]
    references = {}
    for place, row in zip(places, rows, strict=True):
        mean, low, high = (100 * row[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
        label, color, marker = _look(row["method"])
        # Rounding can put a bound of an interval without width on the wrong side.
        reach = [[max(mean - low, 0)], [max(high - mean, 0)]]
        axes.errorbar(mean, place, xerr=reach, fmt=marker, color=color, markersize=7, capsize=4)
        axes.text(1.015, place, f"{mean:.1f}", transform=axes.get_yaxis_transform(), va="center", fontsize=10)
        if label == "reference":
            references[row["method"]] = mean
    # Of two references the left one has its name to the left of its line, so that close ones do not overlap.
    for number, (name, mean) in enumerate(sorted(references.items(), key=lambda item: item[1])):
        axes.axvline(mean, color=plotting.GREY, linestyle="--", linewidth=1, zorder=0)
        side = "left" if number or len(references) == 1 else "right"
        axes.text(mean, 1.01, name, transform=axes.get_xaxis_transform(), ha=side, va="bottom", fontsize=9)
    axes.axvline(_CHANCE, color=plotting.BLACK, linestyle=":", linewidth=1, zorder=0)
    axes.set_yticks(places, [row["method"] for row in rows], fontsize=11)
    axes.set_ylim(-1, len(rows) - 0.4)
    axes.text(_CHANCE, -0.95, " chance", va="bottom", fontsize=9)
    axes.set_xlabel("test accuracy in per cent, with 95 % interval")
    axes.grid(axis="x", alpha=0.25)


def _look(method: str) -> tuple[str, str, str]:
    """What a method is called in the legend (a subject by its name, others by their role), its colour and marker.

    By the name's first word: `selective (frozen P(IK))` looks as `selective` does.
    """
    name = method.partition(" ")[0]
    role = methods.facts(name).role
    role = role if role in _LOOKS else "student"
    return (name if role == "subject" else role, *_LOOKS[role])


def _draw_p_ik(axes: plotting.Axes, panel: Mapping[str, Any], gamma: float) -> None:
    bins = np.linspace(0, 1, _NUM_BINS + 1)
    # Forms differ as well as colours: the two overlap.
    for name, style in (
        ("known", dict(color=plotting.GREEN, alpha=0.45)),
        ("unknown", dict(color=plotting.VERMILION, histtype="step", linewidth=1.8)),
    ):
        if count := len(panel[name]):
            axes.hist(panel[name], bins, weights=np.full(count, 100 / count), **style)
    axes.axvline(gamma, color=plotting.BLACK, linestyle=":", linewidth=1.5)
    auroc = "undefined" if panel["auroc"] is None else f"{panel['auroc']:.3f}"
    if panel["auroc_low"] is not None:
        auroc += f" ({panel['auroc_low']:.3f} to {panel['auroc_high']:.3f})"
    title = textwrap.fill(panel["title"], _TITLE_WIDTH)
    counts = f"{len(panel['known'])} known, {len(panel['unknown'])} unknown"
    axes.set_title(f"{title}\nAUROC {auroc}; {counts}", fontsize=10, loc="left")
    axes.set_xlim(0, 1)
    axes.set_ylabel("per cent", fontsize=10)


def _legend_of_looks(rows: Sequence[Mapping[str, Any]]) -> list:
    from matplotlib import lines

    present = dict.fromkeys(_look(row["method"]) for row in rows)
    return [
        lines.Line2D([], [], color=color, marker=marker, markersize=7, label=label)
        for label, color, marker in present
    ]


def _legend_of_p_ik(gamma: float) -> list:
    from matplotlib import lines, patches

    return [
        patches.Patch(color=plotting.GREEN, alpha=0.45, label="known"),
        patches.Patch(fill=False, edgecolor=plotting.VERMILION, linewidth=1.8, label="unknown"),
        lines.Line2D([], [], color=plotting.BLACK, linestyle=":", linewidth=1.5, label=f"gamma = {gamma:g}"),
    ]


def draw_accuracy_by_frequency(
    path: epath.PathLike,
    *,
    title: str,
    groups: Sequence[str],
    series: Mapping[str, tuple[Sequence[float], Sequence[int]]],
) -> None:
    """Accuracy by group, with Wilson 95 % intervals; a group without questions has no point.

    Args:
        groups: names of the G groups.
        series: by name, the right answers (or their mean over seeds) and the questions of each group `[G]`.
    """
    with plotting.default_style():
        figure = plotting.figure(width=9, height=4.6)
        axes = figure.add_subplot()
        for number, (name, (correct, totals)) in enumerate(series.items()):
            color, marker = _LINES[number % len(_LINES)]
            accuracy, low, high = 100 * _accuracies(correct, totals)
            axes.errorbar(
                np.arange(len(groups)) + 0.07 * (number - (len(series) - 1) / 2),
                accuracy,
                yerr=[accuracy - low, high - accuracy],
                color=color,
                marker=marker,
                capsize=3,
                linewidth=1.3,
                label=name,
            )
        axes.axhline(_CHANCE, color=plotting.BLACK, linestyle=":", linewidth=1)
        axes.text(-0.48, _CHANCE, "chance", va="bottom", fontsize=9)
        axes.set_xticks(np.arange(len(groups)), _with_counts(groups, [n for _, n in series.values()]))
        axes.set_xlim(-0.5, len(groups) - 0.5)
        axes.set_ylabel("accuracy in per cent, with 95 % interval")
        axes.set_title(title, fontsize=13)
        axes.grid(axis="y", alpha=0.25)
        figure.legend(loc="outside right upper", frameon=False)
        storage.write_bytes(path, plotting.to_png(figure))


def _accuracies(correct: Sequence[float], totals: Sequence[int]) -> np.ndarray:
    """`[3, G]`: accuracy and the bounds of its interval, NaN for groups without questions."""
    columns = [
        (c / n, *metrics.wilson_interval(round(c), int(n))) if n else (np.nan,) * 3
        for c, n in zip(correct, totals, strict=True)
    ]
    return np.array(columns).T


def _with_counts(groups: Sequence[str], totals: Sequence[Sequence[int]]) -> list[str]:
    """The groups' names, with their numbers of questions where all series have the same."""
    if len({tuple(map(int, counts)) for counts in totals}) != 1:
        return list(groups)
    return [f"{name}\nn = {count}" for name, count in zip(groups, totals[0], strict=True)]
