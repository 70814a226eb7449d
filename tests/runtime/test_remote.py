"""Local copies of what lies on gs://: whole, one for each version, and local paths left alone."""

import os
import pathlib
import urllib.parse

import pytest
from etils import epath
from support import gs_stand_in

from selw2s_jax.data import by_id, sources, task_files, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader
from selw2s_jax.runtime import remote
from selw2s_jax.worlds import smoke


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """An empty bucket, and a cache folder of its own."""
    monkeypatch.setenv("SELW2S_CACHE", str(tmp_path / "cache"))
    with gs_stand_in.installed(tmp_path / "objects"):
        yield epath.Path("gs://bucket")


def test_a_local_path_is_itself(tmp_path):
    assert remote.local_copy(tmp_path / "none") == tmp_path / "none"
    assert remote.local_copy("~/data") == pathlib.Path("~/data").expanduser()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "train.parquet", "merges.txt"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_device_in_a_folder_is_not_read(tmp_path, name, kind):
    (tmp_path / "other.sock").mkdir()
    (tmp_path / "gone.json").symlink_to("none")
    assert remote.local_copy(tmp_path) == tmp_path
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(UserError, match=f"{name} is a pipe or device, not a file"):
        remote.local_copy(tmp_path)


def test_numbers_are_not_read_from_a_pipe_or_device(tmp_path):
    os.mkfifo(tmp_path / "scores")
    for path in (tmp_path / "scores", "/dev/zero", tmp_path):
        with pytest.raises(UserError, match="is missing or not a file; give JSON lines of example_id"):
            by_id.read_values(str(path), "p_ik", 0, 1)


def test_a_file_is_copied_once_and_again_when_it_changes(bucket, capsys):
    path = bucket / "mine.jsonl"
    path.write_text("one")
    copies = [remote.local_copy(str(path)) for _ in range(2)]
    assert copies[0] == copies[1] and copies[0].name == "mine.jsonl" and copies[0].read_text() == "one"
    assert capsys.readouterr().out.count("copying gs://bucket/mine.jsonl") == 1
    path.write_text("another")
    assert remote.local_copy(str(path)).read_text() == "another"
    assert copies[0].read_text() == "one", "who reads the old copy keeps it"
    assert not [p for p in remote.cache_folder().iterdir() if p.name.startswith(".")]


def test_a_folder_is_copied_without_weights_that_nothing_reads(bucket):
    for name in ("config.json", "model.safetensors", "pytorch_model.bin", "ARC-Easy/train.parquet"):
        (bucket / "model" / name).write_text(name)
    copy = remote.local_copy("gs://bucket/model")
    found = sorted(p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file())
    assert copy.name == "model" and found == ["ARC-Easy/train.parquet", "config.json", "model.safetensors"]


def test_what_is_not_there_is_said(bucket):
    with pytest.raises(UserError, match=r"gs://bucket/none is not there; correct its path in the config"):
        remote.local_copy("gs://bucket/none")


def test_readers_take_gs_paths(bucket, tmp_path):
    data = smoke.data_folder(epath.Path(tmp_path / "made"))
    model = smoke.model_folder("random-tiny-gpt2", epath.Path(tmp_path / "made"))
    for folder, name in ((data, "data"), (model, "model")):
        for path in pathlib.Path(folder).rglob("*"):
            if path.is_file():
                (bucket / name / path.relative_to(folder).as_posix()).write_bytes(path.read_bytes())
    task = tasks.get_task("sciq")
    assert sources.load_questions(task, "test", source="gs://bucket/data") == sources.load_questions(
        task, "test", source=str(data)
    )
    copy = loader.resolve("gs://bucket/model")
    assert loader.fingerprint(copy) == loader.fingerprint(pathlib.Path(model))
    (bucket / "mine.jsonl").write_text('{"text": "Is it?", "label": 1}\n{"text": "Is it not?", "label": 0}\n')
    assert len(task_files.load_user_questions("gs://bucket/mine.jsonl", "mine", "train")) == 2
    (bucket / "scores.jsonl").write_text('{"example_id": "a", "p_ik": 0.25}\n')
    assert by_id.read_values("gs://bucket/scores.jsonl", "p_ik", 0, 1) == {"a": 0.25}


def put(store, name: str) -> None:
    """An object of any name, which paths would not have."""
    store.root.joinpath(urllib.parse.quote(name, safe="")).write_bytes(b"owned")


@pytest.mark.parametrize(
    "name",
    [
        "../../../evil.txt",
        "sub/../../../../evil.txt",
        "..",
        "sub/..",
        "..\\..\\evil.txt",
        "evil\0.txt",
        "evil\x1b[2J.txt",
        "evil\n.txt",
        "evil\u202etxt",
    ],
)
def test_an_object_whose_name_no_file_may_have_is_named_and_nothing_is_written(tmp_path, monkeypatch, name):
    monkeypatch.setenv("SELW2S_CACHE", str(tmp_path / "a" / "b" / "cache"))
    with gs_stand_in.installed(tmp_path / "objects") as store:
        (epath.Path("gs://bucket") / "model" / "config.json").write_text("{}")
        put(store, f"bucket/model/{name}")
        with pytest.raises(UserError, match=r"has an object .* which no file may be called") as refused:
            remote.local_copy("gs://bucket/model")
    line = str(refused.value)
    assert "gs://bucket/model" in line and line.isprintable()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["", "/etc/evil.txt", "/", "sub//evil.txt", "./evil.txt", "sub/./evil.txt"])
def test_objects_without_a_name_stay_in_the_store(tmp_path, monkeypatch, name):
    """As "model/", with which Google's console stands for a folder."""
    monkeypatch.setenv("SELW2S_CACHE", str(tmp_path / "cache"))
    with gs_stand_in.installed(tmp_path / "objects") as store:
        (epath.Path("gs://bucket") / "model" / "config.json").write_text("{}")
        put(store, f"bucket/model/{name}")
        copy = remote.local_copy("gs://bucket/model")
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["config.json"]
    assert copy.parent.parent == tmp_path / "cache"


def test_an_object_beside_a_folder_of_its_name_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("SELW2S_CACHE", str(tmp_path / "cache"))
    with gs_stand_in.installed(tmp_path / "objects") as store:
        for name in ("a", "a/b", "a/b/c"):
            put(store, f"bucket/model/{name}")
        try:
            copy = remote.local_copy("gs://bucket/model")
        except UserError as error:
            assert "gs://bucket/model" in str(error)
        else:
            assert [path.name for path in copy.rglob("*") if path.is_file()] == ["c"]
    assert not list(tmp_path.glob("cache/.*"))


def test_a_cache_that_cannot_be_written_is_named_with_its_variable(bucket, tmp_path, monkeypatch):
    (bucket / "mine.jsonl").write_text("one")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SELW2S_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="set SELW2S_CACHE to another folder"):
        remote.local_copy("gs://bucket/mine.jsonl")
    monkeypatch.setenv("SELW2S_CACHE", "gs://bucket/cache")
    with pytest.raises(UserError, match="SELW2S_CACHE"):
        remote.local_copy("gs://bucket/mine.jsonl")
    monkeypatch.setenv("SELW2S_CACHE", "")
    monkeypatch.setattr(remote.places.os.path, "expanduser", lambda path: path)
    with pytest.raises(UserError, match=r"SELW2S_CACHE=~/.cache/selw2s_jax: no home folder is known"):
        remote.local_copy("gs://bucket/mine.jsonl")
