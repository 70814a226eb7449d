"""Pictures of P(IK).

Most take `tests`: by name of the test, then by what P(IK) is trained on, for each seed P(IK) `[N]` and whether the
few-shot answer is right, `[N]` bool; and `trainings`, the order of the latter, which has a colour for each.
"""

import itertools
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import p_ik as p_ik_lib
from selw2s_jax.analysis import plotting

Seeds = Sequence[tuple[np.ndarray, np.ndarray]]
Tests = Mapping[str, Mapping[str, Seeds]]

MAX_TRAINED = 4  # different trainings that one picture can hold
_STYLES = (
    (plotting.BLUE, "-"), (plotting.VERMILION, "--"), (plotting.GREEN, "-."), (plotting.PURPLE, ":"),
)  # fmt: skip
_NUM_COLUMNS = 3  # of panels
_FEWEST = 10  # questions that a share is drawn of


def draw_few_shot(rows: Sequence[Mapping[str, Any]], *, title: str) -> plotting.Picture:
    """Few-shot accuracy per task as bars with intervals.

    Args:
        rows: with `test_task`, `accuracy` and `accuracy_interval`.
    """
    with plotting.default_style():
        figure = plotting.figure(width=max(5.0, 1.6 + 1.35 * len(rows)), height=4.2)
        axes = figure.add_subplot()
        axes.set_title(_fold(title, 12 * max(4, len(rows))), fontsize=13)
        places = np.arange(len(rows))
        heights = 100 * np.array([row["accuracy"] for row in rows])
        bounds = 100 * np.array([row["accuracy_interval"] for row in rows])
        # Rounding can put a bound of an interval without width on the wrong side.
        reach = np.maximum([heights - bounds[:, 0], bounds[:, 1] - heights], 0)
        axes.bar(places, heights, width=0.6, color=plotting.SKY_BLUE, edgecolor=plotting.BLUE)
        axes.errorbar(places, heights, yerr=reach, fmt="none", color=plotting.BLACK, capsize=5)
        for place, height, (_, high) in zip(places, heights, bounds, strict=True):
            axes.text(place, max(height, high) + 1.5, f"{height:.1f}", ha="center", fontsize=10)
        axes.set_xticks(places, [_fold(row["test_task"], 14) for row in rows], fontsize=10)
        axes.set_ylim(0, 110)
        axes.set_yticks(range(0, 101, 20))
        axes.set_ylabel("few-shot answers right, in per cent")
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        return plotting.Picture(figure)


