"""Pictures of results as PNG files. Equal inputs give equal bytes."""

import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import metrics

# Okabe and Ito's colours, which people with colour blindness tell apart.
_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#6E6E6E"
_LINES = (_BLUE, _ORANGE, _GREEN, _PURPLE, "#D55E00", "#56B4E9", "#000000")
_REFERENCES, _CONTROLS = ("weak", "ceiling"), ("self_training", "random_selection")
_NUM_BINS = 20


def draw_summary(
    path: pathlib.Path,
    *,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    p_ik_panels: Sequence[Mapping[str, Any]],
    gamma: float,
) -> None:
    """Test accuracies with intervals, and P(IK) on known and unknown questions.

    Args:
        rows: as `results.summarize` makes them.
        p_ik_panels: up to three, each with "title", the scores "known" and "unknown" `[N]`, and "auroc" with
            "auroc_low" and "auroc_high" (all three may be None).
        gamma: threshold on P(IK).
    """
    figure = _figure(width=7 + 4 * bool(p_ik_panels), height=max(4.5, 1.8 + 0.38 * len(rows)))
    figure.suptitle(title, fontsize=12)
    grid = figure.add_gridspec(max(len(p_ik_panels), 1), 2 if p_ik_panels else 1)
    _draw_accuracies(figure.add_subplot(grid[:, 0]), rows)
    for number, panel in enumerate(p_ik_panels):
        _draw_p_ik(figure.add_subplot(grid[number, 1]), panel, gamma, last=number == len(p_ik_panels) - 1)
    _save(figure, path)


def _draw_accuracies(axes, rows: Sequence[Mapping[str, Any]]) -> None:
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows, strict=True):
        name, accuracy = row["method"], 100 * row["accuracy"]
        low, high = 100 * row["accuracy_low"], 100 * row["accuracy_high"]
        color = _GREY if name in _REFERENCES else _ORANGE if name in _CONTROLS else _BLUE
        axes.errorbar(
            accuracy, place, xerr=[[accuracy - low], [high - accuracy]], fmt="o", color=color, capsize=3
        )
        if name in _REFERENCES:
            axes.axvline(accuracy, color=_GREY, linestyle="--", linewidth=0.8, zorder=0)
    axes.axvline(50, color=_GREY, linestyle=":", linewidth=0.8, zorder=0)
    axes.set_yticks(places, [row["method"] for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("test accuracy, per cent, with 95 % intervals\n(grey: references; orange: controls)")
    axes.grid(axis="x", alpha=0.25)


def _draw_p_ik(axes, panel: Mapping[str, Any], gamma: float, *, last: bool) -> None:
    bins = np.linspace(0, 1, _NUM_BINS + 1)
    for name, color in (("known", _GREEN), ("unknown", _PURPLE)):
        values = np.asarray(panel[name])
        if len(values):
            weights = np.full(len(values), 100 / len(values))
            label = f"{name} (n = {len(values)})"
            axes.hist(values, bins, weights=weights, color=color, alpha=0.3)
            axes.hist(values, bins, weights=weights, color=color, histtype="step", linewidth=1.5, label=label)
    axes.axvline(gamma, color="black", linestyle=":", linewidth=1)
    axes.text(gamma, 0.98, " gamma", transform=axes.get_xaxis_transform(), va="top", fontsize=8)
    text = panel["title"]
    if panel["auroc"] is not None:
        text += f"\nAUROC {panel['auroc']:.3f}"
        if panel["auroc_low"] is not None:
            text += f" ({panel['auroc_low']:.3f} to {panel['auroc_high']:.3f})"
    axes.set_title(text, fontsize=9)
    axes.set_xlim(0, 1)
    axes.set_ylabel("per cent of questions", fontsize=9)
    axes.legend(fontsize=8, loc="upper left")
    if last:
        axes.set_xlabel("P(IK)")


def draw_accuracy_by_frequency(
    path: pathlib.Path,
    *,
    title: str,
    groups: Sequence[str],
    series: Mapping[str, tuple[Sequence[int], Sequence[int]]],
) -> None:
    """Accuracy by group, with Wilson intervals.

    Args:
        groups: names of the G groups.
        series: by name, the right answers and the questions of each group `[G]`.
    """
    figure = _figure(width=8, height=4.5)
    axes = figure.add_subplot()
    for number, (name, (correct, totals)) in enumerate(series.items()):
        accuracy = 100 * np.asarray(correct) / np.asarray(totals)
        bounds = 100 * np.array([metrics.wilson_interval(c, n) for c, n in zip(correct, totals, strict=True)])
        places = np.arange(len(groups)) + 0.06 * (number - (len(series) - 1) / 2)
        axes.errorbar(
            places,
            accuracy,
            yerr=np.abs(bounds.T - accuracy),
            fmt="o-",
            color=_LINES[number % len(_LINES)],
            capsize=3,
            linewidth=1.2,
            label=name,
        )
    axes.axhline(50, color=_GREY, linestyle=":", linewidth=0.8)
    axes.set_xticks(np.arange(len(groups)), groups)
    axes.set_ylabel("accuracy, per cent")
    axes.set_title(title, fontsize=11)
    axes.legend(fontsize=9)
    axes.grid(axis="y", alpha=0.25)
    _save(figure, path)


def _figure(*, width: float, height: float):
    from matplotlib import figure

    return figure.Figure(figsize=(width, height), dpi=130, layout="constrained")


def _save(figure, path: pathlib.Path) -> None:
    """Writes a PNG at once: a reader sees the old picture or the new."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".png")
    try:
        with os.fdopen(handle, "wb") as file:
            figure.savefig(file, format="png", metadata={"Software": None})
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
