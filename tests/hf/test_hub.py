"""Models of the hub, with the library's calls replaced: what is asked for, in which order, and what refusals say."""

import errno
import os
import pathlib
import types
from unittest import mock

import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors
from support import paths

from selw2s_jax import config as config_lib
from selw2s_jax import errors
from selw2s_jax.experiments import inputs
from selw2s_jax.hf import loader

GATED = "meta-llama/Meta-Llama-3-8B"
PAGE = f"https://huggingface.co/{GATED}"


class Hub:
    """In the place of the hub: it has one folder, or refuses."""

    def __init__(self, folder: pathlib.Path, refusal: Exception | None = None):
        self.folder, self.refusal, self.asked = folder, refusal, []
        self.missing = []

    def file(self, repo_id, filename, *, revision):
        self.asked.append((repo_id, revision, filename))
        if self.refusal:
            raise self.refusal
        return str(self.folder / filename)

    def snapshot(self, repo_id, *, revision, dry_run=False, **_):
        if dry_run:
            return self.missing
        self.asked.append((repo_id, revision, "all"))
        return str(self.folder)


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Starts a hub with that refusal, or none."""
    monkeypatch.chdir(tmp_path)

    def start(folder=paths.FIXTURES / "parity_gpt2", refusal=None) -> Hub:
        hub = Hub(folder, refusal)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.file)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot)
        return hub

    return start


@pytest.mark.parametrize(
    ("name", "revision", "asked"),
    [
        ("gpt2", None, ("openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e")),
        ("gpt2", "main", ("openai-community/gpt2", "main")),
        ("gpt2-xl", None, ("openai-community/gpt2-xl", None)),
        ("llama-3-8b", None, (GATED, "8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920")),
        ("Qwen/Qwen-14B", None, ("Qwen/Qwen-14B", "8be2854218fea9054331e217fd26a06f3fd02004")),
        ("someone/else", None, ("someone/else", None)),
    ],
)
def test_names_and_revisions(start, name, revision, asked):
    hub = start()
    assert loader.resolve(name, revision) == hub.folder
    assert hub.asked == [(*asked, "config.json"), (*asked, "all")]


def test_what_is_downloaded_is_said_with_its_size(start, capsys):
    hub = start()
    loader.resolve("someone/else")
    assert "downloading" not in capsys.readouterr().out  # all of it is in the cache
    sizes = ((3_000_000_000, True), (250_000_000, True), (9_000_000_000, False))
    hub.missing = [types.SimpleNamespace(file_size=size, will_download=is_new) for size, is_new in sizes]
    loader.resolve("someone/else")
    assert "downloading someone/else from the Hugging Face hub: 2 files, 3.25 GB" in capsys.readouterr().out


def test_what_is_not_supported_is_refused_before_its_weights_come(start, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gemma2"}')
    hub = start(tmp_path)
    with pytest.raises(errors.UserError, match=r"config\.json has model_type 'gemma2': supported are gpt2, "):
        loader.resolve("google/gemma-2-2b")
    assert hub.asked == [("google/gemma-2-2b", None, "config.json")]


def refusal(kind: type[Exception], status: int) -> Exception:
    return kind("many\nlines", response=mock.Mock(status_code=status))


def only_cached(cause: Exception) -> Exception:
    """As the library says that a file is not in its cache, where the hub had an answer."""
    error = hub_errors.LocalEntryNotFoundError("check your connection")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (refusal(hub_errors.GatedRepoError, 401), ["accept its licence", PAGE, "hf auth login", "HF_TOKEN"]),
        (refusal(hub_errors.HfHubHTTPError, 401), [PAGE, "hf auth login", "HF_TOKEN"]),
        (only_cached(refusal(hub_errors.HfHubHTTPError, 403)), ["licence to accept", "HF_TOKEN"]),
        (refusal(hub_errors.RepositoryNotFoundError, 401), ["correct the name", "is private", "HF_TOKEN"]),
        (refusal(hub_errors.DisabledRepoError, 403), ["took it away"]),
        (only_cached(refusal(hub_errors.RevisionNotFoundError, 404)), ["correct the revision", "/commits/main"]),
        (refusal(hub_errors.RemoteEntryNotFoundError, 404), ["has no config.json"]),
        (only_cached(TimeoutError()), ["(TimeoutError)", f"hf download {GATED} --revision 8cde5ca8", "$HF_HOME"]),
        (hub_errors.LocalEntryNotFoundError("offline"), ["hf download", "pass the downloaded folder"]),
    ],
)  # fmt: skip
def test_refusals_of_the_hub(start, error, parts):
    start(refusal=error)
    with pytest.raises(errors.UserError) as info:
        loader.resolve("llama-3-8b")
    for part in (f"cannot get {GATED} at revision 8cde5ca8", *parts):
        assert part in str(info.value)
    assert "\n" not in str(info.value)


def test_a_full_disk_is_no_fault_of_the_hub(start):
    start(refusal=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(
        errors.UserError, match=f"cannot keep {GATED} .*No space left.*; or set HF_HOME to another"
    ):
        loader.resolve("llama-3-8b")


@pytest.mark.parametrize(
    ("name", "revision", "is_noted"),
    [
        ("gpt2", None, False),
        ("gpt2-xl", None, True),
        ("openai-community/gpt2-xl", None, True),
        ("gpt2-xl", "main", False),
        ("someone/else", None, True),
        ("someone/else", "v1", False),
        ("folder/model", None, False),
        ("random-tiny-gpt2", None, False),
    ],
)
def test_what_is_not_pinned_is_noted(monkeypatch, tmp_path, name, revision, is_noted):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder" / "model").mkdir(parents=True)
    config = config_lib.default_config()
    config.strong.revision = revision
    model = mock.Mock(role="strong")
    model.name = name
    note = inputs._note_on_revision(config, model)
    assert (note == f"strong.model={name}: no revision is pinned, the hub's newest was taken") == is_noted


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_a_cache_of_the_hub_that_cannot_be_written_is_no_matter_of_network(monkeypatch, number):
    def download(*_, **__):
        raise OSError(number, os.strerror(number), "/cache/models--org--name")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(
        errors.UserError, match=r"cannot keep org/name .*/cache/models.*set HF_HOME to another"
    ) as told:
        loader.resolve("org/name")
    assert "network" not in str(told.value)
