"""The numbers of a report on errors where the ceiling knows and the weak model does not, and on blind spots.

Of test sets whose models give probabilities; a share or lift is that over the items of all seeds together.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from selw2s_jax.analysis import blind_spots, resampling
from selw2s_jax.method import registry
from selw2s_jax.report import probabilities, stored

THRESHOLDS = tuple(np.round(np.linspace(0.5, 0.95, 10), 2).tolist())  # of the curve
# Against whom an answer is an error: of every student, or only where this model is right.
REFERENCES = {None: "truth", "ceiling": "ceiling", registry.BASELINE: registry.BASELINE}
AREA = "strong_known_weak_unknown"
_CACHED = 256


@functools.lru_cache(_CACHED)
def rows(run: stored.Run, reference: str | None = None) -> list[dict[str, Any]]:
    """The weak model and each student: `blind_spots.known_errors` over seeds, lift and its excess with intervals.

    The excess is the lift less that of the weak model's own errors, which a student that copies it has.

    Args:
        reference: errors are what this model gets right; None for all.
    """
    found = {}
    others = ["ceiling"] if reference is None else ["ceiling", reference]
    students = [name for name in run.predictions if name not in ("weak", "ceiling", reference)]
    by_seeds = probabilities.by_seeds(run, students, "weak", *others)
    # The weak model has the row of the most seeds; an excess is against its lift in the student's own seeds.
    for seeds in sorted(by_seeds, key=len, reverse=True):
        for row in _rows(run, ["weak", *by_seeds[seeds]], seeds, reference):
            found.setdefault(row["method"], row)
    return [found[method] for method in run.predictions if method in found]


def _rows(
    run: stored.Run, methods: Sequence[str], seeds: Sequence[int], reference: str | None
) -> Iterator[dict[str, Any]]:
    """Of methods of the same seeds, the weak model first."""
    areas = np.stack([_item_areas(run, method, seeds, reference) for method in methods])
    inside = areas[:, 1] & areas[:, 2]
    values = np.concatenate([areas[:, 0], areas[:, 0] & inside, inside[:1]])
    draws = resampling.bootstrap_means(values).T
    with np.errstate(divide="ignore", invalid="ignore"):
        lifts = draws[len(methods) : -1] / (draws[: len(methods)] * draws[-1])
    of_methods = [_pooled(run, method, seeds, reference) for method in methods]
    for method, one, of_draws in zip(methods, of_methods, lifts, strict=True):
        both = None in (one["lift"], of_methods[0]["lift"]) or method == "weak"
        rates = {f"{area}_rate": part["error_rate"] for area, part in one["errors_by_area"].items()}
        yield {
            "method": method,
            "reference": REFERENCES[reference],
            "lift": one["lift"],
            "lift_interval": None if one["lift"] is None else resampling.percentiles(of_draws),
            "excess": None if both else one["lift"] - of_methods[0]["lift"],
            "excess_interval": None if both else resampling.percentiles(of_draws - lifts[0]),
            "score": one["score"],
            "share_of_area": one["share_of_area"],
            **rates,
            "errors": one["errors"],
            "n": one["n"],
            "num_seeds": len(seeds),
        }


def _arguments(
    run: stored.Run, method: str, seeds: Sequence[int], reference: str | None
) -> dict[str, np.ndarray | None]:
    """Of `blind_spots.known_errors`, over the items of all seeds."""
    arrays = {
        name: probabilities.of_method(run, model, seeds).ravel()
        for name, model in (("weak", "weak"), ("ceiling", "ceiling"), ("student", method))
    }
    of_reference = None if reference is None else probabilities.of_method(run, reference, seeds).ravel()
    return arrays | {"truth": np.tile(run.truth, len(seeds)), "reference": of_reference}


def _item_areas(run: stored.Run, method: str, seeds: Sequence[int], reference: str | None) -> np.ndarray:
    """Of `blind_spots.item_areas`: `[3, S, N]`."""
    areas = blind_spots.item_areas(**_arguments(run, method, seeds, reference))
    return areas.reshape(3, len(seeds), -1)


def _pooled(
    run: stored.Run,
    method: str,
    seeds: Sequence[int],
    reference: str | None = None,
    threshold: float = blind_spots.THRESHOLD,
) -> dict[str, Any]:
    return blind_spots.known_errors(**_arguments(run, method, seeds, reference), threshold=threshold)


def area_shares(run: stored.Run) -> tuple[float, float]:
    """The shares of items that the ceiling knows, and that the weak model does not, over the seeds of both."""
    seeds = probabilities.common_seeds(run, "weak", "ceiling")
    _, known, unknown = _item_areas(run, "weak", seeds, None)
    return float(known.mean()), float(unknown.mean())


def seed_rows(run: stored.Run) -> list[dict[str, Any]]:
    """The weak model and each student by seed: `blind_spots.known_errors`, all errors."""
    students = [name for name in run.predictions if name != "ceiling"]
    found = []
    for seeds, methods in probabilities.by_seeds(run, students, "weak", "ceiling").items():
        for method in methods:
            for seed in seeds:
                one = _pooled(run, method, [seed])
                names = ("lift", "score", "share_of_area", "errors", "n")
                found.append({"method": method, "seed": seed, **{name: one[name] for name in names}})
    return found


def curves(run: stored.Run) -> dict[str, list[dict[str, Any]]]:
    """By method, weak model first, `blind_spots.known_errors` over all seeds at each of `THRESHOLDS`."""
    return {
        method: [_pooled(run, method, seeds, threshold=threshold) for threshold in THRESHOLDS]
        for row in rows(run)
        for method in [row["method"]]
        if (seeds := probabilities.common_seeds(run, method, "weak", "ceiling"))
    }


def curve_rows(of_methods: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """`curves` as rows."""
    return [
        {"method": method, "threshold": threshold}
        | {name: one[name] for name in ("lift", "score", "share_of_area")}
        for method, of_thresholds in of_methods.items()
        for threshold, one in zip(THRESHOLDS, of_thresholds, strict=True)
    ]


def spot_rows(run: stored.Run) -> list[dict[str, Any]]:
    """Each student: `blind_spots.blind_spots` over the items of all seeds, with the interval of the share."""
    found = {}
    students = [name for name in run.predictions if name not in registry.REFERENCES]
    for seeds, methods in probabilities.by_seeds(run, students, "weak").items():
        arguments = [_spot_arguments(run, method, seeds) for method in methods]
        items = [blind_spots.item_spots(**one).reshape(len(seeds), -1) for one in arguments]
        draws = resampling.bootstrap_means(np.stack(items)).T
        for method, one, of_draws in zip(methods, arguments, draws, strict=True):
            interval = resampling.percentiles(of_draws)
            row = blind_spots.blind_spots(**one)
            found[method] = {"method": method, "num_seeds": len(seeds), "share_interval": interval, **row}
    return [found[method] for method in students if method in found]


def _spot_arguments(run: stored.Run, method: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Of `blind_spots.blind_spots`, over the items of all seeds."""
    return {
        "weak": probabilities.of_method(run, "weak", seeds).ravel(),
        "student": probabilities.of_method(run, method, seeds).ravel(),
        "truth": np.tile(run.truth, len(seeds)),
        "student_threshold": blind_spots.THRESHOLD,
        "weak_threshold": blind_spots.THRESHOLD,
    }


def size_ratio(run: stored.Run) -> float | None:
    """How many times as large the strong model is as the weak one, by layers times width squared; None where unknown.

    That is what parameters outside of the embeddings grow with (Kaplan et al. 2020, arXiv 2001.08361).
    """
    sizes = []
    for role in ("weak", "strong"):
        of_model = run.manifest["models"].get(role, {}).get("sizes")
        values = (
            [of_model.get(name) for name in ("num_layers", "embed_dim")]
            if isinstance(of_model, dict)
            else [0]
        )
        if not all(type(value) is int and value > 0 for value in values):
            return None
        sizes.append(values[0] * values[1] ** 2)
    return sizes[1] / sizes[0]
