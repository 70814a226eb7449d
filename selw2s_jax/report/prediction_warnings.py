"""Warnings that test predictions give: gains that misfit does not predict, errors on what the strong model can know."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from selw2s_jax.report import blind_spots_numbers, misfit_numbers, stored
from selw2s_jax.report.finding import Finding


def find(run: stored.Run) -> list[Finding]:
    """One at most of each kind, of all the students it is of."""
    return [*_of_misfit(run), *_of_known_errors(run)]


def _of_misfit(run: stored.Run) -> Iterator[Finding]:
    of_errors = {}
    for error in misfit_numbers.KINDS.values():
        of_errors[error] = [
            row
            for row in misfit_numbers.rows(run)
            if (row["error"], row["target"]) == (error, misfit_numbers.TARGETS["truth"])
            and row["slack_interval"] is not None
            and row["slack_interval"][1] < 0
        ]
    if any(of_errors.values()):
        values = "; ".join(
            f"{error} error: {_values(rows, 'slack')}" for error, rows in of_errors.items() if rows
        )
        yield _finding(
            run,
            [row for rows in of_errors.values() for row in rows],
            f"students gain less than their misfit, which then does not predict the gain. Gain less misfit, {values}",
            "do not choose a weak model by the least predicted error here; these students are not the nearest models "
            "to their weak labels of a convex class (see Gain and misfit)",
        )


def _of_known_errors(run: stored.Run) -> Iterator[Finding]:
    rows = blind_spots_numbers.rows(run)
    if there := [row for row in rows if row["excess_interval"] and row["excess_interval"][0] > 0]:
        yield _finding(
            run,
            there,
            "errors gather where the ceiling knows and the weak model does not, more than those of a copy of the weak "
            f"model would. Lift less that of the weak model's errors: {_values(there, 'excess')}",
            "look at the labels of these rows and at the learning rate: the strong model can learn such items, and "
            "its weak labels alone do not explain the errors",
        )


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    return ", ".join(
        f"{row['method']} {row[name]:.3f} ({row[f'{name}_interval'][0]:.3f} to {row[f'{name}_interval'][1]:.3f})"
        for row in rows
    )


def _finding(run: stored.Run, rows: Sequence[Mapping[str, Any]], observation: str, remedy: str) -> Finding:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    # Those that any of the methods has in common with the weak model.
    seeds = sorted({seed for method in methods for seed in run.common_seeds("weak", method)})
    return Finding(", ".join(methods), ", ".join(map(str, seeds)), observation, remedy)
