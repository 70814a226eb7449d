"""Errors of a student where the strong model can know and its weak teacher does not.

The areas are those of "Super(ficial)-alignment" (Yang et al. 2024, arXiv 2406.11431): strong-known is measured on the
ceiling, weak-unknown on the weak model. That paper asks how many of the errors that a *conflict* in training causes lie
where both hold; without such a conflict a share of errors there is no sign of one, as a student that copies its teacher
has errors there too. So the lift stands beside the share. Blind spots follow arXiv 2604.25077; the thresholds are ours.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from selw2s_jax.analysis import misfit

KNOWN_BY = ("right", "any")
THRESHOLD = 0.75
# Whether the ceiling knows, and whether the weak model does not.
AREAS = {
    "strong_known_weak_unknown": (True, True),
    "strong_known_weak_known": (True, False),
    "strong_unknown_weak_unknown": (False, True),
    "strong_unknown_weak_known": (False, False),
}


def known_errors(
    weak: npt.ArrayLike,
    ceiling: npt.ArrayLike,
    student: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    threshold: float = THRESHOLD,
    known_by: str = "right",
    reference: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """The share of a student's errors that lie where the ceiling knows and the weak model does not.

        SK: p_ceiling >= T    WU: p_weak < T    score = |errors in SK and WU| / |errors|
        share_of_area = |SK and WU| / N         lift = score / share_of_area

    Args:
        weak, ceiling, student: `[N]` probabilities of class 1.
        truth: `[N]` 0 or 1.
        threshold: T.
        known_by: p is the probability of the "right" class, or that of "any", the larger one of the two.
        reference: `[N]` probabilities of class 1 of another model: errors are then the items that the student gets
            wrong and the reference right. None for all that the student gets wrong.

    Returns:
        score: None without errors.
        share_of_area: of all items.
        lift: above 1 where errors are more frequent in the area than on all items; None without errors or items there.
        n, errors: numbers of items and errors.
        errors_by_area: for each of `AREAS`, the numbers `n` and `errors` and the `error_rate`, None without items.

    Raises:
        ValueError: arrays that are empty or of several lengths, values outside of [0, 1], another `known_by`.
    """
    wrong, known, unknown = item_areas(
        weak, ceiling, student, truth, threshold=threshold, known_by=known_by, reference=reference
    )
    by_area: dict[str, dict[str, Any]] = {}
    for name, (is_known, is_unknown) in AREAS.items():
        there = (known == is_known) & (unknown == is_unknown)
        errors = int((wrong & there).sum())
        by_area[name] = {"n": int(there.sum()), "errors": errors}
        by_area[name]["error_rate"] = float(wrong[there].mean()) if there.any() else None
    area, num_items, num_errors = by_area["strong_known_weak_unknown"], len(wrong), int(wrong.sum())
    return {
        "score": area["errors"] / num_errors if num_errors else None,
        "share_of_area": area["n"] / num_items,
        # One division, so that errors as frequent as on all items have a lift of exactly 1.
        "lift": area["errors"] * num_items / (num_errors * area["n"]) if num_errors and area["n"] else None,
        "n": num_items,
        "errors": num_errors,
        "errors_by_area": by_area,
    }


def item_areas(
    weak: npt.ArrayLike,
    ceiling: npt.ArrayLike,
    student: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    threshold: float = THRESHOLD,
    known_by: str = "right",
    reference: npt.ArrayLike | None = None,
) -> np.ndarray:
    """Whether each item is an error, whether the ceiling knows, and whether the weak model does not: `[3, N]` bool.

    Args, Raises: of `known_errors`.
    """
    if known_by not in KNOWN_BY:
        raise ValueError(f"an answer is known by one of {', '.join(KNOWN_BY)}, not {known_by!r}")
    weak, ceiling, student, right = misfit.check_probabilities(
        weak=weak, ceiling=ceiling, student=student, truth=truth
    )
    is_one = right > 0.5
    wrong = (student > 0.5) != is_one
    if reference is not None:
        reference, _ = misfit.check_probabilities(reference=reference, truth=truth)
        wrong &= (reference > 0.5) == is_one

    def confidence(probs: np.ndarray) -> np.ndarray:
        return np.where(is_one, probs, 1 - probs) if known_by == "right" else np.maximum(probs, 1 - probs)

    return np.stack([wrong, confidence(ceiling) >= threshold, confidence(weak) < threshold])


def blind_spots(
    weak: npt.ArrayLike,
    student: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    student_threshold: float,
    weak_threshold: float,
) -> dict[str, Any]:
    """Items of which the student is sure and wrong, and the weak model, whose labels it learned, was not sure.

    Args:
        weak, student: `[N]` probabilities of class 1.
        truth: `[N]` 0 or 1.
        student_threshold, weak_threshold: the student's larger probability is at least the first one, the weak
            model's is below the second.

    Returns:
        share: of all items that are blind spots.
        share_of_errors: of the student's errors; None without errors.
        n, spots, errors: numbers of items, of blind spots and of errors.
        variance: of the student's probability of class 1 over the items (of the whole, not of a sample).

    Raises:
        ValueError: arrays that are empty or of several lengths, or values outside of [0, 1].
    """
    thresholds = {"student_threshold": student_threshold, "weak_threshold": weak_threshold}
    is_spot = item_spots(weak, student, truth, **thresholds)
    student = np.asarray(student, np.float64)
    errors = int(((student > 0.5) != (np.asarray(truth) > 0.5)).sum())
    spots = int(is_spot.sum())
    return {
        "share": spots / len(is_spot),
        "share_of_errors": spots / errors if errors else None,
        "n": len(is_spot),
        "spots": spots,
        "errors": errors,
        "variance": float(np.var(student)),
    }


def item_spots(
    weak: npt.ArrayLike,
    student: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    student_threshold: float,
    weak_threshold: float,
) -> np.ndarray:
    """Whether each item is a blind spot: `[N]` bool.

    Args, Raises: of `blind_spots`.
    """
    weak, student, right = misfit.check_probabilities(weak=weak, student=student, truth=truth)
    wrong = (student > 0.5) != (right > 0.5)
    sure = np.maximum(student, 1 - student) >= student_threshold
    return wrong & sure & (np.maximum(weak, 1 - weak) < weak_threshold)
