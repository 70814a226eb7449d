"""What a replay finds, as rows: every student under every setting, and means over seeds."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import replay as numbers
from selw2s_jax.errors import UserError
from selw2s_jax.replay import finished, settings


@dataclasses.dataclass
class Found:
    """What was found.

    Attributes:
        rows: of every seed, each with `run`, `method`, `seed`, the values of `settings.AXES`, `is_own` where all of
            these are the run's, and what `_describe` gives.
        notes: what was left out, and why.
    """

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def means(self) -> list[dict[str, Any]]:
        """The rows, as means over seeds with `num_seeds` in place of `seed`.

        The interval of random choices is that of a mean over seeds, whose choices are independent of each other.
        """
        grouped: dict[tuple, list[dict[str, Any]]] = {}
        names = ("run", "method", *settings.AXES, "is_own")
        for row in self.rows:
            grouped.setdefault(tuple(row[name] for name in names), []).append(row)
        return [
            dict(zip(names, key, strict=True)) | {"num_seeds": len(rows)} | _mean(rows)
            for key, rows in grouped.items()
        ]


def find(
    run: finished.Run, chosen: Sequence[settings.Setting], *, methods: Sequence[str] | None = None
) -> Found:
    """Every student of a run whose labels depend on any of the settings, under each.

    Args:
        methods: those that are asked for; default all.

    Raises:
        UserError: a method is none of the run, or no setting changes its labels.
    """
    found = Found()
    for name in run.config.methods if methods is None else methods:
        if name not in run.config.methods:
            there = ", ".join(run.config.methods)
            raise UserError(f"--methods={name} is not there: the run has {there}")
        of_method = settings.of_method(run.config, name, chosen)
        if not settings.read_by(run.config, name):
            if methods is not None:
                raise UserError(f"--methods={name}: no setting that can be replayed changes its labels")
            continue
        for seed in run.config.seeds:
            _add(found, run, name, seed, of_method)
    found.notes = list(dict.fromkeys(found.notes))
    return found


def _add(
    found: Found, run: finished.Run, name: str, seed: int, of_method: Sequence[settings.Setting]
) -> None:
    own = settings.Setting.of_run(run.config)
    try:
        if differing := run.differing(name, seed):
            found.notes.append(f"{name}, seed {seed}, is left out: {differing}")
            return
    except UserError as error:
        found.notes.append(f"left out: {error}")
        return
    for setting in of_method:
        if reason := run.unknown(name, seed, setting):
            found.notes.append(f"{name} is left out at {_in_words(setting, own)}: {reason}")
            continue
        named = {"run": run.name, "method": name, "seed": seed, **dataclasses.asdict(setting)}
        named["is_own"] = setting == own
        found.rows.append(named | _describe(run, name, seed, setting))


def _in_words(setting: settings.Setting, own: settings.Setting) -> str:
    """What of a setting is not the run's."""
    return ", ".join(
        f"{axis}={getattr(setting, axis):g}"
        for axis in settings.AXES
        if getattr(setting, axis) != getattr(own, axis)
    )


def _describe(run: finished.Run, name: str, seed: int, setting: settings.Setting) -> dict[str, Any]:
    """`analysis.replay.describe` of the rows that the student has seen.

    Also `exact`, the share of labels that are known exactly, and `undecided`, of those whose class is not known.
    """
    student = run.student(name, seed)
    weak, own = run.labels.columns(seed, name)
    row = run.rows(name, seed, setting)
    there = ~np.isnan(row.target)
    described = numbers.describe(
        student.half.labels[there],
        weak[there],
        weak[there] if own is None else own[there],
        chosen=row.ik_mask[there] > 0,
        prior=row.prior[there],
        target=row.target[there],
        trained=finished.last_seen(student, student.trace["target"])[there],
    )
    exact = row.lowest[there] == row.highest[there]
    undecided = (row.lowest[there] > 0.5) != (row.highest[there] > 0.5)
    return described | {"exact": float(exact.mean()), "undecided": float(undecided.mean())}


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of what `_describe` gives."""
    names = [name for name in rows[0] if name not in ("run", "method", "seed", *settings.AXES, "is_own")]
    means: dict[str, Any] = {}
    for name in names:
        values = [row[name] for row in rows if row[name] is not None]
        means[name] = statistics.fmean(values) if values else None
    means["n"] = round(means["n"])
    reach = [row["right_at_random_high"] - row["right_at_random"] for row in rows]
    spread = float(np.sqrt(np.sum(np.square(reach)))) / len(rows)
    means["right_at_random_low"] = max(means["right_at_random"] - spread, 0.0)
    means["right_at_random_high"] = min(means["right_at_random"] + spread, 1.0)
    return means
