"""Representation kernels of runs: predicted against realised gaps, by seed, by pair of models, over pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import metrics, ranks
from selw2s_jax.method import registry
from selw2s_jax.report import kernel_forms, stored

REALISED = "realised_gap"
# What is to order pairs as the realised gap does; the second and third take no truth.
PREDICTORS = {
    "gap": "predicted gap, with truth",
    "weak_label_gap": "predicted gap, with weak labels",
    "operator_norm": "operator norm",
}
_MEASURES = (*PREDICTORS, *kernel_forms.DIMENSIONS, REALISED)
_MOST = {
    "gap": 0.25,
    "weak_label_gap": 0.25,
    "operator_norm": 1.0,
    REALISED: 1.0,
}  # the dimensions have no bound


def realised_gap(run: stored.Run, seed: int) -> float | None:
    """Mean (g - f)^2 over the test set of the ceiling g and `finetune` f; None until both are finished."""
    if seed not in run.common_seeds("ceiling", registry.BASELINE):
        return None
    ceiling, student = (run.predictions[name][seed] for name in ("ceiling", registry.BASELINE))
    return float(np.mean((ceiling.astype(np.float64) - student) ** 2))


def seed_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Per seed the entry of results.json, with the models and the realised gap."""
    pair = {"weak": run.weak, "strong": run.strong}
    return [pair | entry | {REALISED: realised_gap(run, entry["seed"])} for entry in run.kernels]


def pair_row(run: stored.Run) -> dict[str, Any]:
    """Means over the seeds, each with Student's 95 % interval cut at what can be, which more than one seed has."""
    rows = seed_rows(run)
    row: dict[str, Any] = {"weak": run.weak, "strong": run.strong, "num_seeds": len(rows)}
    row["n"] = min(of_seed["n"] for of_seed in rows)
    for name in _MEASURES:
        values = [of_seed[name] for of_seed in rows if of_seed[name] is not None]
        interval = metrics.mean_interval(values)
        row[name] = float(np.mean(values)) if values else None
        row[f"{name}_interval"] = interval and (
            max(interval[0], 0.0),
            min(interval[1], _MOST.get(name, np.inf)),
        )
    return row


def rank_rows(pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per predictor Spearman's rank correlation with the realised gap over `pair_row`s; None below three pairs."""
    there = [row for row in pairs if row[REALISED] is not None]
    rows = []
    for name, heading in PREDICTORS.items():
        found = ranks.spearman([row[name] for row in there], [row[REALISED] for row in there])
        rows.append(
            {
                "predictor": heading,
                "num_pairs": len(there),
                "rho": None if found is None else found.rho,
                "p_value": None if found is None else found.p_value,
            }
        )
    return rows
