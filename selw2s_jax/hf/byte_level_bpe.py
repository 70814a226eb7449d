"""Byte-level BPE from vocab.json and merges.txt, as tokenizers of the tokenizers library."""

import pathlib
from typing import TYPE_CHECKING, NamedTuple

from selw2s_jax import errors
from selw2s_jax.hf import rank_files, tokenizer_settings

if TYPE_CHECKING:
    import tokenizers


class _Kind(NamedTuple):
    """How a class of transformers reads text.

    Attributes:
        pattern: that texts are split by, None for GPT-2's.
        special_tokens: by name, where the settings name no other.
    """

    normalize_nfc: bool
    pattern: str | None
    special_tokens: dict[str, str]


_END = "<|endoftext|>"
_GPT2 = _Kind(False, None, {"bos_token": _END, "eos_token": _END})
_QWEN2 = _Kind(True, rank_files.GPT4_STYLE_PATTERN % r"\p{N}", {"eos_token": _END})
_GPT_NEOX = _Kind(True, None, {"bos_token": _END, "eos_token": _END, "pad_token": "<|padding|>"})
_KINDS = {
    "GPT2Tokenizer": _GPT2,
    "CodeGenTokenizer": _GPT2,
    "Qwen2Tokenizer": _QWEN2,
    "GPTNeoXTokenizer": _GPT_NEOX,
}
# Where no class is named, by the model_type of config.json; a folder of a tokenizer alone is taken for GPT-2's.
_CLASS_OF_MODEL = {
    None: "GPT2Tokenizer",
    "gpt2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
}


class Found(NamedTuple):
    """A tokenizer, and the special tokens that its class has by default, by name."""

    backend: "tokenizers.Tokenizer"
    special_tokens: dict[str, str]


def read(folder: pathlib.Path, settings: tokenizer_settings.Settings) -> Found:
    """The tokenizer of a folder's vocab.json and merges.txt, without code of any folder.

    Raises:
        UserError: a file is missing or damaged, or the class of the tokenizer is none whose split of text is known.
    """
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    paths = [folder / "vocab.json", folder / "merges.txt"]
    for path in paths:
        if not path.is_file():
            raise errors.UserError(f"{path} is missing: vocab.json and merges.txt belong together")
    name = settings.class_name
    if name is None:
        model_type = tokenizer_settings.read_object(folder / "config.json").get("model_type")
        name = _CLASS_OF_MODEL.get(model_type if isinstance(model_type, str | None) else "")
    kind = _KINDS.get(name)
    if kind is None:
        raise errors.UserError(
            f"vocab.json and merges.txt in {folder} cannot be read as a {name or 'tokenizer of its config.json'}: "
            f"add the model's tokenizer.json, or set tokenizer_class in tokenizer_config.json to one of "
            f"{', '.join(_KINDS)}"
        )
    with tokenizer_settings.library_errors(
        f"vocab.json and merges.txt in {folder} cannot be read as a {name}",
        "download both again, or add the model's tokenizer.json",
    ):
        vocabulary, merges = models.BPE.read_file(*map(str, paths))
        backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    if kind.normalize_nfc:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind.pattern is None)
    if kind.pattern is not None:
        split = pre_tokenizers.Split(tokenizers.Regex(kind.pattern), behavior="isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, backend.pre_tokenizer])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([t for t in dict.fromkeys(kind.special_tokens.values()) if t in vocabulary])
    return Found(backend, kind.special_tokens)
