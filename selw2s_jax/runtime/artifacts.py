"""Content-addressed artifacts of a workdir: atomic to write, verified when read, never made twice.

An artifact is a folder `artifacts/<stage>/<key>`. Its key is the hash of everything that the stage's result
is a function of (settings, hashes of data and weights, the keys of earlier artifacts), so the same inputs find
it, other inputs make another, and all keys are known before anything runs.

The folder is filled in place, and is finished once it has `manifest.json`, with its inputs and the size and hash of
every file. The manifest is written last and appears at once: on file systems it is flushed to the disk, after all
other files, under another name in the same folder, and renamed; on gs:// it is one object, which is there when its
upload has ended. A folder without a manifest is what a failed or killed process left: nothing finds it, and who
makes the artifact clears it first.

Workdirs may be shared by hosts and by runs. Leases (see `leases`) keep a second run out of a workdir, and let shards
of one run share it: each stage is made by the one that claims it while the others wait.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from etils import epath

from selw2s_jax import errors
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import distributed, leases, storage

_ARTIFACTS = "artifacts"
_MANIFEST = "manifest.json"
_FILLED = ".filled"
_KEY_LENGTH = 16
_HASH_BYTES = 1 << 24
_RETRY_S = 5.0
_VISIBLE_S = 120


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: Any) -> str:
    """sha256 of a JSON value, hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def artifact_key(stage: str, inputs: Any) -> str:
    """The name of a stage's artifact for these inputs (JSON values)."""
    return content_hash({"stage": stage, "inputs": inputs})[:_KEY_LENGTH]


def write_text(path: epath.PathLike, text: str) -> None:
    """Replaces a file at once: readers see the old text or the new, never half.

    All processes call this together; process 0 writes.
    """
    distributed.main_only(lambda: storage.write_bytes(path, text.encode()))


