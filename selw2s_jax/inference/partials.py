"""Work on the examples of a split that was stopped under way, and goes on."""

import hashlib
import io
import time

import numpy as np
from etils import epath

from selw2s_jax.runtime import distributed, storage


class Partial:
    """Scores of a split under way, in a file: a run that is stopped goes on after the batches that it has done.

    The file starts with a digest of the rest: one that is damaged counts as none.

    Args:
        path: of the file.
        every_s: seconds between two writes; it is also written when the run is told to stop.
    """

    def __init__(self, path: epath.Path, *, every_s: float = 600.0):
        self._path, self._every_s = path, every_s
        self._last = time.monotonic()
        self._writing = distributed.Deferred()

    def part(self, name: str) -> "Partial":
        """Of a part of the split that is scored by itself, in a file beside this one."""
        return Partial(self._path.with_name(f"{self._path.stem}_{name}.npz"), every_s=self._every_s)

    def load(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Indices `[n]` of the examples that are done, and their scores, `[n, ...]` each; none without a sound file."""
        content = distributed.agree(lambda: storage.read_bytes(self._path)) or b""
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        is_sound = len(digest) == _DIGEST_BYTES and digest == _digest(data)
        # NFS may show hosts different files: they go on from one and the same.
        seen = distributed.gather(digest.hex() if is_sound else None)
        if seen[0] is None or len(set(seen)) > 1:
            return np.zeros(0, np.int64), []
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return arrays["index"], [arrays[f"scores_{i}"] for i in range(len(arrays.files) - 1)]

    def save(self, index: np.ndarray, scores: list[np.ndarray]) -> None:
        """Replaces the file; process 0 does, and `settle` tells how it went."""

        def write() -> None:
            file = io.BytesIO()
            np.savez(file, index=index, **{f"scores_{i}": array for i, array in enumerate(scores)})
            storage.make_folder(self._path.parent)
            storage.write_bytes(self._path, _digest(file.getvalue()) + file.getvalue())

        self._writing.run(write)
        self._last = time.monotonic()

    def settle(self) -> None:
        """Raises what kept the file from being written; all processes call this together."""
        self._writing.settle()

    def is_due(self) -> bool:
        return time.monotonic() - self._last > self._every_s


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


_DIGEST_BYTES = 20
