"""Metrics of each step as JSON lines, and to the loggers that the config names."""

import json
from collections.abc import Callable, Sequence

from etils import epath

from selw2s_jax import errors
from selw2s_jax.runtime import distributed, storage
from selw2s_jax.training import loggers


class MetricsLog:
    """Metrics of each step as JSON lines, and to other loggers; process 0 writes them.

    Args:
        path: of the JSON lines file.
        first_step: of this call; what the file says of earlier steps is kept, the rest of it is not.
        every_steps: log one step in so many, and the last.
        start: makes the other loggers, of the first step that the file said nothing of.
    """

    def __init__(
        self,
        path,
        *,
        first_step: int = 0,
        every_steps: int = 1,
        start: Callable[[int], Sequence[loggers.Logger]] = lambda next_step: (),
    ):
        self._path = epath.Path(path)
        self._every_steps = every_steps
        self._file, self._others = None, ()
        self._lines: list[str] = []
        self._writing = distributed.Deferred()
        distributed.main_only(lambda: self._open(first_step, start))

    def _open(self, first_step: int, start: Callable[[int], Sequence[loggers.Logger]]) -> None:
        storage.make_folder(self._path.parent)
        before = _steps(self._path) if first_step else []
        self._lines = [line for step, line in before if step < first_step]
        storage.write_bytes(self._path, "".join(self._lines).encode())
        if storage.is_local(self._path):
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._others = start(before[-1][0] + 1 if before else first_step)

    def write(self, step: int, metrics: dict[str, float], *, last: bool = False) -> None:
        if last or step % self._every_steps == 0:
            self._writing.run(lambda: self._write(step, metrics))

    def _write(self, step: int, metrics: dict[str, float]) -> None:
        values = {f"train/{name}": value for name, value in metrics.items()}
        line = json.dumps({"step": step} | values) + "\n"
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        else:
            self._lines.append(line)
        for logger in self._others:
            logger.log(step, values)

    def settle(self) -> None:
        """Makes sure that all lines so far are in the file; all processes call this together.

        Raises:
            OSError: the file system refused one.
            UserError: so it did on process 0.
        """
        if not storage.is_local(self._path):  # object stores cannot append
            self._writing.run(lambda: storage.write_bytes(self._path, "".join(self._lines).encode()))
        self._writing.settle()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        for logger in self._others:
            logger.close()


def _steps(path: epath.Path) -> list[tuple[int, str]]:
    """The whole lines of a log with their steps."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            step = int(errors.parse_json(line)["step"])
        except (ValueError, KeyError, TypeError):
            break  # half a line of a process that was killed
        if line.endswith("\n"):
            found.append((step, line))
    return found
