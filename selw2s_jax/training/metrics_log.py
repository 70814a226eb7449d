"""Metrics of each step as JSON lines and TensorBoard events."""

import json

from etils import epath

from selw2s_jax import errors
from selw2s_jax.runtime import distributed, storage


class MetricsLog:
    """Metrics of each step as JSON lines, and as TensorBoard events where asked for; process 0 writes them.

    Args:
        path: of the JSON lines file.
        first_step: of this call; what the file says of earlier steps is kept, the rest of it is not.
        tensorboard_dir: folder of the event files, or None.
        every_steps: log one step in so many, and the last.
    """

    def __init__(self, path, *, first_step: int = 0, tensorboard_dir=None, every_steps: int = 1):
        self._path = epath.Path(path)
        self._every_steps = every_steps
        self._file, self._writer = None, None
        self._lines: list[str] = []
        self._writing = distributed.Deferred()
        distributed.main_only(lambda: self._open(first_step, tensorboard_dir))

    def _open(self, first_step: int, tensorboard_dir) -> None:
        storage.make_folder(self._path.parent)
        self._lines = _lines_before(self._path, first_step)
        storage.write_bytes(self._path, "".join(self._lines).encode())
        if storage.is_local(self._path):
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        if tensorboard_dir is not None:
            import tensorboardX

            self._writer = tensorboardX.SummaryWriter(str(tensorboard_dir), purge_step=first_step)

    def write(self, step: int, metrics: dict[str, float], *, last: bool = False) -> None:
        if last or step % self._every_steps == 0:
            self._writing.run(lambda: self._write(step, metrics))

    def _write(self, step: int, metrics: dict[str, float]) -> None:
        record = {"step": step} | {f"train/{name}": value for name, value in metrics.items()}
        line = json.dumps(record) + "\n"
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        else:
            self._lines.append(line)
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(f"train/{name}", value, step)

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
        if self._writer is not None:
            self._writer.close()


def _lines_before(path: epath.Path, first_step: int) -> list[str]:
    """The whole lines of a log that are of earlier steps."""
    if not first_step or not path.exists():
        return []
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            step = errors.parse_json(line)["step"]
            is_kept = step < first_step
        except (ValueError, KeyError, TypeError):
            break  # half a line of a process that was killed
        if is_kept and line.endswith("\n"):
            kept.append(line)
    return kept
