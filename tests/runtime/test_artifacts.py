"""Artifacts: there whole or not at all, found by their inputs, checked when read; the lock of a workdir."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from support import gs_stand_in, store_edits

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import artifacts, distributed, leases, storage

INPUTS = {"seed": 0, "texts": "5f", "nested": {"a": [1, 2.5, None, True], "b": "é"}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def fill(folder) -> None:
    (folder / "summary.json").write_text(json.dumps({"n": 3}))
    (folder / "params").mkdir()
    (folder / "params" / "data").write_bytes(bytes(range(256)))
    (folder / "params" / "shape").write_text("[16, 16]")
    artifacts.write_table(
        folder / "table.parquet", {"example_id": ["a", "b"], "prob_1": np.float32([0.25, 0.5])}
    )


@pytest.fixture(params=["local", "gs"])
def workdir(request, tmp_path):
    with gs_stand_in.workdir(request.param, tmp_path) as path:
        yield path


@pytest.fixture
def made(workdir) -> artifacts.Artifact:
    return store_edits.make(artifacts.Store(workdir), "train", INPUTS, fill)


def find_again(workdir) -> artifacts.Artifact | None:
    return artifacts.Store(workdir).find("train", INPUTS)


class Waiting(leases.Machine):
    """Does something else while it sleeps."""

    def __init__(self, *actions):
        self.actions = list(actions)

    def sleep(self, seconds):
        if threading.current_thread() is threading.main_thread():
            self.actions.pop(0)()
        else:
            super().sleep(seconds)


def test_an_artifact_is_found_with_what_was_written(workdir, made):
    found = find_again(workdir)
    assert found == made
    assert found.path == workdir / "artifacts" / "train" / artifacts.artifact_key("train", INPUTS)
    assert found.read_json("summary.json") == {"n": 3}
    assert found.verified("params").is_dir()
    assert found.verified("params/data").read_bytes() == bytes(range(256))
    table = found.read_table("table.parquet")
    assert table["example_id"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(table["prob_1"], np.float32([0.25, 0.5]))
    assert set(found.files) == {"summary.json", "params/data", "params/shape", "table.parquet"}


def test_other_inputs_and_stages_are_not_found(workdir, made):
    store = artifacts.Store(workdir)
    assert store.find("train", INPUTS | {"seed": 1}) is None
    assert store.find("answers", INPUTS) is None
    assert artifacts.Store(workdir / "elsewhere").find("train", INPUTS) is None


@hypothesis.settings(max_examples=50, deadline=None, derandomize=True)
@hypothesis.given(st.dictionaries(st.text(), JSON, max_size=5), st.randoms(use_true_random=False))
def test_keys_do_not_depend_on_the_order_of_dicts(inputs, random):
    def shuffled(value):
        if isinstance(value, dict):
            items = [(name, shuffled(inner)) for name, inner in value.items()]
            random.shuffle(items)
            return dict(items)
        return [shuffled(inner) for inner in value] if isinstance(value, list) else value

    key = artifacts.artifact_key("train", inputs)
    assert artifacts.artifact_key("train", shuffled(inputs)) == key
    assert artifacts.artifact_key("train", json.loads(json.dumps(inputs))) == key
    assert artifacts.artifact_key("answers", inputs) != key
    assert artifacts.artifact_key("train", {"inputs": inputs}) != key


def test_a_key_is_the_same_in_every_version():
    """Frozen: another value would make every workdir's artifacts unfindable."""
    assert artifacts.artifact_key("train", {"b": 1, "a": [0.1, "é"]}) == "69447de98e86230c"


def test_values_that_are_not_json_have_no_key():
    for value in (float("nan"), {1, 2}, np.float32(1.0)):
        with pytest.raises((TypeError, ValueError)):
            artifacts.artifact_key("train", {"value": value})


