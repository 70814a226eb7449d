"""Places that are none are refused in one line, with what to give instead; those that are one are left alone."""

import os
import pathlib
import socket

import pytest
from support import gs_stand_in

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import places

HUB = "https://huggingface.co"


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        (f"{HUB}/openai-community/gpt2", "give the hub name of the model, openai-community/gpt2;"),
        (f"{HUB}/Qwen/Qwen2.5-7B/tree/main", "give the hub name of the model, Qwen/Qwen2.5-7B;"),
        ("HTTPS://HF.co/org/name?download=true#top", "give the hub name of the model, org/name;"),
        ("huggingface.co/org/name/blob/main/config.json", "give the hub name of the model, org/name;"),
        (f"{HUB}/datasets/allenai/sciq", "hf download allenai/sciq --repo-type dataset"),
        ("hf://openai-community/gpt2@main/config.json", "the hub name of the model, openai-community/gpt2;"),
        ("hf://datasets/allenai/sciq", "hf download allenai/sciq --repo-type dataset"),
        ("hf://", "give a hub name, org/name"),
        (HUB, "give a hub name, org/name"),
        ("http://example.org/data.jsonl", "nothing is read from web addresses: download it"),
        ("https:/example.org/data.jsonl", "nothing is read from web addresses"),
        ("file:///data/my%20questions.jsonl", "give the path itself, /data/my questions.jsonl;"),
        ("file://localhost/data", "give the path itself, /data;"),
        ("file:/data", "give the path itself, /data;"),
        ("ftp://host/data", "ftp:// is no store that is read here"),
        ("az://container/data", "az:// is no store that is read here"),
        ("memory://x", "memory:// is no store that is read here"),
        ("-flag=https://a.b", "-flag=https:// is no store that is read here"),
        ("gcs://bucket/run", "write gs://bucket/run;"),
        ("GS://bucket/run", "write gs://bucket/run;"),
        ("gs:/bucket/run", "write gs://bucket/run;"),
        ("gs://", "it names no bucket"),
        ("gs:///run", "it names no bucket"),
        ("gs://bucket/a/../../other", "write the path without .."),
    ],
)
def test_an_address_is_refused_with_what_is_meant(place, hint):
    with pytest.raises(UserError) as refused:
        places.check(place, "config.strong.model", "a folder")
    line = str(refused.value)
    assert line.startswith("config.strong.model=") and hint in line and line.endswith("wanted is a folder")


def test_passwords_and_tokens_of_an_address_are_not_shown():
    for address in ("https://me:hf_SECRET@huggingface.co/org/name", "https://x.org/d.csv?sig=hf_SECRET"):
        with pytest.raises(UserError) as refused:
            places.check(address, "--input", "a file")
        assert "SECRET" not in str(refused.value) and "https://" in str(refused.value)


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("", "--workdir is empty"),
        ("  ", "--workdir is empty"),
        ("a\0b", "NUL character"),
        ("~nobody-of-this-name/run", "no home folder is known"),
    ],
)
def test_what_no_path_can_be_is_refused(place, fault):
    with pytest.raises(UserError, match=fault):
        places.check(place, "--workdir", "a folder")


def test_without_a_home_a_tilde_is_refused(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(UserError, match=r"is HOME set\?"):
        places.check("~/run", "--workdir", "a folder")


def test_a_store_without_its_package_is_refused_and_with_it_taken(tmp_path, monkeypatch):
    import fsspec

    def missing(scheme):
        raise ImportError(f"Please install {scheme}fs")

    with monkeypatch.context() as patch:
        patch.setattr(fsspec, "get_filesystem_class", missing)
        for place, remedy in (
            ("gs://bucket/run", r"needs the package gcsfs.*pip install -e '\.\[gs\]'"),
            ("s3://bucket/run", "needs the package s3fs.*pip install s3fs"),
        ):
            with pytest.raises(UserError, match=remedy):
                places.check(place, "--workdir", "a folder")
    with gs_stand_in.installed(tmp_path):
        places.check("gs://bucket/run", "--workdir", "a folder")


@pytest.mark.parametrize(
    "place",
    [
        None,
        ".",
        "run",
        "/data/run 1",
        "org/name",
        "a:/b",
        "a{0}%s$x",
        "ü/日本",
        "./~x",
        "-x",
        "http",
        "C:\\x",
    ],
)
def test_local_paths_and_names_are_left_alone(place):
    places.check(place, "--workdir", "a folder")


def test_a_folder_that_is_called_like_an_address_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("gs:/bucket", "huggingface.co/org/name"):
        pathlib.Path(name).mkdir(parents=True)
        places.check(name, "config.strong.model", "a folder")


@pytest.mark.parametrize("place", ["https://a/b", "file:///cache", "gs:/bucket"])
def test_a_cache_of_programs_that_is_no_place_is_refused(monkeypatch, place):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", place)
    with pytest.raises(UserError, match="JAX_COMPILATION_CACHE_DIR="):
        places.check_compilation_cache()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    places.check_compilation_cache()


@pytest.mark.parametrize("name", ["run[1]", "run*", "wh?t", "a\\b"])
def test_a_workdir_of_which_libraries_would_make_another_is_refused(name, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="choose another --workdir"):
        places.check_workdir(tmp_path / name)
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(UserError, match="choose another --workdir"):
        places.check_workdir("run")
    places.check_workdir(tmp_path / "a {0}%25$#]")


def refusal(place, flag="--output") -> str:
    with pytest.raises(UserError) as refused:
        places.check_output_file(place, flag)
    line = str(refused.value)
    assert line.startswith(f"{flag}=")
    return line


def test_outputs_that_can_be_written_are_taken(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "new link").symlink_to("new")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "new", "link", "new link", "pipe"):
        places.check_output_file(tmp_path / name, "--output")
    for path in ("/dev/null", "/dev/stdout", "gs://bucket/out.jsonl"):
        places.check_output_file(path, "--output")


def test_outputs_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    assert "is a folder" in refusal(tmp_path)
    assert "there is no folder" in refusal(tmp_path / "none" / "out")
    (tmp_path / "away").symlink_to("none/out")
    assert f"there is no folder {tmp_path}/none" in refusal(tmp_path / "away")
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be reached" in refusal(tmp_path / "loop")
    assert "cannot be reached" in refusal(tmp_path / ("x" * 300))
    assert "cannot be reached" in refusal("/dev/null/out")
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert "is no file, pipe or terminal" in refusal("socket")


def test_an_output_folder_is_a_folder_or_none_yet(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "file").write_text("")
    (tmp_path / "to file").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "link", "a/b/c"):
        places.check_output_folder(tmp_path / name, "--output")
    for name in ("file", "to file", "loop", "pipe"):
        with pytest.raises(UserError, match="is a file; choose another folder"):
            places.check_output_folder(tmp_path / name, "--output")
    with pytest.raises(UserError, match="file is not a folder to write to"):
        places.check_output_folder(tmp_path / "file" / "below", "--output")
