"""Which rows are handed on: against a slow reference, on ties and odd sizes."""

import numpy as np
import pytest

from selw2s_jax.method import stages_of_labels


@pytest.mark.parametrize(
    ("num_rows", "share", "kept"),
    [
        (7, 0.5, 3),
        (7, 1.0, 7),
        (7, 0, 0),
        (1, 0.99, 0),
        (0, 0.5, 0),
        (100, 0.29, 29),
        (90, 0.7, 63),
        (3, 0.34, 1),
    ],
)
def test_counts_are_rounded_down_of_shares_as_they_are_written(num_rows, share, kept):
    assert stages_of_labels.num_kept(num_rows, share) == kept


def slow_reference(ids: list[str], probs: list[float], count: int) -> list[str]:
    """Takes the surest row that is left, again and again; of equally sure ones the first by its id."""
    left, taken = list(zip(ids, probs, strict=True)), []
    for _ in range(count):
        surest = max(max(p, 1 - p) for _, p in left)
        name, p = min((name, p) for name, p in left if max(p, 1 - p) == surest)
        left.remove((name, p))
        taken.append(name)
    return taken


@pytest.mark.parametrize("num_rows", [1, 2, 13, 57])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_most_confident_come_first_and_ties_by_id(num_rows, share):
    rng = np.random.default_rng([num_rows, int(10 * share)])
    ids = [f"task/{number}" for number in rng.permutation(num_rows)]
    for probs in (
        rng.random(num_rows),
        rng.integers(0, 5, num_rows) / 4,  # many ties, also of p with 1 - p
        np.full(num_rows, 0.5),
        rng.random(num_rows).astype(np.float32),
    ):
        chosen = stages_of_labels.most_confident(ids, probs, share)
        assert chosen == slow_reference(ids, probs.astype(np.float64).tolist(), int(share * num_rows))
        shuffled = rng.permutation(num_rows)
        assert chosen == stages_of_labels.most_confident([ids[i] for i in shuffled], probs[shuffled], share)


def test_what_is_no_share_or_no_probability_is_refused():
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            stages_of_labels.most_confident(["a"], [0.5], share)
    for prob in (1.5, -0.5, float("nan")):
        with pytest.raises(ValueError, match="probabilities of class 1"):
            stages_of_labels.most_confident(["a"], [prob], 0.5)
    with pytest.raises(ValueError, match="give one for each"):
        stages_of_labels.most_confident(["a", "b"], [0.5], 0.5)
