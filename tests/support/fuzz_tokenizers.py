"""Cases of `support.fuzz`: small tokenizers of every form, with files and settings damaged."""

import base64
import contextlib
import dataclasses
import functools
import json
import pathlib
import random
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from support import fuzz, tokenizer_folders

from selw2s_jax.hf import bos, rank_files, tokenizers

_TEXTS = (
    "", " ", "the cat", "  two  spaces", "10 or 11\n", "\u00e9\u4e2d\U0001f600", "<|end|>", "</s> a", "\ud800", "\0",
    "<|endoftext|>x", "\U0010fffd",
)  # fmt: skip
_QWEN = dataclasses.replace(rank_files.QWEN, num_ranks=260)
_LLAMA_3 = dataclasses.replace(rank_files.LLAMA_3, num_ranks=260)
_SETTINGS = (
    {},
    {"tokenizer_class": "PreTrainedTokenizerFast"},
    {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|end|>", "add_prefix_space": False},
    {"tokenizer_class": "Qwen2TokenizerFast", "bos_token": None, "pad_token": {"content": "<|endoftext|>"}},
    {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True},
    {"bos_token": "<|begin|>", "added_tokens_decoder": {"0": {"content": "<|begin|>", "special": True}},
     "additional_special_tokens": ["<|end|>"], "model_max_length": 1024},
)  # fmt: skip
# As others that are asked for, of any file.
_NAMES = (
    "add_bos_token", "add_eos_token", "add_prefix_space", "do_lower_case", "strip_accents", "split_special_tokens",
    "tokenizer_class", "auto_map", "bos_token", "eos_token", "unk_token", "pad_token", "extra_special_tokens",
    "added_tokens_decoder", "eos_token_id", "bos_token_id", "model_type", "a",
)  # fmt: skip


def _write_ranks(path: pathlib.Path) -> None:
    tokens = [bytes([i]) for i in range(256)] + [b"th", b"the", b" c", b"10"]
    path.write_bytes(b"".join(base64.b64encode(token) + f" {i}\n".encode() for i, token in enumerate(tokens)))


_FORMS: dict[str, Callable[[pathlib.Path], Any]] = {
    "tokenizer.json": tokenizer_folders.write_json,
    "tokenizer.json with a template": lambda folder: tokenizer_folders.write_json(
        folder, {"post_processor": tokenizer_folders.template()}
    ),
    "vocab.json": tokenizer_folders.write_vocab_and_merges,
    "SentencePiece": tokenizer_folders.write_llama,
    "Qwen": lambda folder: _write_ranks(folder / "qwen.tiktoken"),
    "Llama 3": lambda folder: _write_ranks(folder / "tokenizer.model"),
}


@functools.cache
def _files(form: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        _FORMS[form](folder := pathlib.Path(name))
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _write_settings(generator: random.Random, folder: pathlib.Path) -> None:
    """Files beside a tokenizer's own, some of them with values that are none."""
    for name in (
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "added_tokens.json",
    ):
        if generator.random() < 0.3:
            content = dict(generator.choice(_SETTINGS)) if name == "tokenizer_config.json" else {}
            for _ in range(generator.choice((0, 0, 1, 2))):
                tokens = (
                    "<|end|>",
                    "<s>",
                    "the",
                    "new",
                    {"content": "<|end|>", "lstrip": True},
                    True,
                    False,
                    1,
                )
                value = generator.choice(fuzz.NASTY if generator.random() < 0.2 else tokens)
                content[generator.choice(_NAMES)] = value
            (folder / name).write_text(json.dumps(content))


@contextlib.contextmanager
def _few_ranks() -> Iterator[None]:
    with mock.patch.object(rank_files, "QWEN", _QWEN), mock.patch.object(rank_files, "LLAMA_3", _LLAMA_3):
        yield


def _check_ids(tokenizer: tokenizers.Tokenizer, encoded: list[list[int]]) -> None:
    """That ids are such as an embedding of as many rows as there are ids has."""
    assert tokenizer.vocab_size > 0 and tokenizer.encode_batch(_TEXTS) == encoded
    bos_ids = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    for ids in (*encoded, [tokenizer.pad_id], tokenizer.eos_ids, bos_ids):
        assert all(type(i) is int and 0 <= i < tokenizer.vocab_size for i in ids), (ids, tokenizer.vocab_size)
        assert isinstance(tokenizer.decode(ids), str)
    assert all(ids[: len(bos_ids)] == bos_ids for ids in encoded)
    assert len(tokenizer.fingerprint) == 64


@fuzz.register("tokenizers")
def folders(generator: random.Random, folder: pathlib.Path) -> fuzz.Case:
    """The files of a tokenizer and what is beside them."""
    form = generator.choice(list(_FORMS))
    for name, content in _files(form).items():
        (folder / name).write_bytes(content)
    _write_settings(generator, folder)
    done = [form]
    for _ in range(generator.choice((0, 0, 1, 1, 1, 2))):
        if any(path.is_file() for path in folder.iterdir()):
            done.append(fuzz.damage_folder(generator, folder))
    policy = generator.choice(("auto", "auto", *bos.POLICIES))
    num_ids = generator.choice((None, None, 1, 250, 260, 300, 340))

    def read() -> tuple[tokenizers.Tokenizer, list[list[int]]]:
        with _few_ranks():
            tokenizer = tokenizers.load_tokenizer(folder, bos=policy)
        tokenizer.encode("a")
        return tokenizer, tokenizer.encode_batch(_TEXTS)

    def check(found: tuple[tokenizers.Tokenizer, list[list[int]]]) -> None:
        tokenizer, encoded = found
        _check_ids(tokenizer, encoded)
        with _few_ranks():
            again = tokenizers.load_tokenizer(folder, bos=policy)
        assert again.fingerprint == tokenizer.fingerprint and again.encode_batch(_TEXTS) == encoded
        if num_ids is not None:
            tokenizers.check_tokenizer(again, num_ids, "a model")
            assert again.vocab_size <= num_ids
            _check_ids(again, again.encode_batch(_TEXTS))

    settings = {
        path.name: path.read_text(errors="replace")[:150] for path in folder.glob("*.json") if path.is_file()
    }
    return fuzz.Case(f"{', '.join(done)}, bos={policy}, {num_ids} rows, {settings}", read, check)
