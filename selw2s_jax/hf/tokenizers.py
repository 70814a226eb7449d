"""Tokenizers from the files of a local folder, with one small interface: text to ids, nothing added.

`load_tokenizer` looks for these files and takes the first it finds:

1. `qwen.tiktoken`: Qwen, first generation. The ranks go to tiktoken with the split pattern, the special
   tokens and the NFC normalisation of Qwen's own tokenization_qwen.py, which is never run.
2. `tokenizer.json`: any model, exactly as the file says. Padding and truncation saved in it are off.
3. `vocab.json` with `merges.txt`: byte-level BPE, through the transformers class that
   tokenizer_config.json names, or GPT-2's.
4. `tokenizer.model`: Llama 3 (tiktoken ranks) or Llama 1 and 2 and Mistral (SentencePiece BPE).

In every format the text of a special token becomes that token, as in transformers and in Qwen's own code.
A lone surrogate, which no UTF-8 text holds but a JSON escape can make, is read as U+FFFD.
"""

import abc
import base64
import dataclasses
import hashlib
import json
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Sequence

from selw2s_jax import errors
from selw2s_jax.hf import model_folders, sentencepiece_bpe
from selw2s_jax.runtime import remote

# Embedding tables are padded to round sizes; no published model adds as many rows as this.
MAX_EMBEDDING_PADDING = 1024

_ADDED_TOKEN_OPTIONS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# Of tokenizers whose settings name no end-of-text token: GPT-2 and GPT-NeoX, Llama and Mistral, Llama 3.
_KNOWN_EOS_TOKENS = ("<|endoftext|>", "</s>", "<|end_of_text|>")
_SPECIAL_TOKENS = "special_tokens_map.json"
_SETTINGS_FILES = ("tokenizer_config.json", _SPECIAL_TOKENS, "added_tokens.json")


class Tokenizer(abc.ABC):
    """Text to token ids and back.

    Attributes:
        files: the files that define the tokenizer.
        fingerprint: sha256, in hex, over the names and contents of `files`.
        vocab_size: the largest id plus one, special tokens included.
        pad_id: a valid id for padding slots; they are masked, so any would do.
        eos_ids: the tokens that end a text or a turn of a chat, ascending, by the tokenizer and the
            generation_config.json beside it; () where neither says. The fingerprint does not cover that file.
    """

    def __init__(
        self, files: Iterable[pathlib.Path], *, vocab_size: int, pad_id: int, eos_ids: Iterable[int] = ()
    ):
        self.files = tuple(files)
        self.fingerprint = _fingerprint(self.files)
        self.vocab_size = vocab_size
        self.pad_id = pad_id
        named = _generation_eos_ids(self.files[0].parent / "generation_config.json")
        self.eos_ids = tuple(sorted({*eos_ids, *(i for i in named if 0 <= i < vocab_size)}))

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without any beginning-of-text or end-of-text token."""

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in the fastest way the tokenizer has."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included; bytes that are not UTF-8 become U+FFFD."""


@dataclasses.dataclass(frozen=True)
class _TiktokenFormat:
    """What a rank file leaves out. The special tokens take the ids after the last rank.

    The first of the `end_tokens` ends a text, the second a turn of a chat.
    """

    model_name: str
    num_ranks: int
    pattern: str
    special_tokens: tuple[str, ...]
    end_tokens: tuple[str, str]
    normalize_nfc: bool


_GPT4_STYLE_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Qwen/Qwen-7B, tokenization_qwen.py.
_QWEN = _TiktokenFormat(
    model_name="Qwen",
    num_ranks=151_643,
    pattern=_GPT4_STYLE_PATTERN % r"\p{N}",
    special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))),
    end_tokens=("<|endoftext|>", "<|im_end|>"),
    normalize_nfc=True,
)

# meta-llama/llama3, llama/tokenizer.py.
_LLAMA_3 = _TiktokenFormat(
    model_name="Llama 3",
    num_ranks=128_000,
    pattern=_GPT4_STYLE_PATTERN % r"\p{N}{1,3}",
    special_tokens=(
        "<|begin_of_text|>",
        "<|end_of_text|>",
        *(f"<|reserved_special_token_{i}|>" for i in range(4)),
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|reserved_special_token_4|>",
        "<|eot_id|>",
        *(f"<|reserved_special_token_{i}|>" for i in range(5, 251)),
    ),
    end_tokens=("<|end_of_text|>", "<|eot_id|>"),
    normalize_nfc=False,
)