def write_table(path: epath.PathLike, columns: dict[str, Any]) -> None:
    """Writes columns of one length as a parquet file, at once; all processes call this, process 0 writes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write() -> None:
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), buffer)
        storage.write_bytes(path, buffer.getvalue().to_pybytes())

    distributed.main_only(write)


def write_array(path: epath.PathLike, array: np.ndarray) -> None:
    """Writes an array as an .npy file, at once; all processes call this, process 0 writes."""

    def write() -> None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        storage.write_bytes(path, buffer.getvalue())

    distributed.main_only(write)


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
    path: epath.Path
    files: dict[str, dict[str, Any]]

    def verified(self, name: str) -> epath.Path:
        """The path of a file or folder of the artifact, once its content is what was written.

        Raises:
            UserError: it is not.
        """
        path = self.path / name
        members = [member for member in self.files if member == name or member.startswith(f"{name}/")]
        for member in members or [name]:
            if member not in self.files or _hash_file(self.path / member) != self.files[member]:
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
        with self.verified(name).open("rb") as content, pq.ParquetFile(content) as file:
            table = file.read()
        return {column: table[column].to_numpy() for column in table.column_names}

    def read_array(self, name: str) -> np.ndarray:
        """The array of an .npy file."""
        with self.verified(name).open("rb") as content:
            return np.load(content, allow_pickle=False)


class Store:
    """The artifacts of one workdir.

    Args:
        workdir: folder that exists and is writable.
        lock: on the workdir, as `locked_workdir` gives it.
        while_waiting: called by every process every few seconds while another run makes an artifact.
        machine: clock and processes, for leases.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        *,
        lock: leases.Lease | None = None,
        while_waiting: Callable[[], None] = lambda: None,
        machine: leases.Machine | None = None,
    ):
        self._lock, self._stage_leases = lock, set()
        self._root = epath.Path(workdir) / _ARTIFACTS
        self._leases = lease_folder(workdir)
        self._while_waiting = while_waiting
        self._machine = machine or leases.Machine()
        self._found: dict[tuple[str, str], Artifact] = {}

    def check_held(self) -> None:
        """Makes sure that the workdir and the artifacts under way are still this run's; all processes ask together.

        Raises:
            UserError: this run stood still, and another one has taken them over.
        """

        def check() -> None:
            for lease in (self._lock, *self._stage_leases):
                if lease is not None:
                    lease.check()

        distributed.main_only(check)

    def path(self, stage: str, inputs: Any) -> epath.Path:
        """Where the artifact of a stage for these inputs is, or will be."""
        return self._root / stage / artifact_key(stage, inputs)

    def claimed(self) -> set[str]:
        """Names, as "train-<key>", of the artifacts that some run is making, or was when it died."""
        return set(_from_main(lambda: [name.split(".")[0] for name in storage.names(self._leases)]))

    def find(self, stage: str, inputs: Any) -> Artifact | None:
        """The finished artifact of a stage for these inputs, or None.

        Raises:
            UserError: it is there, but damaged or made from other inputs than its name says.
        """
        path = self.path(stage, inputs)
        key = path.name
        if (stage, key) in self._found:
            return self._found[stage, key]
        remedy = f"delete {path} to make it again"
        content = _read_manifest(path, remedy)
        if content is None:
            return None
        try:
            manifest = errors.parse_json(content)
            recorded, files = canonical_json([manifest["stage"], manifest["inputs"]]), manifest["files"]
            sizes = {name: entry["bytes"] for name, entry in files.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"artifact {stage}/{key} has no readable manifest; {remedy}") from error
        if recorded != canonical_json([stage, inputs]):
            raise UserError(f"artifact {stage}/{key} was made from other inputs than this run's; {remedy}")
        try:
            actual = storage.files(path)
        except OSError as error:  # a link that leads nowhere
            raise _unreadable(path, error, remedy) from error
        damaged = [name for name, size in sizes.items() if actual.get(name) != size]
        if damaged:
            raise UserError(
                f"artifact {stage}/{key} is damaged: {errors.printable(damaged[0])} is missing or has another size; "
                f"{remedy}"
            )
        self._found[stage, key] = Artifact(stage, key, path, files)
        return self._found[stage, key]

    def find_by_key(self, stage: str, key: str) -> Artifact | None:
        """The finished artifact of that key, or None: for those who know no inputs.

        Raises:
            UserError: it is there, but damaged or made from other inputs than its name says.
        """
        if (stage, key) in self._found:
            return self._found[stage, key]
        if not all(re.fullmatch(r"[\w-]+", name, re.ASCII) for name in (stage, key)):
            raise UserError(
                f"{stage!a}/{key!a} names no artifact: run the same config again to mend its manifest"
            )
        path = self._root / stage / key
        remedy = f"delete {path} and run the same config again"
        content = _read_manifest(path, remedy)
        if content is None:
            return None
        try:
            inputs = errors.parse_json(content)["inputs"]
            own_key = artifact_key(stage, inputs)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"artifact {stage}/{key} has no readable manifest; {remedy}") from error
        if own_key != key:
            raise UserError(f"artifact {stage}/{key} was made from other inputs than its name says; {remedy}")
        return self.find(stage, inputs)

    @contextlib.contextmanager
    def filling(self, stage: str, inputs: Any) -> Iterator[epath.Path | None]:
        """Makes an artifact: what is done within fills its folder, an empty one, on every process.

        All processes enter this together. Yields the folder; None where another run makes or has made the artifact:
        that one is taken. A failure, or a process killed, leaves at most a folder that is not found.

        Raises:
            UserError: another run took the stage over while this one stood still.
        """
        path = self.path(stage, inputs)
        lease = self._claim(stage, inputs)
        self._stage_leases.add(lease)
        try:
            if _from_main(lambda: self.find(stage, inputs) is not None):
                yield None
            else:
                with self._folder(path, lease):
                    with distributed.together():
                        yield path
                    distributed.main_only(lambda: _finish(path, stage, inputs, lease))
        finally:
            self._stage_leases.discard(lease)
            if lease is not None:
                lease.release()
        _wait_for(lambda: self.find(stage, inputs) is not None, path, self._machine)

    @contextlib.contextmanager
    def _folder(self, path: epath.Path, lease: leases.Lease | None) -> Iterator[None]:
        """An empty folder, removed again by what fails within."""
        distributed.main_only(lambda: _start_anew(path))
        if storage.is_local(path):
            _wait_for(path.is_dir, path, self._machine)
        try:
            yield
        except BaseException:
            if lease is not None:
                with contextlib.suppress(UserError, OSError):
                    lease.check()  # else it is another run's folder by now
                    _remove_unfinished(path)
            raise

    def _claim(self, stage: str, inputs: Any) -> leases.Lease | None:
        """Process 0's claim to make an artifact; None on the others, and once another run has made it."""
        name = f"{stage}-{artifact_key(stage, inputs)}"
        lease = None

        def attempt() -> str | None:
            nonlocal lease
            try:
                if self.find(stage, inputs) is None:
                    lease = leases.acquire(self._leases, name, machine=self._machine)
            except leases.HeldError as error:
                return str(error.claim)
            return None

        told = False
        while (holder := _from_main(attempt)) is not None:
            if not told:
                print(f"  {name} is being made by {holder}; waiting for it", flush=True)
                told = True
            self._while_waiting()
            self._machine.sleep(_RETRY_S)
        return lease


