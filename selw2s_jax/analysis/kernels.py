"""What a strong student will not learn of a weak teacher's errors, predicted from embeddings (arXiv:2502.00620).

A ridge head on a model's embeddings turns any labels of the rows into P times them: P is near 1 on the directions that
are principal in the embeddings, and near 0 on those that are not. What is principal for the student and not for its
teacher, `P_s (I - P_w)`, is what the student could have learned of the truth and the teacher could not show it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class _Smoother(NamedTuple):
    """P of a model: what its ridge head makes of labels.

    Attributes:
        directions: `[n, k]` orthonormal columns.
        kept: `[k]` the share of each that P keeps, in [0, 1]; all else it makes 0.
    """

    directions: np.ndarray
    kept: np.ndarray

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        return self.directions @ (self.kept * (self.directions.T @ labels))


def predicted_gap(
    weak_embeddings: npt.ArrayLike,
    strong_embeddings: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    regularization: float = 0.1,
    center: bool = True,
    components: int | None = None,
) -> dict[str, Any]:
    """How far a student of weak labels is predicted to stay from one of the truth.

        K = H H' / n      P = K (K + beta I)^-1      beta = regularization * trace(K) / n
        gap = mean (P_s (I - P_w) y)^2

    Where both models are ridge heads, fitted and read on these rows, gap is exactly mean (g - f)^2 of the ceiling g,
    fitted to y, and the student f, fitted to the outputs of the weak head. Neither scale nor rotation of embeddings
    changes any number. Computed in float64 in matrices of n x n: some seconds and 0.3 GB for n = 2000.

    Args:
        weak_embeddings, strong_embeddings: `[n, D_w]` and `[n, D_s]` of the same rows in the same order.
        target: `[n]` labels, such as truth in {0, 1}; weak labels in its place make a gap that takes no truth.
        regularization: above 0; of the ridge, in the scale of the mean eigenvalue of K.
        center: whether columns of H and the target are centred, which is what a bias of the heads does.
        components: of H that are kept, its largest principal ones; None for all. Beta is then of what is kept.

    Returns:
        `gap`; `operator_norm`, ||P_s (I - P_w)||_2 in [0, 1], which no label enters: gap is at most its square times
        the mean of y^2; `effective_dimension_weak` and `effective_dimension_strong`, trace P; and `per_example` `[n]`,
        the squares that gap is the mean of.

    Raises:
        ValueError: shapes do not go together, values are not finite, or an option is out of its range.
    """
    options: dict[str, Any] = {"regularization": regularization, "center": center, "components": components}
    return predicted_gaps(weak_embeddings, strong_embeddings, {"": target}, **options)[""]


def predicted_gaps(
    weak_embeddings: npt.ArrayLike,
    strong_embeddings: npt.ArrayLike,
    targets: Mapping[str, npt.ArrayLike],
    *,
    regularization: float = 0.1,
    center: bool = True,
    components: int | None = None,
) -> dict[str, dict[str, Any]]:
    """`predicted_gap` of several targets by name, in about the time of one."""
    if not 0 < regularization < np.inf:
        raise ValueError(f"regularization={regularization} must be above 0")
    labels = {name: _labels(target, center) for name, target in targets.items()}
    lengths = {len(values) for values in labels.values()}
    if len(lengths) != 1:
        raise ValueError(f"targets must be one or more of one length, got lengths {sorted(lengths)}")
    (num_rows,) = lengths
    weak, strong = (
        _smoother(name, embeddings, num_rows, regularization, center, components)
        for name, embeddings in (("weak", weak_embeddings), ("strong", strong_embeddings))
    )
    of_models = {
        "operator_norm": _operator_norm(weak, strong),
        "effective_dimension_weak": float(weak.kept.sum()),
        "effective_dimension_strong": float(strong.kept.sum()),
    }
    found = {}
    for name, values in labels.items():
        per_example = strong(values - weak(values)) ** 2
        found[name] = {"gap": float(per_example.mean()), **of_models, "per_example": per_example}
    return found


def _labels(target: npt.ArrayLike, center: bool) -> np.ndarray:
    labels = np.asarray(target, np.float64)
    if labels.ndim != 1 or len(labels) < 2 or not np.isfinite(labels).all():
        raise ValueError(f"target must be two or more finite numbers [n], got shape {labels.shape}")
    return labels - labels.mean() if center else labels


def _smoother(
    name: str,
    embeddings: npt.ArrayLike,
    num_rows: int,
    regularization: float,
    center: bool,
    components: int | None,
) -> _Smoother:
    rows = np.asarray(embeddings, np.float64)
    if rows.ndim != 2 or len(rows) != num_rows or not rows.shape[1]:
        raise ValueError(
            f"{name}_embeddings must be [n, D] with the n={num_rows} of target, got shape {rows.shape}"
        )
    if not np.isfinite(rows).all():
        raise ValueError(f"{name}_embeddings hold a number that is not finite")
    most = min(rows.shape)
    if components is not None and not 1 <= components <= most:
        raise ValueError(
            f"components={components} must lie in [1, {most}] for {name}_embeddings {rows.shape}"
        )
    variances, directions = np.linalg.eigh(_kernel(rows, center))  # ascending
    # Rounding leaves eigenvalues of this size where there are none.
    is_there = variances > num_rows * np.finfo(np.float64).eps * variances[-1]
    is_there[: 0 if components is None else num_rows - components] = False
    variances, directions = variances[is_there], directions[:, is_there]
    # An eigenvalue over itself and beta, with the trace divided out of both.
    shares = variances / variances.sum()
    return _Smoother(directions, shares / (shares + regularization / num_rows))


def _kernel(rows: np.ndarray, center: bool) -> np.ndarray:
    """H H' `[n, n]` but for its scale, which P does not depend on; 0 where no direction is in H."""
    largest = np.abs(rows).max()
    if not largest:
        return np.zeros((len(rows), len(rows)))
    scaled = rows / largest  # squares of very large or small numbers would overflow or vanish
    centered = scaled - scaled.mean(axis=0) if center else scaled
    # Equal rows less their mean are not always 0, and what is left has no meaning.
    noise = max(rows.shape) * np.finfo(np.float64).eps * np.linalg.norm(scaled)
    return centered @ centered.T if np.linalg.norm(centered) > noise else np.zeros((len(rows), len(rows)))


def _operator_norm(weak: _Smoother, strong: _Smoother) -> float:
    """||P_s (I - P_w)||_2, by the square of it in the directions of P_s: [k, k], where [n, n] would be larger."""
    if not strong.kept.size:
        return 0.0
    overlap = strong.kept[:, None] * (strong.directions.T @ weak.directions)
    squared = np.diag(strong.kept**2) - (overlap * (1 - (1 - weak.kept) ** 2)) @ overlap.T
    return float(np.sqrt(max(np.linalg.eigvalsh(squared)[-1], 0.0)))
