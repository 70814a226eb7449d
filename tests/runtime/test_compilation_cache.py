"""Where compiled programs are kept, and where none are."""

import pathlib

import jax
import pytest

from selw2s_jax.runtime import compilation_cache

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_compilation_cache_max_size",
)


@pytest.fixture(autouse=True)
def fresh_options():
    """JAX without a folder; as it was afterwards."""
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compilation_cache.enable()
    folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
    assert folder == tmp_path / "cache" / "selw2s_jax" / "xla" and folder.is_dir()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / ".cache" / "selw2s_jax" / "xla")


def test_what_jax_is_told_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir == "/elsewhere"
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir is None and not list(tmp_path.iterdir())


def test_several_cpu_devices_have_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_home_that_is_missing_or_takes_nothing_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compilation_cache.enable()

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(pathlib.Path, "home", no_home)
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir is None
