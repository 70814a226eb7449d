"""In which order examples are trained on."""

import hashlib

import numpy as np


def stream_seed(seed: int, kind: int) -> int:
    """Seed of the order of one kind of examples."""
    # A hash, so that seeds 0, 1, ... and kinds give streams without relation; Python's own differs by process.
    digest = hashlib.sha256(f"{seed}/order/{kind}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


class ExampleOrder:
    """Which examples a step takes: a pure function of (seed, step).

    Batches run across epoch ends; each epoch is a permutation keyed by (seed, epoch), or always the first
    one with `reshuffle=False`.
    """

    def __init__(self, num_examples: int, batch_size: int, *, seed: int, reshuffle: bool = True):
        if num_examples < 1:
            raise ValueError("an order needs at least one example")
        self._num_examples, self._batch_size = num_examples, batch_size
        self._seed, self._reshuffle = seed, reshuffle
        self._permutations: dict[int, np.ndarray] = {}

    def _permutation(self, epoch: int) -> np.ndarray:
        key = epoch if self._reshuffle else 0
        if key not in self._permutations:
            # Steps mostly come in order, a few epochs at a time: what is forgotten is made again.
            if len(self._permutations) > 8:
                self._permutations.clear()
            generator = np.random.default_rng([self._seed, key])
            self._permutations[key] = generator.permutation(self._num_examples)
        return self._permutations[key]

    def indices(self, step: int) -> np.ndarray:
        """`[batch_size]` indices of the examples of one step."""
        # One endless stream of epochs, cut into batches: no example is left out where epochs end inside a batch.
        stream = step * self._batch_size + np.arange(self._batch_size)
        epochs, offsets = np.divmod(stream, self._num_examples)
        return np.array(
            [self._permutation(int(epoch))[offset] for epoch, offset in zip(epochs, offsets, strict=True)]
        )
