"""Tokenizers from the files of a local folder, with one small interface: text to the ids that a model reads.

`load_tokenizer` looks for these files and takes the first it finds:

1. `qwen.tiktoken`: Qwen, first generation. The ranks go to tiktoken with the split pattern, the special
   tokens and the NFC normalisation of Qwen's own tokenization_qwen.py, which is never run.
2. `tokenizer.json`: any model, exactly as the file says. Padding, truncation and dropout saved in it are off.
3. `vocab.json` with `merges.txt`: byte-level BPE of the class that tokenizer_config.json names, or GPT-2's.
4. `tokenizer.model`: Llama 3 (tiktoken ranks) or Llama 1 and 2 and Mistral (SentencePiece BPE).

In every format the text of a special token becomes that token, as in transformers and in Qwen's own code.
A lone surrogate, which no UTF-8 text holds but a JSON escape can make, is read as U+FFFD.
"""

import abc
import hashlib
import json
import os
import pathlib
import types
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from selw2s_jax import errors
from selw2s_jax.hf import bos as bos_lib
from selw2s_jax.hf import (
    byte_level_bpe,
    kept_tokens,
    model_folders,
    rank_files,
    sentencepiece_bpe,
    tokenizer_settings,
)
from selw2s_jax.runtime import artifacts, provenance, remote

# Embedding tables are padded to round sizes; no published model adds as many rows as this.
MAX_EMBEDDING_PADDING = 1024

# Of tokenizers whose settings name no end-of-text token: GPT-2 and GPT-NeoX, Llama and Mistral, Llama 3.
_KNOWN_EOS_TOKENS = ("<|endoftext|>", "</s>", "<|end_of_text|>")
# In no published vocabulary: what a tokenizer makes of it shows whether it can read whatever it does not know.
_UNKNOWN_TEXT = "\U0010fffd"
_SAME_MODEL = "use the tokenizer files that came with the model"


