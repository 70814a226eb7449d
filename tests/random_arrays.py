"""Random logits, labels and masks for the tests of the method."""

import numpy as np

GARBAGE = (np.nan, np.inf, -np.inf, 1e30)


def random_batch(seed: int, num_rows: int, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[B, 2]` and weak probabilities `[B, 2]`, float32."""
    rng = np.random.default_rng(seed)
    prob_1 = rng.random(num_rows).astype(np.float32)
    logits = scale * rng.standard_normal((num_rows, 2)).astype(np.float32)
    return logits, np.stack([np.float32(1) - prob_1, prob_1], axis=-1)


def random_mask(seed: int, num_rows: int, count: int | None = None) -> np.ndarray:
    """A mask `[B]` with `count` rows True, by default a random number of at least one."""
    rng = np.random.default_rng([seed, 1])
    return rng.permutation(num_rows) < (count or rng.integers(1, num_rows + 1))


def with_garbage(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy whose masked rows hold NaN, infinities and huge values."""
    array = array.copy()
    for i, row in enumerate(np.flatnonzero(~mask)):
        array[row] = GARBAGE[i % len(GARBAGE)]
    return array
