"""Files are replaced at once, with the permissions that the umask leaves; what is no file is written to."""

import os
import pathlib

import pytest
from etils import epath

from selw2s_jax.runtime import artifacts, remote, storage


@pytest.fixture(params=[0o022, 0o027, 0o077, 0o002], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path) -> int:
    return os.stat(path).st_mode & 0o777


def test_the_umask_holds_for_all_that_is_written(tmp_path, umask):
    storage.write_bytes(tmp_path / "file", b"x")
    artifacts.write_text(tmp_path / "text", "x")
    artifacts.write_table(tmp_path / "table", {"label": [0]})
    folder = artifacts.fill_once(tmp_path / "made" / "folder", lambda made: (made / "file").write_text("x"))
    for path in (tmp_path / "file", tmp_path / "text", tmp_path / "table", folder / "file"):
        assert mode(path) == 0o666 & ~umask
    assert mode(folder) == 0o777 & ~umask


def test_a_replaced_file_keeps_its_permissions(tmp_path, umask):
    for kept in (0o600, 0o640, 0o664):
        path = tmp_path / str(kept)
        path.write_bytes(b"old")
        path.chmod(kept)
        storage.write_bytes(path, b"new")
        assert path.read_bytes() == b"new" and mode(path) == kept


@pytest.mark.parametrize("target", ["target", "sub/target", "new"])
def test_the_target_of_a_link_is_replaced_and_the_link_stays(tmp_path, target):
    (tmp_path / "sub").mkdir()
    for path in (tmp_path / "target", tmp_path / "sub" / "target"):
        path.write_bytes(b"old")
    link, first = tmp_path / "link", tmp_path / "first"
    link.symlink_to(target)
    first.symlink_to("link")
    for number, path in enumerate((link, first)):
        storage.write_bytes(path, b"%d" % number)
        assert path.is_symlink() and (tmp_path / target).read_bytes() == b"%d" % number
    assert not list(tmp_path.glob("**/.*"))


def test_a_pipe_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for path in (tmp_path / "pipe", tmp_path / "link"):
        storage.write_bytes(path, b"content")
        assert os.read(reader, 99) == b"content"
        assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link").is_symlink()
    os.close(reader)


def test_a_device_is_written_to():
    before = os.stat("/dev/null")
    storage.write_bytes("/dev/null", b"content")
    assert os.stat("/dev/null").st_ino == before.st_ino and pathlib.Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match="No space left"):
        storage.write_bytes("/dev/full", b"content")


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_an_open_file_is_written_at_its_place(tmp_path, form):
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before, ")
        storage.write_bytes(form.format(file.fileno()), b"content")
        file.write(b", after")
    assert (tmp_path / "log").read_bytes() == b"before, content, after"


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "日" * 85], ids=["ascii", "two bytes", "three bytes"])
def test_names_may_be_as_long_as_the_system_has_them(tmp_path, name):
    for content in (b"old", b"new"):
        storage.write_bytes(tmp_path / name, content)
    assert (tmp_path / name).read_bytes() == b"new"
    assert (artifacts.fill_once(tmp_path / name[1:], lambda made: None)).is_dir()


def test_copies_of_stores_have_the_permissions_of_the_umask(tmp_path, monkeypatch, umask):
    from support import gs_stand_in

    monkeypatch.setenv("SELW2S_CACHE", str(tmp_path / "cache"))
    with gs_stand_in.installed(tmp_path / "objects"):
        epath.Path("gs://bucket/model/sub/config.json").write_text("{}")
        copy = remote.local_copy("gs://bucket/model")
    for path in (copy.parent, copy, copy / "sub"):
        assert mode(path) == 0o777 & ~umask
    assert mode(copy / "sub" / "config.json") == 0o666 & ~umask
