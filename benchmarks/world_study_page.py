"""The study of `world_study.py` as JSON, a page of tables and a picture."""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import methods, plotting


def write(study: dict[str, Any], output: pathlib.Path) -> None:
    """Writes `output`.json, .md and .png."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(study, indent=1, allow_nan=False) + "\n")
    output.with_suffix(".md").write_text(to_markdown(study))
    output.with_suffix(".png").write_bytes(draw(study))


def percent(value: float | None, *, signed: bool = False) -> str:
    return "-" if value is None else f"{100 * value:{'+' if signed else ''}.1f}"


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: Sequence[float] | None, form: Callable[..., str], **options: Any) -> str:
    return "-" if bounds is None or bounds[0] is None else " to ".join(form(b, **options) for b in bounds)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["", *("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows)), ""]


def _over_worlds(found: dict[str, Any], form: Callable[[float | None], str]) -> list[str]:
    return [
        form(found["mean"]),
        _interval(found["interval"], form),
        *(form(value) for value in found["by_world"].values()),
    ]


def _differences(study: dict[str, Any], which: str) -> list[str]:
    rows = [
        [
            f"{row['first']} - {row['second']}",
            percent(row["mean"], signed=True),
            _interval((row["low"], row["high"]), percent, signed=True),
            _fraction(row["p_value"]),
            *([_fraction(row["p_holm"])] if which == "primary" else []),
            *(percent(mean, signed=True) for mean in row["by_cluster"].values()),
        ]
        for row in study[which]
    ]
    names = ["p", "Holm's p"] if which == "primary" else ["p"]
    return _table(["difference", "mean", "95 % over worlds", *names, *_worlds(study)], rows)


def _labels(rows: Sequence[dict[str, Any]]) -> list[str]:
    return _table(
        ["labels", "right, per cent", "95 % over worlds", "Brier", "95 % over worlds"],
        [
            [
                row["labels"],
                *_over_worlds(row["right"], percent)[:2],
                *_over_worlds(row["brier"], _fraction)[:2],
            ]
            for row in rows
        ],
    )


def _smoothing(study: dict[str, Any]) -> list[str]:
    return [
        "## Smoothing over the whole set",
        "",
        study["smoothing_note"],
        "",
        "Test accuracy, points:",
        *_differences(study, "smoothing"),
        "Labels; those that are not smoothed are above:",
        *_labels(study["smoothed_labels"]),
    ]


def _seeds(study: dict[str, Any]) -> str:
    seeds = study["seeds"]
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _worlds(study: dict[str, Any]) -> list[str]:
    return [f"world {world}" for world in study["worlds"]]


def to_markdown(study: dict[str, Any]) -> str:
    """The study as a page."""
    head = ["mean", "95 % over worlds", *_worlds(study)]
    seconds = study["seconds"].values()
    lines = [
        "# The small world: does selection gain?",
        "",
        f"Worlds {', '.join(study['worlds'])}, {_seeds(study)} in each; "
        f"{', '.join(map(str, study['n'].values()))} test items. Made in {sum(s['cpu'] for s in seconds):.0f} s of CPU "
        f"({sum(s['wall'] for s in seconds):.0f} s beside other work) by",
        "",
        *(f"    {command}" for command in study["commands"]),
        "",
        study["protocol"],
        "",
        "## Primary differences, points of test accuracy",
        *_differences(study, "primary"),
        "## Secondary differences",
        *_differences(study, "secondary"),
        "## Test accuracy, per cent",
        *_table(["method", *head], [[r["method"], *_over_worlds(r, percent)] for r in study["accuracy"]]),
        '## P(IK): AUROC for "the few-shot answer is right", on test items',
        *_table(
            ["P(IK) of", "distribution", *head],
            [[r["method"], r["distribution"], *_over_worlds(r, _fraction)] for r in study["p_ik"]],
        ),
        "## Where weak and self label differ, on the student's half",
        *_table(
            ["P(IK) of", "what", *head],
            [[r["p_ik_of"], r["what"], *_over_worlds(r, _fraction)] for r in study["disagreement"]],
        ),
        "## What students were trained on",
        *_labels(study["labels"]),
        "### Differences of right labels, points",
        *_differences(study, "label_differences"),
        "## Calibration, on what it was fitted to",
        *_table(
            ["of", "number", *head],
            [[r["of"], r["number"], *_over_worlds(r, _fraction)] for r in study["calibration"]],
        ),
        *(_smoothing(study) if study["smoothing"] else []),
    ]
    return "\n".join(lines).rstrip() + "\n"


_COLORS = {"reference": plotting.GREY, "control": plotting.ORANGE, "subject": plotting.BLUE}


def draw(study: dict[str, Any]) -> bytes:
    """Accuracies and differences, mean over worlds with its interval and a dot for each world, as PNG."""
    with plotting.default_style():
        figure = plotting.figure(width=13, height=6)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        rows = sorted(study["accuracy"], key=lambda row: row["mean"])
        colors = [_COLORS.get(methods.facts(row["method"]).role, plotting.SKY_BLUE) for row in rows]
        _draw_rows(
            left,
            [row["method"] for row in rows],
            [(row["mean"], row["interval"], row["by_world"]) for row in rows],
            colors,
        )
        left.set_xlabel("test accuracy, per cent (grey: references, orange: controls)")
        rows = [*reversed(study["secondary"][:-2]), *reversed(study["primary"])]
        is_primary = [row in study["primary"] for row in rows]
        _draw_rows(
            right,
            [f"{row['first']}\nless {row['second']}" for row in rows],
            [(row["mean"], (row["low"], row["high"]), row["by_cluster"]) for row in rows],
            [plotting.BLUE if primary else plotting.GREY for primary in is_primary],
        )
        right.axvline(0, color=plotting.BLACK, linewidth=1, zorder=0)
        right.set_xlabel("difference in points (blue: primary)")
        count = len(study["seeds"])
        worlds = f"{len(study['worlds'])} worlds, {'one seed' if count == 1 else f'{count} seeds'} each"
        figure.suptitle(f"{worlds}: means with 95 % intervals over worlds; a dot is a world", fontsize=13)
        return plotting.Picture(figure).png


def _draw_rows(
    axes: plotting.Axes,
    names: Sequence[str],
    rows: Sequence[tuple[float, Sequence[float] | None, dict[str, float]]],
    colors: Sequence[str],
) -> None:
    """A line for each row, from below: its mean, its interval (may be None) and its worlds."""
    for place, ((mean, interval, by_world), color) in enumerate(zip(rows, colors, strict=True)):
        worlds = 100 * np.array(list(by_world.values()))
        axes.scatter(worlds, np.full(len(worlds), place - 0.22), s=14, color=color, alpha=0.6)
        if interval is not None and interval[0] is not None:
            axes.plot(100 * np.array(interval), [place, place], color=color, linewidth=2)
        axes.plot(100 * mean, place, "o", color=color, markersize=7)
        axes.text(1.01, place, f"{100 * mean:.1f}", transform=axes.get_yaxis_transform(), va="center")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.7, len(names) - 0.4)
    axes.grid(axis="x", alpha=0.25)