def _read_manifest(path: epath.Path, remedy: str) -> bytes | None:
    """The manifest of an artifact's folder; None where it is not finished."""
    try:
        return storage.read_bytes(path / _MANIFEST)
    except OSError as error:
        raise _unreadable(path, error, remedy) from error


def _unreadable(path: epath.Path, error: OSError, remedy: str) -> UserError:
    return UserError(
        f"artifact {path.parent.name}/{path.name} cannot be read: {errors.one_line(error)}; {remedy}"
    )


def _from_main(function: Callable[[], Any]) -> Any:
    """What `function()` returns on process 0, a JSON value, on every process."""
    return distributed.broadcast(distributed.agree(lambda: function() if distributed.is_main() else None))


def _wait_for(condition: Callable[[], bool], path: epath.Path, machine: leases.Machine) -> None:
    """Waits until every process sees what process 0 has written: on NFS, hosts remember what was not there."""

    def wait() -> None:
        end = machine.clock() + _VISIBLE_S
        while not condition():
            if machine.clock() > end:
                raise UserError(f"{path} is not seen by all hosts: give a --workdir that all of them share")
            machine.sleep(1.0)

    distributed.agree(wait)


def _start_anew(path: epath.Path) -> None:
    _remove_unfinished(path)
    storage.make_folder(path)


def _remove_unfinished(path: epath.Path) -> None:
    if storage.read_bytes(path / _MANIFEST) is None:
        storage.remove_tree(path)


def _finish(path: epath.Path, stage: str, inputs: Any, lease: leases.Lease) -> None:
    """Writes the manifest, once all else is sure to be there."""
    files = {name: _hash_file(path / name) for name in storage.files(path)}
    storage.sync_tree(path)
    manifest = {"stage": stage, "inputs": inputs, "files": files}
    lease.check()
    write_text(path / _MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))


def fill_once(path: epath.PathLike, write: Callable[[pathlib.Path], None]) -> epath.Path:
    """`path`, where it is missing filled with what `write(folder)` puts into a folder of the local disk.

    It appears by one rename; on gs:// it is whole once it has the file `.filled`, copied last. Of runs that fill it
    at the same time, the first one's stays. All processes call this together; process 0 writes.
    """
    path = epath.Path(path)
    distributed.main_only(
        lambda: _fill_local(path, write) if storage.is_local(path) else _fill_gs(path, write)
    )
    return path