class Tokenizer(abc.ABC):
    """Text to the token ids that a model reads, and back.

    Attributes:
        files: the files that define the tokenizer.
        fingerprint: sha256, in hex, over the names and contents of `files`, and the BOS token where it is put.
        vocab_size: the largest id plus one, special tokens included.
        pad_id: a valid id for padding slots; they are masked, so any would do.
        eos_ids: the tokens that end a text or a turn of a chat, ascending, by the tokenizer and the
            generation_config.json beside it; () where neither says. The fingerprint does not cover that file.
        bos_id: the beginning-of-text token that is put in front of every text; None where none is.
        bos_note: a clause that says so, or that none is against what the files say; None where there is nothing to say.
    """

    def __init__(
        self,
        files: Iterable[pathlib.Path],
        *,
        vocab_size: int,
        pad_id: int,
        eos_ids: Iterable[int] = (),
        bos: bos_lib.Bos = bos_lib.NONE,
        bos_policy: str = "auto",
    ):
        self.files = tuple(files)
        self.vocab_size = vocab_size
        self.pad_id = pad_id
        named = _generation_eos_ids(self.files[0].parent / "generation_config.json")
        self.eos_ids = tuple(sorted({*eos_ids, *(i for i in named if 0 <= i < vocab_size)}))
        self.bos_id = bos.chosen(bos_policy, self.files[0])
        self.bos_note = self._describe_bos(bos, bos_policy)
        self.fingerprint = _fingerprint(self.files, self.bos_id)
        self._kept: kept_tokens.KeptTokens | None = None

    def _describe_bos(self, bos: bos_lib.Bos, policy: str) -> str | None:
        said_by = bos.said_by if policy == "auto" else f"model.bos={policy}"
        if self.bos_id is not None:
            return (
                f"{self.decode([self.bos_id])} (id {self.bos_id}) is put in front of every text ({said_by})"
            )
        if bos.is_put:
            return f"no beginning-of-text token is put in front of texts ({said_by}), against {bos.said_by}"
        return None

    def encode(self, text: str) -> list[int]:
        """The ids of `text`: the BOS token in front where it is put, and no end-of-text token."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in the fastest way the tokenizer has.

        Raises:
            UserError: a text cannot be tokenized.
        """
        encode = self._encode_bare
        encoded = encode(texts) if self._kept is None else self._kept.encode(texts, encode)
        return encoded if self.bos_id is None else [[self.bos_id, *ids] for ids in encoded]

    def keep_in(self, folder: str | os.PathLike) -> None:
        """Keeps what is tokenised many texts at a time, below a folder, for this process and later ones.

        Once the tokenizer is limited to the ids of its model: what is kept is found by all that ids depend on.
        """
        depends_on = {
            "tokenizer": self.fingerprint,
            "num_ids": self.vocab_size,
            "unicode": unicodedata.unidata_version,
            "source": provenance.source(),
            "libraries": provenance.libraries(),
        }
        self._kept = kept_tokens.KeptTokens(epath.Path(folder) / artifacts.content_hash(depends_on)[:16])

    @abc.abstractmethod
    def _encode_bare(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts, with nothing added."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included; bytes that are not UTF-8 become U+FFFD."""

    @abc.abstractmethod
    def _ids_from(self, first_id: int) -> dict[int, str | None]:
        """The tokens with ids from that one on: the text of a special token that only this text becomes, else None."""

    @abc.abstractmethod
    def _forget(self, tokens: Sequence[str]) -> None:
        """Reads the text of special tokens as any other."""

    def limit_to(self, num_ids: int) -> str | None:
        """Leaves out special tokens with ids from `num_ids` on; or names the first token from there that is none.

        The text of a token that is left out, as the `[PAD]` of a tokenizer whose model was never resized, is read as
        any other text.
        """
        if num_ids >= self.vocab_size:
            return None
        beyond = self._ids_from(num_ids)
        if odd := [i for i, text in beyond.items() if text is None]:
            return f"{self.decode([min(odd)])!r} has the id {min(odd)}"
        if self.bos_id is not None and self.bos_id >= num_ids:
            return f"{self.decode([self.bos_id])!r}, which is put in front of every text, has the id {self.bos_id}"
        self._forget([text for text in beyond.values() if text])
        self._kept = None
        self.vocab_size = num_ids
        self.eos_ids = tuple(i for i in self.eos_ids if i < num_ids)
        if self.pad_id >= num_ids:
            self.pad_id = self.eos_ids[0] if self.eos_ids else 0
        return None


class _TiktokenTokenizer(Tokenizer):
    """A rank file, with the settings beside it where there are some that count (Qwen's own code takes none)."""

    def __init__(
        self,
        path: pathlib.Path,
        form: rank_files.Format,
        bos_policy: str,
        settings: tokenizer_settings.Settings | None = None,
    ):
        import tiktoken

        ranks = rank_files.read(path, form)
        names = (
            form.special_tokens
            if settings is None
            else rank_files.special_tokens(form, ranks, settings, path)
        )
        self._special_tokens = {token: form.num_ranks + i for i, token in enumerate(names)}
        self._encoding = tiktoken.Encoding(
            form.model_name, pat_str=form.pattern, mergeable_ranks=ranks, special_tokens=self._special_tokens
        )
        splits = settings is not None and settings.flag("split_special_tokens")
        self._read_as_tokens = set() if splits else set(self._special_tokens)
        self._normalize_nfc = form.normalize_nfc
        eos_ids = [form.num_ranks + form.special_tokens.index(token) for token in form.end_tokens]
        super().__init__(
            [path, *([] if settings is None else settings.files)],
            vocab_size=self._encoding.n_vocab,
            pad_id=eos_ids[0],
            eos_ids=eos_ids,
            bos=bos_lib.find_of_ranks(form.bos_token, self._special_tokens, settings, path),
            bos_policy=bos_policy,
        )

    def _encode_bare(self, texts):
        return [self._encode_one(text) for text in texts]  # faster than threads: about 25 us for a short text

    def _encode_one(self, text: str) -> list[int]:
        if self._normalize_nfc:
            text = unicodedata.normalize("NFC", text)
        try:
            return self._encoding.encode(text, allowed_special=self._read_as_tokens, disallowed_special=())
        except ValueError as error:  # the split pattern overflows its stack on a million spaces
            raise errors.UserError(
                f"a text of {len(text):,} characters that starts with {text[:40]!r} cannot be tokenized "
                f"({errors.one_line(error)}): shorten its longest run of white space"
            ) from error

    def decode(self, ids):
        return self._encoding.decode(ids, errors="replace")

    def _ids_from(self, first_id):
        texts = {i: text for text, i in self._special_tokens.items()}
        return {i: texts.get(i) for i in range(first_id, self._encoding.n_vocab)}

    def _forget(self, tokens):
        self._read_as_tokens -= set(tokens)


class _FastTokenizer(Tokenizer):
    """Around a `tokenizers.Tokenizer`, the Rust object inside every fast tokenizer of transformers.

    Args:
        files: the tokenizer's own.
        special_tokens: of its kind, by name, where the settings name no others.
        wants_bos: whether models of its kind read a BOS token in front, where no file says.
    """

    def __init__(
        self,
        backend,
        files: Sequence[pathlib.Path],
        settings: tokenizer_settings.Settings,
        bos_policy: str,
        *,
        special_tokens: Mapping[str, str] = types.MappingProxyType({}),
        wants_bos: bool = False,
    ):
        self._backend = backend
        self._cannot = f"{files[0]} cannot tokenize a text"
        tokenizer_settings.apply(backend, settings, files[0])
        self._encode_bare([_UNKNOWN_TEXT])
        vocab = backend.get_vocab(with_added_tokens=True)
        eos_token = settings.token("eos_token")
        eos_token = eos_token or next((token for token in _KNOWN_EOS_TOKENS if token in vocab), None)
        padding = (settings.pad_token, settings.token("eos_token"), "<|endoftext|>", "</s>")
        super().__init__(
            [*files, *settings.files],
            vocab_size=max(vocab.values(), default=-1) + 1,
            pad_id=next((vocab[token] for token in padding if token in vocab), 0),
            eos_ids=[vocab[eos_token]] if eos_token in vocab else (),
            bos=bos_lib.find(
                backend, settings, files[0], token=special_tokens.get("bos_token"), is_put=wants_bos
            ),
            bos_policy=bos_policy,
        )

    def _encode_bare(self, texts):
        with tokenizer_settings.library_errors(self._cannot, _SAME_MODEL):
            encodings = self._backend.encode_batch_fast(
                [_replace_surrogates(text) for text in texts], add_special_tokens=False
            )
        return [encoding.ids for encoding in encodings]

    def decode(self, ids):
        return self._backend.decode(ids, skip_special_tokens=False)

    def _ids_from(self, first_id):
        ordinary = self._backend.get_vocab(with_added_tokens=False)
        added = self._backend.get_added_tokens_decoder()
        special = {i: t.content for i, t in added.items() if t.special and t.content not in ordinary}
        every = {i for i in (*ordinary.values(), *added) if i >= first_id}
        return {i: special.get(i) for i in every}

    def _forget(self, tokens):
        content = json.loads(self._backend.to_str())
        content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] not in tokens]
        content["post_processor"] = None  # may name them, and is never run
        backend = type(self._backend).from_str(json.dumps(content))
        backend.encode_special_tokens = self._backend.encode_special_tokens
        self._backend = backend


