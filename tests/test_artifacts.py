"""Artifacts: there whole or not at all, found by their inputs, checked when read; the lock of a workdir."""

import json
import os
import pathlib
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from selw2s_jax import artifacts
from selw2s_jax.errors import UserError

INPUTS = {"seed": 0, "texts": "5f", "nested": {"a": [1, 2.5, None, True], "b": "é"}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def fill(folder: pathlib.Path) -> None:
    (folder / "summary.json").write_text(json.dumps({"n": 3}))
    (folder / "params").mkdir()
    (folder / "params" / "data").write_bytes(bytes(range(256)))
    (folder / "params" / "shape").write_text("[16, 16]")
    artifacts.write_table(
        folder / "table.parquet", {"example_id": ["a", "b"], "prob_1": np.float32([0.25, 0.5])}
    )


@pytest.fixture
def made(tmp_path) -> artifacts.Artifact:
    return artifacts.Store(tmp_path).make("train", INPUTS, fill)


def find_again(tmp_path) -> artifacts.Artifact | None:
    return artifacts.Store(tmp_path).find("train", INPUTS)


def entries(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_artifact_is_found_with_what_was_written(tmp_path, made):
    found = find_again(tmp_path)
    assert found == made
    assert found.path == tmp_path / "artifacts" / "train" / artifacts.artifact_key("train", INPUTS)
    assert found.read_json("summary.json") == {"n": 3}
    assert found.verified("params").is_dir()
    assert found.verified("params/data").read_bytes() == bytes(range(256))
    table = found.read_table("table.parquet")
    assert table["example_id"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(table["prob_1"], np.float32([0.25, 0.5]))
    assert set(found.files) == {"summary.json", "params/data", "params/shape", "table.parquet"}


def test_other_inputs_and_stages_are_not_found(tmp_path, made):
    store = artifacts.Store(tmp_path)
    assert store.find("train", INPUTS | {"seed": 1}) is None
    assert store.find("answers", INPUTS) is None
    assert artifacts.Store(tmp_path / "elsewhere").find("train", INPUTS) is None


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
def test_a_write_that_raises_leaves_nothing(tmp_path, error):
    store = artifacts.Store(tmp_path)

    def fail(folder):
        fill(folder)
        assert store.find("train", INPUTS) is None
        raise error

    with pytest.raises(type(error)):
        store.make("train", INPUTS, fail)
    assert entries(tmp_path / "artifacts" / "train") == []
    assert find_again(tmp_path) is None
    assert store.make("train", INPUTS, fill).read_json("summary.json") == {"n": 3}


def test_a_hidden_folder_of_a_killed_process_is_removed(tmp_path):
    key = artifacts.artifact_key("train", INPUTS)
    stage = tmp_path / "artifacts" / "train"
    for name in (f".{key}.killed", ".0123456789abcdef.other"):
        (stage / name / "params").mkdir(parents=True)
    assert find_again(tmp_path) is None
    artifacts.Store(tmp_path).make("train", INPUTS, fill)
    assert entries(stage) == sorted([".0123456789abcdef.other", key])


def test_an_artifact_can_be_read_by_others(made):
    assert made.path.stat().st_mode & 0o777 == 0o755
    assert (made.path / "manifest.json").stat().st_mode & 0o777 == 0o644


def damage_truncate(path):
    (path / "params" / "data").write_bytes(bytes(100))


def damage_missing(path):
    (path / "params" / "shape").unlink()


@pytest.mark.parametrize("damage", [damage_truncate, damage_missing])
def test_a_file_missing_or_of_another_size_is_refused_at_once(tmp_path, made, damage):
    damage(made.path)
    with pytest.raises(
        UserError, match=r"artifact train/\w+ is damaged: params/\w+ .*delete .* to make it again"
    ):
        find_again(tmp_path)


def test_a_flipped_byte_is_found_when_read(tmp_path, made):
    content = bytearray((made.path / "params" / "data").read_bytes())
    content[7] ^= 1
    (made.path / "params" / "data").write_bytes(content)
    found = find_again(tmp_path)
    for name in ("params", "params/data"):
        with pytest.raises(
            UserError, match=r"damaged: params/data is not the file that was written; delete "
        ):
            found.verified(name)
    assert found.read_json("summary.json") == {"n": 3}


def test_a_file_that_is_not_of_the_artifact_is_refused(tmp_path, made):
    (made.path / "extra.json").write_text("{}")
    found = find_again(tmp_path)
    for name in ("extra.json", "absent.json", "param"):
        with pytest.raises(UserError, match=f"damaged: {name} is not the file that was written"):
            found.verified(name)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"stage": "train"}', '{"stage": "train", "inputs": {}, "files": []}', "\udcff"],
    ids=["empty", "half", "list", "null", "keys", "files", "bytes"],
)
def test_a_damaged_manifest_is_refused(tmp_path, made, text):
    (made.path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(
        UserError, match=r"artifact train/\w+ has no readable manifest; delete .* to make it again"
    ):
        find_again(tmp_path)


def test_a_missing_manifest_is_refused(tmp_path, made):
    (made.path / "manifest.json").unlink()
    with pytest.raises(UserError, match="has no readable manifest"):
        find_again(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("inputs", INPUTS | {"seed": 1}), ("stage", "answers")])
def test_an_artifact_of_other_inputs_than_its_name_says_is_refused(tmp_path, made, field, value):
    manifest = json.loads((made.path / "manifest.json").read_text())
    (made.path / "manifest.json").write_text(json.dumps(manifest | {field: value}))
    with pytest.raises(UserError, match="was made from other inputs than this run's; delete "):
        find_again(tmp_path)


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
    assert path.read_bytes() == "old — é\n".encode() and entries(tmp_path) == ["results.json"]
    artifacts.write_text(path, "new\n")
    assert path.read_text() == "new\n" and entries(tmp_path) == ["results.json"]


def test_a_held_workdir_is_refused_by_name_of_its_holder(tmp_path):
    workdir = tmp_path / "runs" / "one"
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


def test_a_lock_is_released_when_the_run_fails(tmp_path):
    with pytest.raises(ValueError), artifacts.locked_workdir(tmp_path):
        raise ValueError
    with artifacts.locked_workdir(tmp_path):
        pass


def test_a_lock_dies_with_its_process(tmp_path):
    code = (
        "import pathlib, sys; from selw2s_jax import artifacts\n"
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
        holder.kill()
        holder.wait()
        with artifacts.locked_workdir(tmp_path):
            pass


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