def draw_reliability(tests: Tests, *, trainings: Sequence[str], title: str) -> plotting.Picture:
    """Share known against P(IK) in the bins of the calibration error, with the number of questions in each below."""
    with plotting.default_style():
        num_columns = min(len(tests), _NUM_COLUMNS)
        num_rows = -(-len(tests) // num_columns)
        figure = _grid_figure(title, num_columns, 1.5 + 4.1 * num_rows)
        grid = figure.subplots(
            2 * num_rows, num_columns, squeeze=False, sharex=True, height_ratios=(3, 1) * num_rows
        )
        pairs = zip(grid[::2].flat, grid[1::2].flat, strict=True)
        for pair, test in itertools.zip_longest(pairs, tests):
            if test is None:
                for axes in pair:
                    axes.set_axis_off()
                continue
            shares, counts = pair
            shares.plot([0, 1], [0, 1], color=plotting.GREY, linewidth=1)
            for style, seeds in _styled(trainings, tests[test]):
                bins = p_ik_lib.reliability_bins(*_pooled(seeds))
                plotting.draw_shares(shares, bins, style)
                plotting.draw_counts(counts, bins, style)
            shares.set_title(_fold(test, 32), fontsize=11, loc="left")
            shares.set_ylim(-0.02, 1.02)
            shares.set_ylabel("known")
            counts.set_ylabel("questions", fontsize=9)
            counts.set_ylim(bottom=0)
            counts.set_xlim(0, 1)
            counts.set_xlabel("P(IK)")
            counts.tick_params(labelbottom=True)
            shares.grid(alpha=0.25)
        _add_legend(figure, trainings, {"as it should be": (plotting.GREY, "-")})
        return plotting.Picture(figure)


def draw_risk_coverage(tests: Tests, *, trainings: Sequence[str], title: str) -> plotting.Picture:
    """Share of wrong answers against the share of questions answered, beside no skill and the ideal order."""
    with plotting.default_style():
        num_columns = min(len(tests), _NUM_COLUMNS)
        num_rows = -(-len(tests) // num_columns)
        figure = _grid_figure(title, num_columns, 1.5 + 2.9 * num_rows)
        grid = figure.subplots(num_rows, num_columns, squeeze=False)
        for axes, test in itertools.zip_longest(grid.flat, tests):
            if test is None:
                axes.set_axis_off()
                continue
            first = next(iter(tests[test].values()))
            accuracy = statistics.fmean(float(known.mean()) for _, known in first)
            coverage = np.linspace(0.01, 1, 100)
            axes.plot([0, 1], [1 - accuracy] * 2, color=plotting.GREY, linewidth=1)
            axes.plot(coverage, p_ik_lib.ideal_risk(coverage, accuracy), color=plotting.BLACK, linewidth=1)
            for (color, dash), seeds in _styled(trainings, tests[test]):
                curve = p_ik_lib.mean_risk_coverage([p_ik_lib.risk_coverage(*seed) for seed in seeds])
                axes.plot(*curve, color=color, linestyle=dash, linewidth=1.6)
            axes.set_title(_fold(test, 32), fontsize=11, loc="left")
            axes.set_xlim(0, 1)
            axes.set_ylim(bottom=0)
            axes.set_xlabel("coverage")
            axes.set_ylabel("risk")
            axes.grid(alpha=0.25)
        _add_legend(figure, trainings, {"no skill": (plotting.GREY, "-"), "ideal": (plotting.BLACK, "-")})
        return plotting.Picture(figure)


def draw_selection(tests: Tests, *, trainings: Sequence[str], title: str, gamma: float) -> plotting.Picture:
    """IK rate and precision as gamma moves, over the questions of all seeds: a row per test."""
    gammas = np.linspace(0, 1, 201)
    with plotting.default_style():
        figure = plotting.figure(width=9, height=1.6 + 2.2 * len(tests))
        figure.suptitle(_fold(title, 80), fontsize=13)
        grid = figure.subplots(len(tests), 2, squeeze=False, sharex=True)
        for (rates, precisions), (test, by_training) in zip(grid, tests.items(), strict=True):
            for (color, dash), seeds in _styled(trainings, by_training):
                p_ik, known = _pooled(seeds)
                rate, precision = p_ik_lib.selection_curve(p_ik, known, gammas)
                precision[rate * len(p_ik) < _FEWEST] = np.nan
                rates.plot(gammas, 100 * rate, color=color, linestyle=dash, linewidth=1.6)
                precisions.plot(gammas, 100 * precision, color=color, linestyle=dash, linewidth=1.6)
            _, known = _pooled(next(iter(by_training.values())))
            precisions.axhline(100 * known.mean(), color=plotting.GREY, linewidth=1)
            rates.set_title(f"{_fold(test, 30)}: IK rate", fontsize=11, loc="left")
            precisions.set_title(f"{_fold(test, 30)}: IK precision", fontsize=11, loc="left")
            rates.set_ylim(-3, 103)
            rates.set_ylabel("per cent")
            for axes in (rates, precisions):
                axes.axvline(gamma, color=plotting.BLACK, linestyle=":", linewidth=1.5)
                axes.set_xlim(0, 1)
                axes.grid(alpha=0.25)
        for axes in grid[-1]:
            axes.set_xlabel("gamma")
        others = {
            "all questions": (plotting.GREY, "-"),
            f"gamma of the run, {gamma:g}": (plotting.BLACK, ":"),
        }
        _add_legend(figure, trainings, others)
        return plotting.Picture(figure)


def _grid_figure(title: str, num_columns: int, height: float):
    figure = plotting.figure(width=max(1 + 3.5 * num_columns, 6), height=height)
    figure.suptitle(_fold(title, max(45, 30 * num_columns)), fontsize=13)
    return figure


def _styled(
    trainings: Sequence[str], by_training: Mapping[str, Seeds]
) -> Iterator[tuple[tuple[str, str], Seeds]]:
    """The seeds of each training with its colour and dash, which are the same in all panels."""
    styles = dict(zip(trainings, _STYLES, strict=False))
    for training, seeds in by_training.items():
        yield styles[training], seeds


def _add_legend(
    figure: plotting.Figure, trainings: Sequence[str], others: Mapping[str, tuple[str, str]]
) -> None:
    plotting.add_legend(figure, dict(zip(trainings, _STYLES, strict=False)) | dict(others))


def _pooled(seeds: Seeds) -> tuple[np.ndarray, np.ndarray]:
    p_ik, known = (np.concatenate(arrays) for arrays in zip(*seeds, strict=True))
    return p_ik, known.astype(bool)


def _fold(text: str, width: int) -> str:
    return textwrap.fill(text, width)
