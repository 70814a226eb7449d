"""Tokenizer files that are not what they should be end in one line that names the file."""

import pathlib

import pytest
from support.tokenizer_folders import (
    byte_level_json,
    template,
    write_json,
    write_llama,
    write_vocab_and_merges,
)

from selw2s_jax.errors import UserError
from selw2s_jax.hf import tokenizers


def load(folder: pathlib.Path) -> tokenizers.Tokenizer:
    return tokenizers.load_tokenizer(folder)


def expect_error(folder: pathlib.Path, pattern: str) -> None:
    with pytest.raises(UserError, match=pattern) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "unk_token": "[UNK]",
         "vocab": {"a": 0}},
        {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"},
        {"type": "Unigram", "unk_id": None, "vocab": [["a", -1.0]]},
        {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "[UNK]"},
    ],
)  # fmt: skip
def test_a_tokenizer_that_cannot_read_a_word(tmp_path, model):
    parts = {"model": model, "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "decoder": None}
    expect_error(write_json(tmp_path, parts), r"tokenizer\.json")


class PanicException(BaseException):
    """As pyo3's, by name."""


@pytest.mark.parametrize(
    "error", [PanicException("index out of range\nat 7"), Exception("no unk"), ValueError("x")]
)
def test_a_text_at_which_the_library_fails_is_a_user_error(tmp_path, monkeypatch, error):
    tokenizer = load(write_json(tmp_path))
    monkeypatch.setattr(tokenizer, "_backend", FailingBackend(error))
    for encode in (lambda: tokenizer.encode("a"), lambda: tokenizer.encode_batch(["a", "b"])):
        with pytest.raises(UserError, match=r"tokenizer\.json cannot tokenize a text") as caught:
            encode()
        assert "\n" not in str(caught.value)


def test_an_interrupt_is_no_damaged_file(tmp_path, monkeypatch):
    tokenizer = load(write_json(tmp_path))
    monkeypatch.setattr(tokenizer, "_backend", FailingBackend(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("a")


class FailingBackend:
    def __init__(self, error: BaseException):
        self._error = error

    def encode_batch_fast(self, texts, add_special_tokens):
        raise self._error


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
    ],
)
@pytest.mark.parametrize("content", [DEEP, '{"a": ' + DEEP, "{", "[]", "\xff", "7" * 5000])
def test_json_that_cannot_be_read(tmp_path, name, content):
    write_json(tmp_path)
    (tmp_path / name).write_text(content, encoding="latin-1")
    expect_error(tmp_path, name.replace(".", r"\."))


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "config.json"])
@pytest.mark.parametrize("content", [DEEP, "{", '{"a": -1}', "\xff"])
def test_vocab_and_merges_that_cannot_be_read(tmp_path, name, content):
    write_vocab_and_merges(tmp_path)
    (tmp_path / name).write_text(content, encoding="latin-1")
    if (name, content) == ("config.json", '{"a": -1}'):
        load(tmp_path)  # a config of no known model
    else:
        expect_error(tmp_path, name.replace(".", r"\."))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"continuing_subword_prefix": "##"}},
        {"model": {"merges": [["", "the"]]}},
        {"model": {"merges": [["zz", "yy"]]}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(?<"}, "content": ""}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?<"}, "behavior": "Isolated", "invert": False}},
        {"post_processor": template() | {"special_tokens": {}}},
        {"post_processor": template() | {"special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [999],
                                                                          "tokens": ["<|begin|>"]}}}},
    ],
)  # fmt: skip
def test_a_library_that_panics_or_fails_ends_in_one_line(tmp_path, changes):
    if "model" in changes:
        changes = {"model": byte_level_json()["model"] | changes["model"]}
    expect_error(write_json(tmp_path, changes), r"tokenizer\.json")


def test_pieces_of_a_damaged_tokenizer_model(tmp_path):
    write_llama(tmp_path)
    content = (tmp_path / "tokenizer.model").read_bytes()
    place = content.index("▁the".encode())
    for damaged in (
        content[:place] + b"\xff\xff\xff" + content[place + 3 :],
        content[: len(content) // 2],
        content[:place] + b"\x00" + content[place:],
    ):
        (tmp_path / "tokenizer.model").write_bytes(damaged)
        expect_error(tmp_path, r"tokenizer\.model")
