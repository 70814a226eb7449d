"""Folders of data sets as the hub's clients leave them: the same questions as from a folder of our own."""

import pathlib
import shutil

import pyarrow.parquet as pq
import pytest

from selw2s_jax.data import sources, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.worlds import generated


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("ours")
    generated.write_generated_data(folder, seed=3, num_train=23, num_test=9)
    return folder


def load(name: str, split: str, folder) -> list[tasks.Question]:
    return sources.load_questions(tasks.get_task(name), split, source=str(folder))


def split_file(source: pathlib.Path, target: pathlib.Path, names: list[str]) -> None:
    """Writes a file's rows in parts of those names."""
    table, target = pq.read_table(source), pathlib.Path(target)
    target.mkdir(parents=True, exist_ok=True)
    size = -(-len(table) // len(names))
    for i, name in enumerate(names):
        pq.write_table(table.slice(i * size, size), target / f"{name}.parquet")


def parts(split: str, count: int = 1) -> list[str]:
    return [f"{split}-{i:05d}-of-{count:05d}" for i in range(count)]


COMMIT = tasks.TASKS["sciq"].hub_revision


@pytest.mark.parametrize(
    ("name", "sources_to_targets"),
    {
        "data": ("sciq", {"sciq/train": ("sciq/data", parts("train"))}),
        "several parts": ("sciq", {"sciq/train": ("sciq/data", parts("train", 3))}),
        "without data": ("sciq", {"sciq/train": ("sciq", parts("train", 2))}),
        "a config named default": ("sciq", {"sciq/train": ("sciq/default", parts("train"))}),
        "owner and name": ("sciq", {"sciq/train": ("allenai/sciq/data", parts("train"))}),
        "a parquet conversion": ("cosmos_qa", {"cosmos_qa/train": ("cosmos_qa/default/train", ["0000", "0001"])}),
        "boolq": ("boolq", {"boolq/train": ("boolq/data", parts("train"))}),
        "configs": (
            "arc",
            {
                "ai2_arc/ARC-Easy/train": ("ai2_arc/ARC-Easy", parts("train", 2)),
                "ai2_arc/ARC-Challenge/train": ("ai2_arc/ARC-Challenge", parts("train")),
            },
        ),
        "winogrande": (
            "winogrande",
            {"winogrande/winogrande_xl/train": ("winogrande/winogrande_xl", parts("train", 11))},
        ),
        "gsm8k": ("gsm8k", {"gsm8k/main/train": ("gsm8k/main", parts("train"))}),
        "the client's cache": (
            "sciq",
            {"sciq/train": (f"datasets--allenai--sciq/snapshots/{COMMIT}/data", parts("train"))},
        ),
        "its only commit": (
            "sciq",
            {"sciq/train": ("datasets--allenai--sciq/snapshots/abc/data", parts("train", 2))},
        ),
    }.values(),
)  # fmt: skip
def test_the_same_questions(ours, tmp_path, name, sources_to_targets):
    for source, (target, names) in sources_to_targets.items():
        split_file(ours / f"{source}.parquet", tmp_path / target, names)
    assert load(name, "train", tmp_path) == load(name, "train", ours)


def test_the_folder_of_the_data_set_itself(ours, tmp_path):
    split_file(ours / "sciq" / "train.parquet", tmp_path / "sciq" / "data", parts("train"))
    assert load("sciq", "train", tmp_path / "sciq") == load("sciq", "train", ours)


def test_the_newest_commit_of_several(ours, tmp_path):
    cache = tmp_path / "datasets--allenai--sciq"
    split_file(ours / "sciq" / "train.parquet", cache / "snapshots" / "abc" / "data", parts("train"))
    split_file(ours / "sciq" / "test.parquet", cache / "snapshots" / "def" / "data", parts("train"))
    with pytest.raises(UserError, match="is missing"):
        load("sciq", "train", tmp_path)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc\n")
    assert load("sciq", "train", tmp_path) == load("sciq", "train", ours)


def test_a_file_of_our_naming_comes_first(ours, tmp_path):
    shutil.copytree(ours / "sciq", tmp_path / "sciq")
    split_file(ours / "sciq" / "test.parquet", tmp_path / "sciq" / "data", parts("train"))
    assert load("sciq", "train", tmp_path) == load("sciq", "train", ours)


def test_cosmos_qa_in_parts_is_divided_too(ours, tmp_path):
    split_file(
        ours / "cosmos_qa" / "validation.parquet", tmp_path / "cosmos_qa" / "data", parts("validation", 2)
    )
    whole = tmp_path / "whole"
    (whole / "cosmos_qa").mkdir(parents=True)
    shutil.copy(ours / "cosmos_qa" / "validation.parquet", whole / "cosmos_qa")
    assert load("cosmos_qa", "test", tmp_path) == load("cosmos_qa", "test", whole)
    assert sources.is_divided(tasks.get_task("cosmos_qa"), source=str(tmp_path))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-00000-of-00003", "train-00002-of-00003"], "has 2 of 3 parts of split 'train', part 1 is missing"),
        (["train-00000-of-00001", "train-00000-of-00002"], "of two versions"),
        (["train-00000-of-00001", "train-00001-of-00001"], "has 2 of 1 parts"),
        (["training"], r"put split 'train' of allenai/sciq .*there are: data/training.parquet\)"),
        (["validation-00000-of-00001"], "sciq/train.parquet is missing"),
    ],
)  # fmt: skip
def test_parts_that_are_not_whole(ours, tmp_path, names, message):
    split_file(ours / "sciq" / "train.parquet", tmp_path / "sciq" / "data", names)
    with pytest.raises(UserError, match=message):
        load("sciq", "train", tmp_path)


def test_what_stands_in_the_place_of_a_file(ours, tmp_path):
    folder = tmp_path / "sciq"
    folder.mkdir()
    (folder / "train.parquet").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    with pytest.raises(UserError, match="pointer of Git LFS: git lfs pull"):
        load("sciq", "train", tmp_path)
    (folder / "train.parquet").unlink()
    (folder / "train.parquet").mkdir()
    with pytest.raises(UserError, match="is missing or not a file"):
        load("sciq", "train", tmp_path)
