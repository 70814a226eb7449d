"""Errors of the environment have a line and a remedy of their own; mistakes of this package have none."""

import errno
import importlib
import os

import jax
import pytest

from selw2s_jax import errors
from selw2s_jax.runtime import faults


def raised(kind: type, *args, module: str | None = None) -> Exception:
    if module is not None:
        kind = type("Error", (kind,), {"__module__": module})
    return kind(*args)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOENT, "put the file there or correct its path"),
        (errno.EACCES, "free space or correct permissions"),
        (errno.ENOSPC, "free space or correct permissions"),
        (errno.EROFS, "read-only: choose another place"),
        (errno.ENAMETOOLONG, "give a shorter name"),
        (errno.ELOOP, "its links lead back to themselves"),
        (errno.ENOTDIR, "a part of the path is a file"),
        (errno.EISDIR, "a folder is where a file is wanted"),
        (errno.EEXIST, "remove what is there"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "the disk or its file system fails"),
        (errno.ESTALE, "network file system"),
        (errno.EXDEV, "mend that, then run the same command again"),
    ],
    ids=lambda value: errno.errorcode.get(value, ""),
)
def test_every_error_of_the_system_has_its_own_remedy(number, remedy):
    line = faults.explain(OSError(number, os.strerror(number), "some/path"))
    assert remedy in line and "some/path" in line
    assert ("free space" in line) == ("free space" in remedy)


def test_a_folder_that_is_gone_and_a_missing_temporary_one(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError) as gone:
        os.getcwd()
    assert "the folder that this was started in may be gone" in faults.explain(gone.value)
    temporary = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert "set TMPDIR" in faults.explain(temporary)


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (raised(Exception, "Invalid bucket", module="gcsfs.retry"), "check path, login and network"),
        (
            raised(OSError, "no connection", module="aiohttp.client_exceptions"),
            "check path, login and network",
        ),
        (
            raised(Exception, "no credentials", module="google.auth.exceptions"),
            "check path, login and network",
        ),
        (raised(ValueError, "no region", module="botocore.exceptions"), "check path, login and network"),
        (ImportError("Please install gcsfs to access Google Storage"), r"pip install -e '.[gs]'"),
        (ImportError("Install s3fs to access S3"), "pip install s3fs"),
        (MemoryError("Unable to allocate 1 TiB"), "out of memory (Unable to allocate 1 TiB)"),
        (RuntimeError("Could not determine home directory."), "set HOME"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "out of device memory"),
    ],
)
def test_what_libraries_raise_is_told_in_a_line(error, part):
    line = faults.explain(error)
    assert part in line and "\n" not in line


@pytest.mark.parametrize(
    "error",
    [
        TypeError("x"),
        KeyError("gs://"),
        AttributeError("x"),
        AssertionError(),
        ValueError("invalid truth value"),
        RuntimeError("Unable to initialize backend"),
        ImportError("cannot import name 'x' from 'selw2s_jax'"),
        UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal not in range"),
        jax.errors.JaxRuntimeError("INTERNAL: a fault of the compiler"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_mistake_of_this_package_is_not_explained(error):
    assert faults.explain(error) is None


@pytest.mark.parametrize(
    ("asked", "fault", "parts"),
    [
        ("cuda", AssertionError(), ["JAX_PLATFORMS=cuda: JAX has no such device here;", "'.[gpu]'", "unset"]),
        ("gpux", RuntimeError("Backend 'gpux' is not known"), ["JAX_PLATFORMS=gpux", "(Backend 'gpux' is"]),
        (
            "tpu",
            RuntimeError("Failed to open libtpu.so"),
            ["JAX_PLATFORMS=tpu", "(Failed to open libtpu.so)"],
        ),
        (None, RuntimeError("CUDA_ERROR_NO_DEVICE"), ["JAX cannot start its devices (CUDA_ERROR", "=cpu"]),
    ],
)
@pytest.mark.parametrize("first", [AssertionError(), RuntimeError("hidden")], ids=["assertion", "runtime"])
def test_devices_that_are_not_there_are_named(monkeypatch, asked, fault, parts, first):
    def devices():
        raise fault

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if asked is not None:
        monkeypatch.setenv("JAX_PLATFORMS", asked)
    line = faults.explain(first)
    assert all(part in line for part in [*parts, "installed are cpu", "nvidia-smi"])
    assert faults.explain(TypeError("ours")) is None


def test_a_setting_that_jax_refuses_is_told(monkeypatch):
    config = importlib.import_module("jax._src.config")
    monkeypatch.setenv("JAX_ENABLE_X64", "maybe")
    with pytest.raises(ValueError) as refused:
        config.bool_env("JAX_ENABLE_X64", False)
    assert "JAX does not take a setting" in faults.explain(refused.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.ENAMETOOLONG])
def test_a_disk_is_found_behind_what_a_library_made_of_it(number):
    error = ValueError("cannot download")
    error.__cause__ = OSError(number, os.strerror(number), "/cache/x")
    assert "/cache/x" in errors.disk_fault(error)
    for other in (ValueError("x"), OSError("no route"), OSError(errno.ECONNREFUSED, "refused"), None):
        assert errors.disk_fault(other) is None
