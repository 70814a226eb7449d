"""The pictures of results that a run writes when it ends and its report shows: each is drawn here alone."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import method_looks, metrics, plotting
from selw2s_jax.analysis import methods as methods_lib
from selw2s_jax.method import registry

PGR_LIMITS = (-1.5, 2.5)  # of an axis, whatever the intervals
_NUM_BARS = 20
_NUM_COLUMNS = 2  # of panels of P(IK)


def draw_results(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    facts: Mapping[str, methods_lib.Facts],
    chance: float | None,
) -> plotting.Picture:
    """Accuracies and PGR with intervals, a line per method; colours and markers are those of their roles.

    Args:
        rows: from top to bottom, each with `method`, `accuracy` (a fraction), `pgr` (None where it is undefined), and
            the 95 % intervals `accuracy_interval` and `pgr_interval` (None where it is not finite).
        facts: of the methods, by name.
        chance: accuracy of always giving the commonest answer, a fraction; None where that says nothing.
    """
    roles = {row["method"]: method_looks.role(row["method"], facts[row["method"]]) for row in rows}
    with plotting.default_style():
        figure = plotting.figure(width=8.2, height=1.9 + 0.33 * len(rows))
        figure.suptitle(textwrap.fill(title, 80), fontsize=12)
        accuracies, recovered = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        places = np.arange(len(rows))[::-1]
        for place, row in zip(places, rows, strict=True):
            role = roles[row["method"]]
            interval = [100 * bound for bound in row["accuracy_interval"]]
            _draw_interval(accuracies, place, 100 * row["accuracy"], interval, role, "{:.1f}")
            if row["pgr"] is not None:
                _draw_interval(recovered, place, row["pgr"], row["pgr_interval"], role, "{:.2f}")
            elif row["method"] not in registry.REFERENCES:
                recovered.text(0.5, place, "undefined", ha="center", va="center", color=plotting.GREY)
        if chance is not None:
            _draw_level(accuracies, 100 * chance, "commonest answer", ":")
        accuracies.set_yticks(places, [textwrap.fill(row["method"], 32) for row in rows], fontsize=10)
        accuracies.set_ylim(-0.6, len(rows) - 0.4)
        accuracies.set_xlabel("test accuracy in per cent, with 95 % interval")
        for level, name in ((0, "weak"), (1, "ceiling")):
            _draw_level(recovered, level, name, "--")
        low, high = recovered.get_xlim()
        recovered.set_xlim(max(min(low, -0.25), PGR_LIMITS[0]), min(max(high, 1.25), PGR_LIMITS[1]))
        recovered.set_xlabel("PGR, with 95 % interval if finite")
        for axes in (accuracies, recovered):
            axes.grid(axis="x", alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        figure.legend(handles=_legend_of_roles(roles.values()), loc="outside lower center", ncols=7, frameon=False,
                      fontsize=9, handletextpad=0.2, columnspacing=1.2)  # fmt: skip
        return plotting.Picture(figure)


def _draw_interval(
    axes: plotting.Axes, place: float, value: float, interval: Sequence[float] | None, role: str, number: str
) -> None:
    color = method_looks.color(role)
    if interval is not None:
        axes.plot(interval, [place, place], color=color, linewidth=1.6, marker="|", markersize=7)
    axes.plot([value], [place], color=color, marker=method_looks.marker(role), markersize=6.5)
    axes.text(
        1.015, place, number.format(value), transform=axes.get_yaxis_transform(), va="center", fontsize=9.5
    )


def _draw_level(axes: plotting.Axes, level: float, name: str, dash: str) -> None:
    axes.axvline(level, color=plotting.GREY, linestyle=dash, linewidth=1.1, zorder=0)
    place = {"transform": axes.get_xaxis_transform(), "ha": "center"}
    axes.text(level, 1.01, name, fontsize=9, color=plotting.GREY, **place)


def _legend_of_roles(present: Any) -> list:
    from matplotlib import lines

    return [
        lines.Line2D([], [], color=method_looks.color(role), marker=method_looks.marker(role), linestyle="none",
                     markersize=6.5, label=method_looks.role_name(role))
        for role in dict.fromkeys(present)
    ]  # fmt: skip


def draw_by_frequency(
    *,
    title: str,
    groups: Sequence[str],
    correct: Mapping[str, Sequence[float]],
    totals: Sequence[int],
    facts: Mapping[str, methods_lib.Facts],
    chance: float = 0.5,
) -> plotting.Picture:
    """Accuracy by group, with Wilson 95 % intervals; a group without questions has no point.

    Args:
        groups: names of the G groups.
        correct: by method, or `methods.FEW_SHOT`, the right answers of each group (or their mean over seeds) `[G]`.
        totals: the questions of each group `[G]`.
        facts: of the methods, by name.
        chance: accuracy of guessing, a fraction.
    """
    styles = method_looks.styles(facts) | {methods_lib.FEW_SHOT: (plotting.BROWN, "-.")}
    with plotting.default_style():
        figure = plotting.figure(width=8.2, height=4.6)
        axes = figure.add_subplot()
        for number, (name, of_groups) in enumerate(correct.items()):
            color, dash = styles[name]
            role = "probe" if name == methods_lib.FEW_SHOT else method_looks.role(name, facts[name])
            accuracy, low, high = 100 * accuracies_of_groups(of_groups, totals)
            axes.errorbar(
                np.arange(len(groups)) + 0.07 * (number - (len(correct) - 1) / 2),
                accuracy,
                yerr=[accuracy - low, high - accuracy],
                color=color,
                linestyle=dash,
                marker=method_looks.marker(role),
                capsize=3,
                linewidth=1.3,
                label=textwrap.fill(name, 24),
            )
        axes.axhline(100 * chance, color=plotting.GREY, linestyle=":", linewidth=1)
        axes.text(-0.48, 100 * chance, "chance", va="bottom", fontsize=9, color=plotting.GREY)
        names = [f"{name}\nn = {count}" for name, count in zip(groups, totals, strict=True)]
        axes.set_xticks(np.arange(len(groups)), names)
        axes.set_xlim(-0.5, len(groups) - 0.5)
        axes.set_ylabel("accuracy in per cent, with 95 % interval")
        axes.set_title(textwrap.fill(title, 70), fontsize=12)
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9, handlelength=3.2)
        return plotting.Picture(figure)


def accuracies_of_groups(correct: Sequence[float], totals: Sequence[int]) -> np.ndarray:
    """`[3, G]`: accuracy and the bounds of its Wilson interval, NaN for groups without questions."""
    columns = [
        (c / n, *metrics.wilson_interval(round(c), int(n))) if n else (np.nan,) * 3
        for c, n in zip(correct, totals, strict=True)
    ]
    return np.array(columns).T


def p_ik_panel(test_task: str, train_task: str) -> str:
    """The name of a panel of P(IK)."""
    return f"{test_task}, " + ("in distribution" if test_task == train_task else f"trained on {train_task}")


def draw_p_ik(
    panels: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], *, title: str, gamma: float
) -> plotting.Picture:
    """Histograms of P(IK) on known and unknown questions of all seeds, a panel for each test.

    Args:
        panels: by name, of each seed P(IK) `[N]` and whether the few-shot answer is right, `[N]` bool.
        gamma: threshold on P(IK).
    """
    num_columns = min(len(panels), _NUM_COLUMNS)
    num_rows = -(-len(panels) // num_columns)
    with plotting.default_style():
        figure = plotting.figure(width=max(4.1 * num_columns, 5.5), height=1.4 + 2.3 * num_rows)
        figure.suptitle(textwrap.fill(title, max(60, 40 * num_columns)), fontsize=12)
        grid = figure.subplots(num_rows, num_columns, squeeze=False, sharex=True)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, (name, seeds) in zip(grid.flat, panels.items(), strict=False):
            _draw_histograms(axes, name, seeds, gamma)
            axes.tick_params(labelbottom=True)
        figure.legend(
            handles=_legend_of_known(gamma), loc="outside lower center", ncols=3, frameon=False, fontsize=9
        )
        return plotting.Picture(figure)


def _draw_histograms(
    axes: plotting.Axes, name: str, seeds: Sequence[tuple[np.ndarray, np.ndarray]], gamma: float
) -> None:
    p_ik, known = (np.concatenate(arrays) for arrays in zip(*seeds, strict=True))
    known = known.astype(bool)
    bins = np.linspace(0, 1, _NUM_BARS + 1)
    # Forms differ as well as colours: the two overlap.
    for kind, style in (
        (known, dict(color=plotting.GREEN, alpha=0.45)),
        (~known, dict(color=plotting.VERMILION, histtype="step", linewidth=1.8)),
    ):
        if count := kind.sum():
            axes.hist(p_ik[kind], bins, weights=np.full(count, 100 / count), **style)
    axes.axvline(gamma, color=plotting.BLACK, linestyle=":", linewidth=1.5)
    areas = [area for seed in seeds if (area := metrics.auroc(*seed)) is not None]
    mean = f"{np.mean(areas):.3f}" if areas else "undefined"
    counts = f"AUROC {mean}; {known.sum()} known, {(~known).sum()} not"
    axes.set_title(f"{textwrap.fill(name, 48)}\n{counts}", fontsize=9.5, loc="left")
    axes.set_xlim(0, 1)
    axes.set_xlabel("P(IK)", fontsize=9.5)
    axes.set_ylabel("per cent", fontsize=9.5)
    axes.spines[["top", "right"]].set_visible(False)


def _legend_of_known(gamma: float) -> list:
    from matplotlib import lines, patches

    return [
        patches.Patch(color=plotting.GREEN, alpha=0.45, label="known"),
        patches.Patch(fill=False, edgecolor=plotting.VERMILION, linewidth=1.8, label="unknown"),
        lines.Line2D([], [], color=plotting.BLACK, linestyle=":", linewidth=1.5, label=f"gamma = {gamma:g}"),
    ]