@pytest.mark.parametrize("error", [ValueError("full"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_write_that_raises_leaves_nothing(workdir, error):
    store = artifacts.Store(workdir)

    def fail(folder):
        fill(folder)
        assert store.find("train", INPUTS) is None
        raise error

    with pytest.raises(type(error)):
        store_edits.make(store, "train", INPUTS, fail)
    assert storage.names(workdir / "artifacts" / "train") == []
    assert find_again(workdir) is None
    assert store_edits.make(store, "train", INPUTS, fill).read_json("summary.json") == {"n": 3}


def test_a_folder_without_manifest_is_unfinished_and_made_anew(workdir, made):
    (made.path / "manifest.json").unlink()
    storage.write_bytes(made.path / "left.json", b"{}")
    assert find_again(workdir) is None
    again = store_edits.make(artifacts.Store(workdir), "train", INPUTS, fill)
    assert "left.json" not in storage.files(again.path) and find_again(workdir) == again


def test_a_finished_artifact_is_not_made_again(workdir, made):
    assert (
        store_edits.make(artifacts.Store(workdir), "train", INPUTS, lambda folder: pytest.fail("made twice"))
        == made
    )


def test_a_damaged_manifest_is_never_overwritten(workdir, made):
    storage.write_bytes(made.path / "manifest.json", b"{")
    with pytest.raises(UserError, match="has no readable manifest; delete "):
        store_edits.make(artifacts.Store(workdir), "train", INPUTS, fill)
    assert (made.path / "params" / "data").read_bytes() == bytes(range(256))
    assert storage.names(workdir / "leases") == []


def test_an_artifact_that_another_run_makes_is_waited_for(workdir, capsys):
    polls = []
    key = artifacts.artifact_key("train", INPUTS)
    other = artifacts.Store(workdir)
    lease = leases.acquire(artifacts.lease_folder(workdir), f"train-{key}")

    def finish():
        lease.release()
        store_edits.make(other, "train", INPUTS, fill)

    machine = Waiting(lambda: None, finish)
    store = artifacts.Store(workdir, while_waiting=lambda: polls.append(1), machine=machine)
    found = store_edits.make(store, "train", INPUTS, lambda folder: pytest.fail("made twice"))
    assert found.read_json("summary.json") == {"n": 3} and polls == [1, 1]
    line = f"  train-{key} is being made by process {os.getpid()} on "
    assert capsys.readouterr().out.count(line) == 1


def test_an_artifact_whose_maker_died_is_made(workdir):
    store = artifacts.Store(workdir)
    lease = leases.acquire(artifacts.lease_folder(workdir), f"train-{store.path('train', INPUTS).name}")
    storage.make_folder(store.path("train", INPUTS))
    storage.write_bytes(store.path("train", INPUTS) / "half", b"")
    store = artifacts.Store(workdir, machine=Waiting(lease.release))
    made = store_edits.make(store, "train", INPUTS, fill)
    assert set(made.files) == {"summary.json", "params/data", "params/shape", "table.parquet"}


def test_a_maker_that_was_taken_for_dead_leaves_the_folder_to_the_other_one(workdir):
    """Stopped in the middle, and gone on after another run had made the artifact."""

    def stopped(folder):
        fill(folder)
        (claim,) = storage.names(workdir / "leases")
        storage.remove_file(workdir / "leases" / claim)
        store_edits.make(artifacts.Store(workdir), "train", INPUTS, fill)
        now[0] += 1000

    class Machine(leases.Machine):
        def clock(self):
            return now[0]

        def repeat(self, function, seconds):
            pass

    now = [0]
    with pytest.raises(UserError, match=r"leases/train-\w+ was lost to another process"):
        store_edits.make(artifacts.Store(workdir, machine=Machine()), "train", INPUTS, stopped)
    assert find_again(workdir).read_json("summary.json") == {"n": 3}


def test_a_run_that_lost_its_workdir_is_told_before_it_writes(workdir):
    class Machine(leases.Machine):
        def clock(self):
            return now[0]

        def repeat(self, function, seconds):
            pass

    now = [0]
    with artifacts.locked_workdir(workdir, machine=Machine()) as lock:
        store = artifacts.Store(workdir, lock=lock)
        store.check_held()
        now[0] += 1000
        (claim,) = storage.names(workdir / "leases")
        storage.remove_file(workdir / "leases" / claim)
        with pytest.raises(UserError, match="leases/workdir was lost to another process"):
            store.check_held()


def test_other_processes_than_the_first_write_nothing(workdir, monkeypatch):
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    artifacts.write_text(workdir / "results.json", "{}")
    artifacts.write_table(workdir / "table.parquet", {"label": [0]})
    artifacts.fill_once(workdir / "made", lambda folder: pytest.fail("filled"))
    with artifacts.locked_workdir(workdir):
        pass
    assert storage.names(workdir) == []


def test_fill_once_fills_once(workdir):
    folder = artifacts.fill_once(workdir / "made", fill)
    assert storage.names(workdir) == ["made"]
    assert artifacts.fill_once(workdir / "made", lambda folder: pytest.fail("filled twice")) == folder
    assert (folder / "params" / "shape").read_text() == "[16, 16]"


def test_fill_once_that_fails_leaves_nothing_that_is_found(workdir):
    def fail(folder):
        fill(folder)
        raise ValueError

    with pytest.raises(ValueError):
        artifacts.fill_once(workdir / "made", fail)
    assert storage.names(workdir) == []
    assert (artifacts.fill_once(workdir / "made", fill) / "params" / "shape").read_text() == "[16, 16]"


def test_of_two_that_fill_at_once_the_first_stays(workdir):
    def slow(folder):
        fill(folder)
        artifacts.fill_once(workdir / "made", fill)

    folder = artifacts.fill_once(workdir / "made", slow)
    assert storage.names(workdir) == ["made"] and (folder / "params" / "shape").read_text() == "[16, 16]"


def test_an_artifact_can_be_read_by_others(tmp_path):
    path = store_edits.make(artifacts.Store(tmp_path), "train", INPUTS, fill).path
    folder = artifacts.fill_once(tmp_path / "made", fill)
    assert os.stat(path / "manifest.json").st_mode & 0o777 == 0o644
    assert os.stat(folder).st_mode & 0o777 == 0o755


def damage_truncate(path):
    storage.write_bytes(path / "params" / "data", bytes(100))


def damage_missing(path):
    (path / "params" / "shape").unlink()


@pytest.mark.parametrize("damage", [damage_truncate, damage_missing])
def test_a_file_missing_or_of_another_size_is_refused_at_once(workdir, made, damage):
    damage(made.path)
    with pytest.raises(
        UserError, match=r"artifact train/\w+ is damaged: params/\w+ .*delete .* to make it again"
    ):
        find_again(workdir)


def test_a_flipped_byte_is_found_when_read(workdir, made):
    content = bytearray((made.path / "params" / "data").read_bytes())
    content[7] ^= 1
    (made.path / "params" / "data").write_bytes(bytes(content))
    found = find_again(workdir)
    for name in ("params", "params/data"):
        with pytest.raises(
            UserError, match=r"damaged: params/data is not the file that was written; delete "
        ):
            found.verified(name)
    assert found.read_json("summary.json") == {"n": 3}


def test_a_file_that_is_not_of_the_artifact_is_refused(workdir, made):
    (made.path / "extra.json").write_text("{}")
    found = find_again(workdir)
    for name in ("extra.json", "absent.json", "param"):
        with pytest.raises(UserError, match=f"damaged: {name} is not the file that was written"):
            found.verified(name)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "{",
            "[]",
            "null",
            '{"stage": "train"}',
            '{"stage": "train", "inputs": {}, "files": []}',
            "\udcff",
        ),
        '{"stage": "train", "inputs": {"seed": NaN}, "files": {}}',
    ],
    ids=["empty", "half", "list", "null", "keys", "files", "bytes", "no number"],
)
def test_a_damaged_manifest_is_refused(workdir, made, text):
    (made.path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(
        UserError, match=r"artifact train/\w+ has no readable manifest; delete .* to make it again"
    ):
        find_again(workdir)


@pytest.mark.parametrize("place", ["manifest.json", "params/data", "params"])
@pytest.mark.parametrize("target", ["nowhere", "data", None])
def test_a_link_or_folder_in_a_files_place_is_damage(tmp_path, place, target):
    made = store_edits.make(artifacts.Store(tmp_path), "train", INPUTS, fill)
    path = pathlib.Path(made.path / place)
    path.rename(tmp_path / "aside")
    if target is None:
        path.mkdir()
    else:
        path.symlink_to(path.name if target == "data" else target)
    if (place, target) == ("manifest.json", "nowhere"):
        assert find_again(tmp_path) is None
        return
    with pytest.raises(UserError, match=r"artifact train/\w+ .*; delete .* to make it again") as raised:
        find_again(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("stage", "key"), [("train", "\ud800"), ("train", "../a"), ("a\nb", "ab"), ("train", "")]
)
def test_a_name_that_no_artifact_has_is_refused(tmp_path, stage, key):
    with pytest.raises(UserError, match="names no artifact") as raised:
        artifacts.Store(tmp_path).find_by_key(stage, key)
    assert "\n" not in str(raised.value) and str(raised.value).encode()


@pytest.mark.parametrize(("field", "value"), [("inputs", INPUTS | {"seed": 1}), ("stage", "answers")])
def test_an_artifact_of_other_inputs_than_its_name_says_is_refused(workdir, made, field, value):
    manifest = json.loads((made.path / "manifest.json").read_text())
    (made.path / "manifest.json").write_text(json.dumps(manifest | {field: value}))
    with pytest.raises(UserError, match="was made from other inputs than this run's; delete "):
        find_again(workdir)


def test_write_text_replaces_a_file_at_once(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    artifacts.write_text(path, "old — é\n")
    assert path.read_bytes() == "old — é\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644

    def fail(*args):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            artifacts.write_text(path, "new\n")
    assert path.read_bytes() == "old — é\n".encode() and storage.names(tmp_path) == ["results.json"]
    artifacts.write_text(path, "new\n")
    assert path.read_text() == "new\n" and storage.names(tmp_path) == ["results.json"]


def test_a_held_workdir_is_refused_by_name_of_its_holder(workdir):
    with artifacts.locked_workdir(workdir):
        for _ in range(2):
            with (
                pytest.raises(
                    UserError, match=rf"workdir .*one is in use by process {os.getpid()} on \S+; wait "
                ),
                artifacts.locked_workdir(workdir),
            ):
                pass
    with artifacts.locked_workdir(workdir):
        pass
    assert storage.names(workdir / "leases") == []


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("a1 0/2", "a1 1/2", True),
        ("a1 1/2", "a1 0/2", True),
        ("a1 0/2", "a1 0/2", False),
        ("a1 0/2", "b2 1/2", False),
        ("a1 0/1", "b2 0/1", False),
        ("a1 0/1", "", False),
        ("", "a1 0/1", False),
    ],
)
def test_only_shards_of_one_config_share_a_workdir(workdir, first, second, shared):
    refused = contextlib.nullcontext() if shared else pytest.raises(UserError, match="is in use by process")
    with artifacts.locked_workdir(workdir, first), refused, artifacts.locked_workdir(workdir, second):
        pass