class _TiktokenTokenizer(Tokenizer):
    def __init__(self, path: pathlib.Path, spec: _TiktokenFormat):
        import tiktoken

        special_tokens = {token: spec.num_ranks + i for i, token in enumerate(spec.special_tokens)}
        self._encoding = tiktoken.Encoding(
            spec.model_name,
            pat_str=spec.pattern,
            mergeable_ranks=_read_ranks(path, spec),
            special_tokens=special_tokens,
        )
        self._normalize_nfc = spec.normalize_nfc
        eos_ids = [special_tokens[token] for token in spec.end_tokens]
        super().__init__([path], vocab_size=self._encoding.n_vocab, pad_id=eos_ids[0], eos_ids=eos_ids)

    def encode(self, text):
        if self._normalize_nfc:
            text = unicodedata.normalize("NFC", text)
        try:
            return self._encoding.encode(text, allowed_special="all", disallowed_special=())
        except ValueError as error:  # the split pattern overflows its stack on a million spaces
            raise errors.UserError(
                f"a text of {len(text):,} characters that starts with {text[:40]!r} cannot be tokenized "
                f"({errors.one_line(error)}): shorten its longest run of white space"
            ) from error

    def encode_batch(self, texts):
        return [self.encode(text) for text in texts]  # faster than threads: about 25 us for a short text

    def decode(self, ids):
        return self._encoding.decode(ids, errors="replace")


class _FastTokenizer(Tokenizer):
    """Around a `tokenizers.Tokenizer`, the Rust object inside every fast tokenizer of transformers."""

    def __init__(self, backend, files: Sequence[pathlib.Path], settings: dict):
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        vocab = backend.get_vocab(with_added_tokens=True)
        named = [_token_text(settings.get("pad_token")), _token_text(settings.get("eos_token"))]
        eos_token = named[1] or _token_text(
            _read_settings(files[0].parent / _SPECIAL_TOKENS).get("eos_token")
        )
        eos_token = eos_token or next((token for token in _KNOWN_EOS_TOKENS if token in vocab), None)
        super().__init__(
            files,
            vocab_size=max(vocab.values()) + 1,
            pad_id=next((vocab[token] for token in (*named, "<|endoftext|>", "</s>") if token in vocab), 0),
            eos_ids=[vocab[eos_token]] if eos_token in vocab else (),
        )

    def encode(self, text):
        return self._backend.encode(_replace_surrogates(text), add_special_tokens=False).ids

    def encode_batch(self, texts):
        encodings = self._backend.encode_batch_fast(
            [_replace_surrogates(text) for text in texts], add_special_tokens=False
        )
        return [encoding.ids for encoding in encodings]

    def decode(self, ids):
        return self._backend.decode(ids, skip_special_tokens=False)


def load_tokenizer(folder: str | os.PathLike) -> Tokenizer:
    """The tokenizer of a local Hugging Face folder; the module's docstring says which files decide.

    Raises:
        UserError: no such folder, no tokenizer in it, a damaged file, or a tokenizer that only code
            shipped with the model could build.
    """
    folder = model_folders.step_into(remote.local_copy(folder))
    if not model_folders.is_folder(folder):
        raise errors.UserError(
            f"no tokenizer folder at {folder}: give a folder that holds the tokenizer files"
        )
    if (path := folder / "qwen.tiktoken").is_file():
        return _TiktokenTokenizer(path, _QWEN)

    settings = _read_settings(folder / "tokenizer_config.json")
    if (path := folder / "tokenizer.json").is_file():
        return _load_tokenizer_json(path, settings)
    if (folder / "vocab.json").is_file() or (folder / "merges.txt").is_file():
        return _load_vocab_and_merges(folder, settings)
    if (path := folder / "tokenizer.model").is_file():
        return _load_tokenizer_model(path, settings)

    _refuse_remote_code(folder, settings)
    raise errors.UserError(
        f"no tokenizer in {folder}: copy there the model's qwen.tiktoken, tokenizer.json, vocab.json with "
        "merges.txt, or tokenizer.model"
    )