def load_tokenizer(folder: str | os.PathLike, *, bos: str = "auto") -> Tokenizer:
    """The tokenizer of a local Hugging Face folder; the module's docstring says which files decide.

    Args:
        bos: whether the BOS token is put in front of texts: "auto" (as the files say), "on" or "off".

    Raises:
        UserError: no such folder, no tokenizer in it, a damaged file, a setting that cannot be honoured, a tokenizer
            that only code shipped with the model could build, or `bos` is "on" and it has no such token.
    """
    folder = model_folders.step_into(remote.local_copy(folder))
    if not model_folders.is_folder(folder):
        raise errors.UserError(
            f"no tokenizer folder at {folder}: give a folder that holds the tokenizer files"
        )
    if (path := folder / "qwen.tiktoken").is_file():
        return _TiktokenTokenizer(path, rank_files.QWEN, bos)

    settings = tokenizer_settings.read(folder)
    if (path := folder / "tokenizer.json").is_file():
        return _load_tokenizer_json(path, settings, bos)
    if (folder / "vocab.json").is_file() or (folder / "merges.txt").is_file():
        _refuse_remote_code(settings)
        backend, special_tokens = byte_level_bpe.read(folder, settings)
        files = [folder / "vocab.json", folder / "merges.txt"]
        return _FastTokenizer(backend, files, settings, bos, special_tokens=special_tokens)
    _refuse_remote_code(settings)
    if (path := folder / "tokenizer.model").is_file():
        return _load_tokenizer_model(path, settings, bos)
    raise errors.UserError(
        f"no tokenizer in {folder}: copy there the model's qwen.tiktoken, tokenizer.json, vocab.json with "
        "merges.txt, or tokenizer.model"
    )


def check_tokenizer(tokenizer: Tokenizer, model_vocab_size: int, model_name: str) -> None:
    """Refuses a tokenizer whose ids cannot be those of a model with `model_vocab_size` embedding rows.

    Special tokens without a row, such as a padding token that was added later, are left out of it instead.

    Raises:
        UserError: an id that texts have without an embedding row, or more than 1,024 rows without an id.
    """
    source = tokenizer.files[0]
    if odd := tokenizer.limit_to(model_vocab_size):
        raise errors.UserError(
            f"vocabulary of {model_name} too small for the ids of {source}: {model_vocab_size:,} embedding rows, "
            f"ids up to {tokenizer.vocab_size - 1:,}, and {odd}; {_SAME_MODEL}"
        )
    if model_vocab_size - tokenizer.vocab_size > MAX_EMBEDDING_PADDING:
        raise errors.UserError(
            f"{source} is the wrong tokenizer for {model_name}: {tokenizer.vocab_size:,} ids for "
            f"{model_vocab_size:,} embedding rows; {_SAME_MODEL}"
        )