def test_a_lock_is_released_when_the_run_fails(workdir):
    with pytest.raises(ValueError), artifacts.locked_workdir(workdir):
        raise ValueError
    with artifacts.locked_workdir(workdir):
        pass


def test_a_lock_dies_with_its_process(tmp_path, capsys):
    code = (
        "import pathlib, sys; from selw2s_jax.runtime import artifacts\n"
        "with artifacts.locked_workdir(pathlib.Path(sys.argv[1])): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"in use by process {holder.pid} on "),
            artifacts.locked_workdir(tmp_path),
        ):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # a zombie, until its parent asks for it
        with artifacts.locked_workdir(tmp_path):
            pass
    assert f"took over the lock of process {holder.pid} on " in capsys.readouterr().out
    assert storage.names(tmp_path / "leases") == []


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_workdir_that_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(
            UserError, match=rf"workdir .*{name} cannot be written \(.+\); choose another --workdir"
        ),
        artifacts.locked_workdir(tmp_path / name),
    ):
        pass


def test_gs_without_its_library_is_refused_by_name(monkeypatch):
    def missing(*args, **kwargs):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(storage.backend.fsspec_backend, "fs", missing)
    monkeypatch.setattr("etils.epath.gpath._is_tf_installed", lambda: False)
    with (
        pytest.raises(UserError, match=r"gs://bucket/run cannot be written \(.*pip install gcsfs"),
        artifacts.locked_workdir("gs://bucket/run"),
    ):
        pass