def _fill_local(path: epath.Path, write: Callable[[pathlib.Path], None]) -> None:
    if path.is_dir():
        return
    storage.make_folder(path.parent)
    temporary = pathlib.Path(storage.new_folder(path))
    try:
        write(temporary)
        storage.sync_tree(temporary)
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():  # else another run was faster
                raise
    finally:
        storage.remove_tree(temporary)


def _fill_gs(path: epath.Path, write: Callable[[pathlib.Path], None]) -> None:
    if storage.read_bytes(path / _FILLED) is None:
        with tempfile.TemporaryDirectory() as folder:
            write(pathlib.Path(folder))
            storage.copy_tree(folder, path)
        storage.write_bytes(path / _FILLED, b"")


def _hash_file(path: epath.Path) -> dict[str, Any] | None:
    """Size and hash of a file, None where it is missing."""
    digest, size = hashlib.blake2b(digest_size=20), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_HASH_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except FileNotFoundError:
        return None
    return {"bytes": size, "blake2b": digest.hexdigest()}


def is_there(workdir: epath.PathLike, stage: str, key: str) -> bool:
    """Whether a workdir has a finished artifact, whatever its content."""
    return (epath.Path(workdir) / _ARTIFACTS / stage / key / _MANIFEST).exists()


def finished_keys(workdir: epath.PathLike, stage: str) -> list[str]:
    """The keys of a workdir's finished artifacts of a stage, whatever run made them."""
    names = storage.names(epath.Path(workdir) / _ARTIFACTS / stage)
    return [name for name in names if is_there(workdir, stage, name)]


def lease_folder(workdir: epath.PathLike) -> epath.Path:
    """Where the claims of the runs in a workdir are."""
    return epath.Path(workdir) / "leases"


@contextlib.contextmanager
def locked_workdir(
    workdir: epath.PathLike, run: str = "", *, machine: leases.Machine | None = None
) -> Iterator[leases.Lease | None]:
    """Makes the workdir and holds it for this run; the lock of a run that died is recovered.

    Yields the lock on process 0, None on the others.

    Args:
        run: "CONFIG SHARD", such as "a1b2c3d4 0/2": runs of one config hold the workdir together if their shards
            are different, and no others do.
        machine: clock and processes.

    Raises:
        UserError: the workdir cannot be written, or another run holds it.
    """
    lease = None

    def lock() -> None:
        nonlocal lease
        lease = _lock(epath.Path(workdir), run, machine)

    distributed.main_only(lock)
    try:
        yield lease
    finally:
        if lease is not None:
            lease.release()


def _lock(workdir: epath.Path, run: str, machine: leases.Machine | None) -> leases.Lease:
    config, _, shard = run.partition(" ")

    def conflicts(other: str) -> bool:
        other_config, _, other_shard = other.partition(" ")
        return config != other_config or shard == other_shard

    def on_wait(claim: leases.Claim) -> None:
        print(
            f"workdir {workdir} was in use by {claim}: waiting up to {leases.EXPIRY_S:.0f} s for a sign of life",
            flush=True,
        )

    try:
        storage.make_folder(workdir)
        lease = leases.acquire(
            lease_folder(workdir), "workdir", run, conflicts=conflicts, on_wait=on_wait, machine=machine
        )
    except leases.HeldError as error:
        raise UserError(
            f"workdir {workdir} is in use by {error.claim}; wait for it or choose another --workdir"
        ) from error
    except UserError:
        raise
    except Exception as error:
        # Of the libraries below epath, each has its own errors.
        if storage.is_local(workdir) and not isinstance(error, OSError):
            raise
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        if isinstance(error, ImportError):
            reason += "; `pip install gcsfs` adds what gs:// needs"
        raise UserError(
            f"workdir {workdir} cannot be written ({reason}); choose another --workdir"
        ) from error
    for claim in lease.recovered:
        print(f"workdir {workdir}: took over the lock of {claim}, which no longer runs", flush=True)
    return lease