def train_byte_level_bpe(texts: Iterable[str], vocab_size: int, folder: str | os.PathLike) -> Tokenizer:
    """Trains a byte-level BPE tokenizer and saves it as a Hugging Face folder.

    Every Unicode string survives encoding and decoding. Each digit is a token of its own, never joined to
    a space, so " 0" and " 1" differ in their last token only. The same texts in the same order give the
    same files. The vocabulary is smaller than `vocab_size` where the texts offer too few merges.

    Args:
        texts: the texts to learn merges from.
        vocab_size: the most ids to use, `<|endoftext|>` (id 0) and the 256 bytes included.
        folder: where tokenizer.json and tokenizer_config.json go; made where missing.

    Raises:
        UserError: `vocab_size` below 257.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    end_of_text = "<|endoftext|>"
    if vocab_size < 257:
        raise errors.UserError(
            f"vocab_size {vocab_size} is too small: use 257 (the bytes, {end_of_text}) or more"
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[end_of_text],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((_replace_surrogates(text) for text in texts), trainer)

    _write_fast_tokenizer(backend, folder, eos_token=end_of_text)
    return load_tokenizer(folder)


def write_word_level(words: Iterable[str], folder: str | os.PathLike) -> None:
    """Saves a tokenizer whose tokens are whole words between spaces, as a Hugging Face folder.

    Args:
        words: the vocabulary, without spaces in any; ids follow their order, after `<|endoftext|>` (id 0) and
            `<|unknown|>` (id 1), which stands for any other word.
        folder: where tokenizer.json and tokenizer_config.json go; made where missing.
    """
    import tokenizers
    from tokenizers import models, pre_tokenizers

    specials = ("<|endoftext|>", "<|unknown|>")
    vocabulary = {word: number for number, word in enumerate((*specials, *words))}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=specials[1]))
    backend.add_special_tokens(list(specials))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    _write_fast_tokenizer(backend, folder, eos_token=specials[0], unk_token=specials[1])


def _write_fast_tokenizer(backend, folder: str | os.PathLike, **special_tokens: str) -> None:
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(backend.to_str(pretty=True), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special_tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _load_tokenizer_json(path: pathlib.Path, settings: tokenizer_settings.Settings, bos: str) -> Tokenizer:
    import tokenizers

    with tokenizer_settings.library_errors(f"{path} cannot be read", "download it again"):
        backend = tokenizers.Tokenizer.from_file(str(path))
    return _FastTokenizer(backend, [path], settings, bos)


def _load_tokenizer_model(path: pathlib.Path, settings: tokenizer_settings.Settings, bos: str) -> Tokenizer:
    with path.open("rb") as file:
        is_sentencepiece = file.read(1) == b"\n"  # the tag of the first field of its protocol buffer
    if not is_sentencepiece:
        return _TiktokenTokenizer(path, rank_files.LLAMA_3, bos, settings)
    backend, special_tokens = sentencepiece_bpe.read(
        path, prefix=settings.flag("add_prefix_space") is not False
    )
    return _FastTokenizer(
        backend, [path], settings, bos, special_tokens=special_tokens, wants_bos="bos_token" in special_tokens
    )


def _generation_eos_ids(path: pathlib.Path) -> list[int]:
    found = tokenizer_settings.read_object(path).get("eos_token_id")
    found = found if isinstance(found, list) else [found]
    return [token_id for token_id in found if type(token_id) is int]


def _refuse_remote_code(settings: tokenizer_settings.Settings) -> None:
    if "auto_map" in settings.config:
        raise errors.UserError(
            f"the tokenizer in {settings.folder} is {settings.class_name}, code shipped with the model "
            "that is never run: add its qwen.tiktoken or tokenizer.json"
        )


def _replace_surrogates(text: str) -> str:
    """Joins surrogate pairs and replaces lone surrogates by U+FFFD, as tiktoken does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _fingerprint(files: Sequence[pathlib.Path], bos_id: int | None) -> str:
    """Without a BOS token that of the files alone, as before there were any: keys of finished stages hold it."""
    digest = hashlib.sha256()
    for path in files:
        contents = path.read_bytes()
        digest.update(f"{path.name} {len(contents)}\n".encode())
        digest.update(contents)
    if bos_id is not None:
        digest.update(f"bos {bos_id}\n".encode())
    return digest.hexdigest()
