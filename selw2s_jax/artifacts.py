"""Content-addressed artifacts of a workdir: atomic to write, verified when read, never made twice.

An artifact is a folder `artifacts/<stage>/<key>`. Its key is the hash of everything that the stage's result
is a function of (settings, hashes of data and weights, the keys of earlier artifacts), so the same inputs find
it, other inputs make another, and all keys are known before anything runs. It appears by one rename, with a
manifest of its inputs and of the size and hash of every file.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from selw2s_jax.errors import UserError

_MANIFEST = "manifest.json"
_KEY_LENGTH = 16


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: Any) -> str:
    """sha256 of a JSON value, hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def artifact_key(stage: str, inputs: Any) -> str:
    """The name of a stage's artifact for these inputs (JSON values)."""
    return content_hash({"stage": stage, "inputs": inputs})[:_KEY_LENGTH]


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces a file at once: readers see the old text or the new, never half."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A finished stage's folder; what is read from it is compared with its manifest first.

    Attributes:
        stage: name of the stage.
        key: hash of its inputs, which names the folder.
        path: the folder.
        files: size and hash of every file, by relative path.
    """

    stage: str
    key: str
    path: pathlib.Path
    files: dict[str, dict[str, Any]]

    def verified(self, name: str) -> pathlib.Path:
        """The path of a file or folder of the artifact, once its content is what was written.

        Raises:
            UserError: it is not.
        """
        path = self.path / name
        members = [member for member in self.files if member == name or member.startswith(f"{name}/")]
        for member in members or [name]:
            if not (self.path / member).is_file() or _hash_file(self.path / member) != self.files.get(member):
                raise UserError(
                    f"artifact {self.stage}/{self.key} is damaged: {member} is not the file that was written; "
                    f"delete {self.path} to make it again"
                )
        return path

    def read_json(self, name: str) -> Any:
        return json.loads(self.verified(name).read_text())

    def read_table(self, name: str) -> dict[str, np.ndarray]:
        """Columns of a parquet file."""
        import pyarrow.parquet as pq

        # ParquetFile, as read_table takes a workdir named `qwen-weak=gpt2` for a partition.
        with pq.ParquetFile(self.verified(name)) as file:
            table = file.read()
        return {column: table[column].to_numpy() for column in table.column_names}


def write_table(path: pathlib.Path, columns: dict[str, Any]) -> None:
    """Writes columns of one length as a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


class Store:
    """The artifacts of one workdir.

    Args:
        workdir: folder that exists and is writable.
    """

    def __init__(self, workdir: pathlib.Path):
        self._root = workdir / "artifacts"
        self._found: dict[tuple[str, str], Artifact] = {}

    def path(self, stage: str, inputs: Any) -> pathlib.Path:
        """Where the artifact of a stage for these inputs is, or will be."""
        return self._root / stage / artifact_key(stage, inputs)

    def find(self, stage: str, inputs: Any) -> Artifact | None:
        """The finished artifact of a stage for these inputs, or None.

        Raises:
            UserError: it is there, but incomplete or made from other inputs than its name says.
        """
        path = self.path(stage, inputs)
        key = path.name
        if (stage, key) in self._found:
            return self._found[stage, key]
        if not path.is_dir():
            return None
        remedy = f"delete {path} to make it again"
        try:
            manifest = json.loads((path / _MANIFEST).read_text())
            recorded, files = [manifest["stage"], manifest["inputs"]], manifest["files"]
            damaged = [name for name, entry in files.items() if not _has_size(path / name, entry["bytes"])]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"artifact {stage}/{key} has no readable manifest; {remedy}") from error
        if canonical_json(recorded) != canonical_json([stage, inputs]):
            raise UserError(f"artifact {stage}/{key} was made from other inputs than this run's; {remedy}")
        if damaged:
            raise UserError(
                f"artifact {stage}/{key} is damaged: {damaged[0]} is missing or has another size; {remedy}"
            )
        self._found[stage, key] = Artifact(stage, key, path, files)
        return self._found[stage, key]

    def make(self, stage: str, inputs: Any, write: Callable[[pathlib.Path], None]) -> Artifact:
        """Makes an artifact: `write(folder)` fills a folder that appears under its name only when complete.

        A failure, or a process killed, leaves at most a hidden folder that the next run removes.
        """
        path = self.path(stage, inputs)
        key = path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{key}.*"):
            shutil.rmtree(stale, ignore_errors=True)
        temporary = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{key}."))
        try:
            write(temporary)
            files = {
                path.relative_to(temporary).as_posix(): _hash_file(path)
                for path in sorted(temporary.rglob("*"))
                if path.is_file()
            }
            manifest = {"stage": stage, "inputs": inputs, "files": files}
            write_text(temporary / _MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
            temporary.chmod(0o755)
            _sync_folder(temporary)
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._found[stage, key] = Artifact(stage, key, path, files)
        return self._found[stage, key]


def fill_once(path: pathlib.Path, write: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """`path`, filled by `write(folder)` and put in place by one rename where it is missing."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            write(temporary)
            temporary.chmod(0o755)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return path


def _sync_folder(path: pathlib.Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _has_size(path: pathlib.Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _hash_file(path: pathlib.Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    return {"bytes": path.stat().st_size, "blake2b": digest}


@contextlib.contextmanager
def locked_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the workdir and holds it for this process alone; the lock dies with the process.

    Raises:
        UserError: the workdir cannot be written, or another run holds it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = os.open(workdir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(
            f"workdir {workdir} cannot be written ({error.strerror}); choose another --workdir"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            raise UserError(
                f"workdir {workdir} is in use by {holder}; wait for it or choose another --workdir"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
