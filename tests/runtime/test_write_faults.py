"""A fault at each write: the old artifact or the new one, never half, and nothing finished is lost."""

import contextlib
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from support import gs_stand_in, marks, paths, store_edits, writes

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import artifacts, storage


def prepare(workdir) -> None:
    storage.make_folder(workdir)
    store_edits.make(artifacts.Store(workdir), "train", writes.OLD, writes.fill)
    artifacts.write_text(workdir / "results.json", "old")
    artifacts.write_table(workdir / "table.parquet", {"label": [0]})


def state(workdir) -> tuple[bool, bool, bool, bool]:
    """Which of the writes have happened, once each was found whole: old or new."""
    store = artifacts.Store(workdir)
    for artifact in filter(None, (store.find("train", writes.OLD), new := store.find("train", writes.NEW))):
        assert artifact.read_json("summary.json") == {"n": 3}
        assert artifact.verified("params/data").read_bytes() == bytes(range(256)) * 8
        assert artifact.read_table("table.parquet")["label"].tolist() == [0, 1]
    assert store.find("train", writes.OLD) is not None, "a finished artifact is lost"
    text = storage.read_bytes(workdir / "results.json")
    assert text in (b"old", b"new" * 100)
    files = {"table.parquet": artifacts._hash_file(workdir / "table.parquet")}
    labels = artifacts.Artifact("", "", workdir, files).read_table("table.parquet")["label"].tolist()
    assert labels in ([0], [1] * 100)
    filled = "made" in storage.names(workdir)
    if filled and storage.is_local(workdir):
        assert storage.read_bytes(workdir / "made" / "file") == b"made"
    return new is not None, text != b"old", labels != [0], filled


def finish_and_check(workdir) -> None:
    """The same command again ends as if there had been no fault."""
    writes.write_all(workdir)
    assert state(workdir) == (True,) * 4
    assert storage.read_bytes(workdir / "made" / "file") == b"made"
    assert not [name for name in storage.names(workdir / "leases") if _is_of_this_process(workdir, name)]


def _is_of_this_process(workdir, name: str) -> bool:
    content = storage.read_bytes(workdir / "leases" / name)
    return not name.startswith(".") and json.loads(content)["holder"]["pid"] == os.getpid()


@pytest.fixture(params=["local", "gs"])
def workdir(request, tmp_path):
    with gs_stand_in.workdir(request.param, tmp_path) as path:
        prepare(path)
        yield path


class FaultyFile:
    """A file whose disk is full."""

    def __init__(self, file):
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self._file.close()

    def write(self, data):
        self._file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


def count_and_fail(patch, call: str, fails_at: int | None, error: int) -> list[int]:
    """Makes one call of a function of `os` fail; the list counts its calls on the test's thread."""
    count = [0]
    original = getattr(os, call)

    def function(*args, **kwargs):
        if "/leases" in str(args[:1]):  # covered by test_leases
            return original(*args, **kwargs)
        count[0] += 1
        if count[0] - 1 == fails_at:
            if call == "fdopen":
                return FaultyFile(original(*args, **kwargs))
            raise OSError(error, os.strerror(error))
        return original(*args, **kwargs)

    patch.setattr(os, call, function)
    return count


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("fdopen", errno.ENOSPC),
        ("fsync", errno.ENOSPC),
        marks.in_ci("makedirs", errno.ENOSPC),
        marks.in_ci("open", errno.EACCES),
        marks.in_ci("replace", errno.EACCES),
        ("rename", errno.EACCES),
    ],
)
def test_each_system_call_of_the_writes_may_fail(tmp_path, monkeypatch, call, error):
    def one(number: int | None) -> int:
        workdir = tmp_path / f"{call}-{number}"
        prepare(workdir)
        failed = False
        with monkeypatch.context() as patch:
            count = count_and_fail(patch, call, number, error)
            try:
                writes.write_all(workdir)
            except (OSError, UserError):
                failed = True
        state(workdir)
        if number is not None:
            assert failed and not list(workdir.glob("**/.*.json.*")), "a half file is left"
            finish_and_check(workdir)
        return count[0]

    for number in range(one(None)):
        one(number)


@pytest.mark.parametrize("kind", ["upload", "delete", "list"])
def test_each_request_to_an_object_store_may_fail(tmp_path, kind):
    def one(number: int | None) -> int:
        count = 0

        def before(what, name):
            nonlocal count
            if what == kind:
                count += 1
                if count - 1 == number:
                    raise OSError(errno.EIO, "request failed")

        with gs_stand_in.installed(tmp_path / f"{kind}-{number}") as store:
            workdir = storage.epath.Path("gs://bucket/run")
            prepare(workdir)
            store.before = staticmethod(before)
            with contextlib.suppress(OSError, UserError):
                writes.write_all(workdir)
            store.before = staticmethod(lambda what, name: None)
            state(workdir)
            # A claim that could not be removed counts while its process lives.
            for name in storage.names(workdir / "leases"):
                storage.remove_file(workdir / "leases" / name)
            finish_and_check(workdir)
        return count

    for number in range(one(None)):
        one(number)


KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
from support import gs_stand_in, writes
from selw2s_jax.runtime import storage
kind, folder, number = sys.argv[2], pathlib.Path(sys.argv[3]), int(sys.argv[4])
count = 0

def killing(original):
    def function(*args, **kwargs):
        global count
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        return original(*args, **kwargs)
    return function

with gs_stand_in.workdir(kind, folder) as workdir:
    os.replace, os.rename = killing(os.replace), killing(os.rename)
    gs_stand_in.ObjectStore.rm_file = killing(gs_stand_in.ObjectStore.rm_file)
    storage.write_bytes = killing(storage.write_bytes)
    writes.write_all(workdir)
    print(count)
"""


def killed_run(kind: str, folder: pathlib.Path, number: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", KILLED, str(paths.TESTS), kind, str(folder), str(number)]
    return subprocess.run(command, capture_output=True, text=True)


def check_killed(kind: str, folder: pathlib.Path, number: int) -> bool:
    """Whether the process was killed at a step; what it left is whole, and the same command ends well."""
    with gs_stand_in.workdir(kind, folder) as workdir:
        prepare(workdir)
    process = killed_run(kind, folder, number)
    assert process.returncode in (0, -signal.SIGKILL), process.stderr
    with gs_stand_in.workdir(kind, folder) as workdir:
        state(workdir)
        finish_and_check(workdir)
    return process.returncode != 0


@pytest.mark.parametrize("kind", ["local", "gs"])
def test_a_process_may_be_killed_before_a_rename(tmp_path, kind):
    assert check_killed(kind, tmp_path, 8)


@pytest.mark.parametrize("kind", [marks.in_ci("local"), marks.thorough("gs")])
def test_a_process_may_be_killed_at_every_step(tmp_path, kind):
    number = 0
    while check_killed(kind, tmp_path / str(number), number):
        number += 1
    assert number > 8


def test_a_disk_that_is_really_full(tmp_path):
    """The system refuses files above a size, as a full disk does in the middle of one."""
    prepare(tmp_path)
    code = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from support import store_edits
from support.writes import NEW, fill
from selw2s_jax.runtime import artifacts, storage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
workdir = storage.epath.Path(sys.argv[2])
for write in (
    lambda: store_edits.make(artifacts.Store(workdir), "train", NEW, fill),
    lambda: artifacts.write_text(workdir / "results.json", "new" * 1000),
    lambda: artifacts.write_table(workdir / "table.parquet", {"label": list(range(1000))}),
):
    try:
        write()
    except OSError as error:
        print(error.errno)
"""
    command = [sys.executable, "-c", code, str(paths.TESTS), str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.stdout.split() == [str(errno.EFBIG)] * 3, process.stderr
    assert state(tmp_path) == (False,) * 4
    finish_and_check(tmp_path)


def test_a_workdir_that_has_become_read_only(tmp_path):
    prepare(tmp_path)
    folders = [path for path in (tmp_path, *tmp_path.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write into read-only folders")
        with pytest.raises(UserError, match="cannot be written"):
            writes.write_all(tmp_path)
        assert state(tmp_path) == (False,) * 4
    finally:
        for folder in folders:
            folder.chmod(0o755)
    finish_and_check(tmp_path)


@pytest.mark.parametrize("file", ["params/data", "summary.json", "table.parquet"])
def test_every_truncated_file_is_refused_at_once(workdir, file):
    artifact = artifacts.Store(workdir).find("train", writes.OLD)
    content = (artifact.path / file).read_bytes()
    for length in (0, len(content) // 2, len(content) - 1):
        storage.write_bytes(artifact.path / file, content[:length])
        with pytest.raises(UserError, match=f"is damaged: {file} is missing or has another size; delete "):
            artifacts.Store(workdir).find("train", writes.OLD)


@pytest.mark.parametrize("file", ["params/data", "summary.json", "table.parquet"])
def test_every_flipped_byte_is_found_when_read(workdir, file):
    artifact = artifacts.Store(workdir).find("train", writes.OLD)
    content = bytearray((artifact.path / file).read_bytes())
    for position in range(0, len(content), max(1, len(content) // 5)):
        content[position] ^= 1
        storage.write_bytes(artifact.path / file, bytes(content))
        content[position] ^= 1
        with pytest.raises(UserError, match=f"is damaged: {file} is not the file that was written; delete "):
            artifacts.Store(workdir).find("train", writes.OLD).verified(file)


def test_a_flipped_or_missing_byte_of_a_manifest_never_yields_another_content(workdir):
    """Some flips do no harm, as those of spaces; none gives an artifact of other files."""
    good = artifacts.Store(workdir).find("train", writes.OLD)
    content = (good.path / "manifest.json").read_bytes()
    damaged = [content[:length] for length in range(0, len(content), 7)]
    damaged += [content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :] for i in range(0, len(content), 7)]
    for manifest in damaged:
        storage.write_bytes(good.path / "manifest.json", manifest)
        with contextlib.suppress(UserError):
            found = artifacts.Store(workdir).find("train", writes.OLD)
            for name in good.files:
                found.verified(name)
            assert json.loads(manifest)["inputs"] == writes.OLD
