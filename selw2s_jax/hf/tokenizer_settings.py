"""What the files beside a tokenizer say of it: its special and added tokens, and settings that change ids.

tokenizer_config.json, special_tokens_map.json and added_tokens.json, as transformers writes them. A setting that would
change ids is honoured, or refused where it cannot be.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from selw2s_jax import errors

if TYPE_CHECKING:
    import tokenizers

CONFIG, SPECIAL_TOKENS, ADDED_TOKENS = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_NAMED_LISTS = ("additional_special_tokens", "extra_special_tokens")
_TOKEN_OPTIONS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# Settings of BERT's normalizer, and the attributes of the library's.
BERT_SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# Other normalizers that do what a setting asks for.
_SAME_AS = {"do_lower_case": "Lowercase", "strip_accents": "StripAccents"}
# Tokenizers that normalize to NFC by definition; a tokenizer.json converted from GGUF files does not say so.
_NFC_CLASSES = ("Qwen2Tokenizer", "GPTNeoXTokenizer")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the files beside a tokenizer say; those that are missing say nothing.

    Attributes:
        folder: that they are in.
        config: of tokenizer_config.json.
        special: of special_tokens_map.json.
        added: tokens by id, each with its "content" and options of `tokenizers.AddedToken`.
    """

    folder: pathlib.Path
    config: dict[str, Any]
    special: dict[str, Any]
    added: dict[int, dict[str, Any]]

    @property
    def path(self) -> pathlib.Path:
        """tokenizer_config.json, whether it is there or not."""
        return self.folder / CONFIG

    @property
    def files(self) -> list[pathlib.Path]:
        """Those that are there."""
        paths = (self.folder / name for name in (CONFIG, SPECIAL_TOKENS, ADDED_TOKENS))
        return [path for path in paths if path.is_file()]

    @property
    def class_name(self) -> str | None:
        """Of the tokenizer in transformers, without `Fast`; None where no one class is named."""
        name = self.config.get("tokenizer_class")
        if name is not None and not isinstance(name, str):
            raise errors.UserError(f"{self.path}: tokenizer_class is {_short(name)}, not a name; correct it")
        name = (name or "").removesuffix("Fast")
        return None if name in ("", "AutoTokenizer", "PreTrainedTokenizer", "TokenizersBackend") else name

    def token(self, name: str) -> str | None:
        """The text of a special token, such as "eos_token"; None where neither file names it."""
        for path, values in ((self.path, self.config), (self.folder / SPECIAL_TOKENS, self.special)):
            if (text := _token_text(values.get(name), f"{path}: {name}")) is not None:
                return text
        return None

    def flag(self, name: str) -> bool | None:
        """A setting of tokenizer_config.json that is true or false; None where it is null or missing."""
        value = self.config.get(name)
        if value is not None and type(value) is not bool:
            raise errors.UserError(f"{self.path}: {name} is {_short(value)}, not true or false; correct it")
        return value

    @property
    def pad_token(self) -> str | None:
        """Of tokenizer_config.json alone."""
        return _token_text(self.config.get("pad_token"), f"{self.path}: pad_token")

    def refuse(self, *names: str) -> None:
        """Raises a UserError where one of these settings is true."""
        for name in names:
            if self.flag(name):
                raise errors.UserError(
                    f"{self.path} has {name}=true, which the tokenizer beside it does not do: take both files from "
                    "the same model, or remove the setting"
                )

    def special_tokens(self) -> list[str]:
        """The text of every special token that the files name, each once."""
        texts = [self.token(name) for name in _NAMED]
        for path, values in ((self.path, self.config), (self.folder / SPECIAL_TOKENS, self.special)):
            for name in _NAMED_LISTS:
                listed = values.get(name) or []
                if not isinstance(listed, list | dict):
                    raise errors.UserError(f"{path}: {name} is {_short(listed)}, not a list; correct it")
                listed = listed.values() if isinstance(listed, dict) else listed
                texts += [_token_text(token, f"{path}: {name}") for token in listed]
        return [text for text in dict.fromkeys(texts) if text]