def check_tokenizer(tokenizer: Tokenizer, model_vocab_size: int, model_name: str) -> None:
    """Refuses a tokenizer whose ids cannot be those of a model with `model_vocab_size` embedding rows.

    Raises:
        UserError: an id without an embedding row, or more than 1,024 rows without an id.
    """
    source = tokenizer.files[0]
    if tokenizer.vocab_size > model_vocab_size:
        raise errors.UserError(
            f"vocabulary of {model_name} too small for the ids of {source}: {model_vocab_size:,} embedding "
            f"rows, ids up to {tokenizer.vocab_size - 1:,}; use the tokenizer files that came with the model"
        )
    if model_vocab_size - tokenizer.vocab_size > MAX_EMBEDDING_PADDING:
        raise errors.UserError(
            f"{source} is the wrong tokenizer for {model_name}: {tokenizer.vocab_size:,} ids for "
            f"{model_vocab_size:,} embedding rows; use the tokenizer files that came with the model"
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


def _load_tokenizer_json(path: pathlib.Path, settings: dict) -> Tokenizer:
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no narrower type
        raise _damaged(path, error) from error
    _add_listed_tokens(backend, settings, path)
    return _FastTokenizer(backend, [path, *_settings_files(path.parent)], settings)


def _load_vocab_and_merges(folder: pathlib.Path, settings: dict) -> Tokenizer:
    import transformers

    _refuse_remote_code(folder, settings)
    files = [folder / "vocab.json", folder / "merges.txt"]
    for path in files:
        if not path.is_file():
            raise errors.UserError(f"{path} is missing: vocab.json and merges.txt belong together")
    class_name = settings.get("tokenizer_class") or "GPT2Tokenizer"
    try:
        tokenizer_class = getattr(transformers, class_name)
        backend = tokenizer_class.from_pretrained(str(folder), local_files_only=True).backend_tokenizer
    except Exception as error:  # an unknown class and damaged files surface as many types
        raise errors.UserError(
            f"vocab.json and merges.txt in {folder} cannot be read as a {class_name} "
            f"({errors.one_line(error)}): download both again, or add the model's tokenizer.json"
        ) from error
    return _FastTokenizer(backend, [*files, *_settings_files(folder)], settings)


def _load_tokenizer_model(path: pathlib.Path, settings: dict) -> Tokenizer:
    _refuse_remote_code(path.parent, settings)
    with path.open("rb") as file:
        is_sentencepiece = file.read(1) == b"\n"  # the tag of the first field of its protocol buffer
    if not is_sentencepiece:
        return _TiktokenTokenizer(path, _LLAMA_3)
    backend = sentencepiece_bpe.read(path)
    _add_listed_tokens(backend, settings, path)
    return _FastTokenizer(backend, [path, *_settings_files(path.parent)], settings)


def _add_listed_tokens(backend, settings: dict, path: pathlib.Path) -> None:
    """Adds the tokens that only tokenizer_config.json lists, as transformers does."""
    import tokenizers

    listed = {int(token_id): fields for token_id, fields in settings.get("added_tokens_decoder", {}).items()}
    for token_id, fields in sorted(listed.items()):
        if backend.token_to_id(fields["content"]) is None:
            options = {name: value for name, value in fields.items() if name in _ADDED_TOKEN_OPTIONS}
            backend.add_tokens([tokenizers.AddedToken(fields["content"], **options)])
        if (actual := backend.token_to_id(fields["content"])) != token_id:
            raise errors.UserError(
                f"{fields['content']!r} has id {token_id} in tokenizer_config.json and {actual} by {path}: "
                "take both files from the same model"
            )


def _read_ranks(path: pathlib.Path, spec: _TiktokenFormat) -> dict[bytes, int]:
    """The merge rank of each token, from lines of a token in base64 and its rank, in order of rank."""
    ranks = {}
    remedy = f"download {spec.model_name}'s file again"
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            token, rank = base64.b64decode(encoded, validate=True), int(rank)
        except ValueError as error:
            raise errors.UserError(f"{path} line {number} is not 'base64 rank': {remedy}") from error
        if rank != len(ranks) or token in ranks:
            raise errors.UserError(f"{path} line {number} repeats a token or is out of order: {remedy}")
        ranks[token] = rank
    if len(ranks) != spec.num_ranks:
        raise errors.UserError(
            f"{path} ends at line {len(lines)} with {len(ranks):,} tokens, not {spec.num_ranks:,}: {remedy}"
        )
    return ranks


def _read_settings(path: pathlib.Path) -> dict:
    if not path.is_file():
        return {}
    try:
        settings = errors.parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(settings, dict):
        raise errors.UserError(f"{path} is not a JSON object: download it again")
    return settings


def _token_text(token: object) -> str | None:
    """Settings name a special token by its text, or by an object that has it."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _generation_eos_ids(path: pathlib.Path) -> list[int]:
    found = _read_settings(path).get("eos_token_id")
    found = found if isinstance(found, list) else [found]
    return [token_id for token_id in found if type(token_id) is int]


def _refuse_remote_code(folder: pathlib.Path, settings: dict) -> None:
    if "auto_map" in settings:
        raise errors.UserError(
            f"the tokenizer in {folder} is {settings.get('tokenizer_class')}, code shipped with the model "
            "that is never run: add its qwen.tiktoken or tokenizer.json"
        )


def _settings_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [folder / name for name in _SETTINGS_FILES if (folder / name).is_file()]


def _replace_surrogates(text: str) -> str:
    """Joins surrogate pairs and replaces lone surrogates by U+FFFD, as tiktoken does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _fingerprint(files: Sequence[pathlib.Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        contents = path.read_bytes()
        digest.update(f"{path.name} {len(contents)}\n".encode())
        digest.update(contents)
    return digest.hexdigest()


def _damaged(path: pathlib.Path, error: Exception) -> errors.UserError:
    return errors.UserError(f"{path} cannot be read ({errors.one_line(error)}): download it again")
