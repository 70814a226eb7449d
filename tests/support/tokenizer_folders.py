"""Small tokenizers as folders, in the forms that models are published with."""

import functools
import io
import json
import pathlib
from typing import Any

import pytest

TEXTS = [
    "Q: What gas do plants take in? A: carbon dioxide\nR: 1",
    "the cat, the hat; 10 or 11",
    "  two  spaces and   three",
]


@functools.cache
def _sentencepiece_model() -> bytes:
    sentencepiece = pytest.importorskip("sentencepiece", reason="install the llama extra")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5),
        model_writer=model,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    return model.getvalue()


def write_llama(folder: pathlib.Path, **settings: Any) -> pathlib.Path:
    """A Llama-style tokenizer.model, with `<unk>`, `<s>` and `</s>` as ids 0 to 2."""
    (folder / "tokenizer.model").write_bytes(_sentencepiece_model())
    return write_settings(folder, **settings)


def write_settings(folder: pathlib.Path, **settings: Any) -> pathlib.Path:
    """A tokenizer_config.json of these settings; none where there are none."""
    path = folder / "tokenizer_config.json"
    path.unlink(missing_ok=True)
    if settings:
        path.write_text(json.dumps(settings))
    return folder


@functools.cache
def _byte_level() -> str:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=301,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS * 3, trainer)
    return backend.to_str()


def byte_level_json() -> dict[str, Any]:
    """The content of a tokenizer.json of byte-level BPE with 301 ids, `<|begin|>` (0) and `<|end|>` (1) special."""
    return json.loads(_byte_level())


def template(front: tuple[str, ...] = ("<|begin|>",), back: tuple[str, ...] = ()) -> dict[str, Any]:
    """A post-processor that puts special tokens around a text."""
    ids = {"<|begin|>": 0, "<|end|>": 1}
    around = [[{"SpecialToken": {"id": name, "type_id": 0}} for name in names] for names in (front, back)]
    single = [*around[0], {"Sequence": {"id": "A", "type_id": 0}}, *around[1]]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {n: {"id": n, "ids": [ids[n]], "tokens": [n]} for n in {*front, *back}},
    }


def write_json(folder: pathlib.Path, changes: dict[str, Any] | None = None, **settings: Any) -> pathlib.Path:
    """A tokenizer.json, `byte_level_json` with changes of its parts, and settings beside it."""
    content = byte_level_json() | (changes or {})
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return write_settings(folder, **settings)


def write_vocab_and_merges(folder: pathlib.Path, **settings: Any) -> pathlib.Path:
    """The same as vocab.json and merges.txt, with `<|endoftext|>` (0) and `<|padding|>` (1)."""
    model = byte_level_json()["model"]
    vocab = {
        {"<|begin|>": "<|endoftext|>", "<|end|>": "<|padding|>"}.get(t, t): i
        for t, i in model["vocab"].items()
    }
    (folder / "vocab.json").write_text(json.dumps(vocab))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return write_settings(folder, **settings)