def read(folder: pathlib.Path) -> Settings:
    """The settings in a folder.

    Raises:
        UserError: a file is damaged, or lists what is no token.
    """
    config, special, named = (read_object(folder / name) for name in (CONFIG, SPECIAL_TOKENS, ADDED_TOKENS))
    added = {}
    for text, token_id in named.items():
        added[_token_id(token_id, folder / ADDED_TOKENS)] = _token_fields(
            token_id, {"content": text}, folder / ADDED_TOKENS
        )
    listed = config.get("added_tokens_decoder") or {}
    if not isinstance(listed, dict):
        raise errors.UserError(f"{folder / CONFIG}: added_tokens_decoder is {_short(listed)}, not an object")
    for token_id, fields in listed.items():
        added[_token_id(token_id, folder / CONFIG)] = _token_fields(token_id, fields, folder / CONFIG)
    return Settings(folder, config, special, added)


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object from a file, {} where there is none.

    Raises:
        UserError: the file is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = errors.parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, error) from error
    if not isinstance(content, dict):
        raise errors.UserError(f"{path} is not a JSON object: download it again")
    return content


def damaged(path: pathlib.Path, error: BaseException) -> errors.UserError:
    """The error of a file that cannot be read."""
    return errors.UserError(f"{path} cannot be read ({errors.one_line(error)}): download it again")


@contextlib.contextmanager
def library_errors(prefix: str, remedy: str) -> Iterator[None]:
    """Turns what the tokenizers library raises into a UserError: exceptions of no narrow type, and panics.

    A panic of Rust code is a BaseException.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, errors.UserError):
            raise
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise errors.UserError(f"{prefix} ({errors.one_line(error)}): {remedy}") from error


def apply(backend: "tokenizers.Tokenizer", settings: Settings, path: pathlib.Path) -> None:
    """Makes a tokenizer of the tokenizers library read text as the settings beside its file ask.

    Args:
        path: of the tokenizer's file.

    Raises:
        UserError: a setting cannot be honoured, or the files disagree.
    """
    from tokenizers import normalizers

    backend.no_padding()
    backend.no_truncation()
    if getattr(backend.model, "dropout", None):  # of merges, in training alone
        backend.model.dropout = None
    if settings.class_name in _NFC_CLASSES and backend.normalizer is None:
        backend.normalizer = normalizers.NFC()
    if (wanted := settings.flag("add_prefix_space")) is not None:
        _set_prefix_space(backend, wanted, settings.path)
    _set_bert_options(backend, settings)
    _add_tokens(backend, settings, path)
    if settings.flag("split_special_tokens"):
        backend.encode_special_tokens = True


def _add_tokens(backend: "tokenizers.Tokenizer", settings: Settings, path: pathlib.Path) -> None:
    """Adds the tokens that only the settings list, and makes tokens of the vocabulary special that they name."""
    import tokenizers

    present = backend.get_added_tokens_decoder()
    for token_id, fields in sorted(settings.added.items()):
        text = fields["content"]
        options = {name: fields[name] for name in _TOKEN_OPTIONS if name in fields}
        token = tokenizers.AddedToken(text, **options)
        own = present.get(token_id)
        is_same = own is not None and own.content == text
        # transformers has the options of tokenizer_config.json win over those of tokenizer.json.
        if not is_same or any(getattr(own, name) != value for name, value in options.items()):
            backend.add_tokens([token])
        if (actual := backend.token_to_id(text)) != token_id:
            raise errors.UserError(
                f"{text!r} has id {token_id} in {settings.folder / CONFIG} or {ADDED_TOKENS} and {actual} by {path}: "
                "take the files from the same model"
            )
    known = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    for text in settings.special_tokens():
        own = known.get(text)
        if backend.token_to_id(text) is None or (own is not None and own.special):
            continue  # named without an id of its own, a token is none: an embedding has no row for it
        kept = (
            {} if own is None else {name: getattr(own, name) for name in ("single_word", "lstrip", "rstrip")}
        )
        backend.add_special_tokens([tokenizers.AddedToken(text, special=True, normalized=False, **kept)])


def parts(component: Any) -> list[Any]:
    """A normalizer, pre-tokenizer or post-processor of the library as a list: what a Sequence holds, else itself."""
    if component is None:
        return []
    state = json.loads(component.__getstate__())
    held = next((value for value in state.values() if isinstance(value, list)), [])
    if state.get("type") != "Sequence":
        return [component]
    return [part for i in range(len(held)) for part in parts(component[i])]


def _set_prefix_space(backend: "tokenizers.Tokenizer", wanted: bool, path: pathlib.Path) -> None:
    """Has a space put in front of texts, or none, where the tokenizer's own file says otherwise."""
    from tokenizers import normalizers, pre_tokenizers

    found = parts(backend.pre_tokenizer)
    byte_level = [part for part in found if isinstance(part, pre_tokenizers.ByteLevel)]
    marking = [part for part in found if isinstance(part, pre_tokenizers.Metaspace)]
    prepends = [part for part in parts(backend.normalizer) if isinstance(part, normalizers.Prepend)]
    has_prefix = bool(prepends)
    has_prefix |= any(part.add_prefix_space for part in byte_level)
    has_prefix |= any(part.prepend_scheme != "never" for part in marking)
    if has_prefix == wanted:
        return
    if prepends or not (byte_level or marking):
        raise errors.UserError(
            f"{path} has add_prefix_space={json.dumps(wanted)}, which the tokenizer beside it has no place for: "
            "take both files from the same model, or remove the setting"
        )
    for part in byte_level:
        part.add_prefix_space = wanted
    for part in marking:
        part.prepend_scheme = "first" if wanted else "never"


