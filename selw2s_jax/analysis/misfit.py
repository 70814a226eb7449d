"""Misfit: how far a student is from its weak labels, and the gain over the weak model that this predicts.

Where a student is the model of a convex class that is nearest to the weak labels, and the target is in that class, the
squared error obeys error(student) <= error(weak) - misfit (Charikar, Pabbaraju and Shiragur 2024, arXiv 2405.15116:
"Quantifying the gain in weak-to-strong generalization"), so the gain is at least the misfit. For cross-entropy the
misfit is KL(student || weak), student first (Mulgund and Pabbaraju 2025, arXiv 2501.19105), the direction of the loss
`reverse_kl`. Real students need not obey it: the slack, gain less misfit, says by how much they do not.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special

KINDS = ("squared", "kl")
CLIP = 1e-6  # how far from 0 and 1 the probabilities of weak model and student are kept, for "kl"


def misfit_gain(
    weak: npt.ArrayLike, student: npt.ArrayLike, target: npt.ArrayLike, *, kind: str = "squared"
) -> dict[str, float]:
    """Errors of weak model and student, the gain, and the misfit that predicts it; means over items.

        squared: E_w = mean (w-y)^2    E_f = mean (f-y)^2    misfit = mean (f-w)^2
        kl:      E_w = mean KL(y||w)   E_f = mean KL(y||f)   misfit = mean KL(f||w)

    gain = E_w - E_f, slack = gain - misfit, predicted_error = E_w - misfit. For any three vectors the slack is
    2 mean (w-f)(f-y), and for "kl" mean sum_c (y-f)_c (log f - log w)_c; it is negative where the inequality does not
    hold. Logistic heads f that are trained to the optimum by cross-entropy on w are nearest in the other direction:
    KL(w||t) = KL(w||f) + KL(f||t) for every t of their class, so that `misfit_gain(t, f, w, kind="kl")` has no slack.

    Args:
        weak, student, target: `[N]` probabilities of class 1; the target is 0 or 1, or a probability of another model.
        kind: of error. KL is in nats, with w and f clipped to [1e-6, 1 - 1e-6] and y as it is.

    Returns:
        error_weak, error_student, gain, misfit, slack, predicted_error, float64.

    Raises:
        ValueError: another kind, arrays that are empty or of several lengths, or values outside of [0, 1].
    """
    parts = item_errors(weak, student, target, kind=kind)
    return _summary(*(float(np.mean(part)) for part in parts))


def item_errors(
    weak: npt.ArrayLike, student: npt.ArrayLike, target: npt.ArrayLike, *, kind: str = "squared"
) -> np.ndarray:
    """Of each item the error of the weak model, that of the student, and the misfit: `[3, N]` float64.

    Args, Raises: of `misfit_gain`.
    """
    if kind not in KINDS:
        raise ValueError(f"the kind of error is one of {', '.join(KINDS)}, not {kind!r}")
    w, f, y = check_probabilities(weak=weak, student=student, target=target)
    error: Callable[[np.ndarray, np.ndarray], np.ndarray] = _squared
    if kind == "kl":
        w, f = (np.clip(values, CLIP, 1 - CLIP) for values in (w, f))
        error = _divergence
    return np.stack([error(y, w), error(y, f), error(f, w)])


def check_probabilities(**arrays: npt.ArrayLike) -> list[np.ndarray]:
    """Probabilities of the same items as float64 `[N]`.

    Raises:
        ValueError: they are empty, of several lengths, or not all within [0, 1].
    """
    checked = [np.asarray(values, np.float64) for values in arrays.values()]
    shapes = {values.shape for values in checked}
    if len(shapes) > 1 or any(len(shape) != 1 or not shape[0] for shape in shapes):
        raise ValueError(f"need non-empty arrays of one length, got {[values.shape for values in checked]}")
    for name, values in zip(arrays, checked, strict=True):
        if not ((values >= 0) & (values <= 1)).all():  # nor is NaN
            raise ValueError(f"{name} has values that are no probabilities")
    return checked


def _squared(of: np.ndarray, model: np.ndarray) -> np.ndarray:
    return (of - model) ** 2


def _divergence(of: np.ndarray, model: np.ndarray) -> np.ndarray:
    """KL(of || model) of two classes; the second has no 0."""
    return special.rel_entr(of, model) + special.rel_entr(1 - of, 1 - model)


def _summary(error_weak: float, error_student: float, misfit: float) -> dict[str, float]:
    gain = error_weak - error_student
    return {
        "error_weak": error_weak,
        "error_student": error_student,
        "gain": gain,
        "misfit": misfit,
        "slack": gain - misfit,
        "predicted_error": error_weak - misfit,
    }