def _set_bert_options(backend: "tokenizers.Tokenizer", settings: Settings) -> None:
    from tokenizers import normalizers

    found = parts(backend.normalizer)
    bert = [part for part in found if isinstance(part, normalizers.BertNormalizer)]
    for name, attribute in BERT_SETTINGS.items():
        wanted = settings.flag(name)
        if wanted is None:
            continue
        for part in bert:
            setattr(part, attribute, wanted)
        same = _SAME_AS.get(name)
        if not bert and not any(type(part).__name__ == same for part in found):
            settings.refuse(name)


def _token_text(token: Any, where: str) -> str | None:
    """Settings name a special token by its text, or by an object that has it."""
    if token is None:
        return None
    text = token.get("content") if isinstance(token, dict) else token
    if not _is_text(text):
        raise errors.UserError(f"{where} is {_short(token)}, not a token; correct it")
    return text or None


def _is_text(value: Any) -> bool:
    """Whether a value is a text that UTF-8 can hold: a JSON escape can make a lone surrogate."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _token_id(value: Any, path: pathlib.Path) -> int:
    text = str(value) if isinstance(value, str) or type(value) is int else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise errors.UserError(f"{path}: an added token has the id {_short(value)}, not a number; correct it")
    return int(text)


def _token_fields(token_id: str, fields: Any, path: pathlib.Path) -> dict[str, Any]:
    if not isinstance(fields, dict) or not _is_text(fields.get("content")) or not fields["content"]:
        raise errors.UserError(
            f"{path}: the added token {token_id} is {_short(fields)}, not an object with the token's text as "
            '"content"; correct it'
        )
    for name in _TOKEN_OPTIONS:
        if name in fields and type(fields[name]) is not bool:
            raise errors.UserError(
                f"{path}: {name} of the added token {token_id} is {_short(fields[name])}, not true or false; correct it"
            )
    return fields


def _short(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:  # deeper than it was read
        text = "..."
    return text if len(text) <= 60 else text[:57] + "..."
