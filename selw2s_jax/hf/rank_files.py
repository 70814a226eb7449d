"""Tokenizers of tiktoken's form: files of tokens by rank, of first-generation Qwen and of Llama 3."""

import base64
import dataclasses
import pathlib
from collections.abc import Mapping

from selw2s_jax import errors
from selw2s_jax.hf import tokenizer_settings


@dataclasses.dataclass(frozen=True)
class Format:
    """What a rank file leaves out. The special tokens take the ids after the last rank.

    Attributes:
        end_tokens: the first ends a text, the second a turn of a chat.
        bos_token: that the model reads before every text, None where it has none.
    """

    model_name: str
    num_ranks: int
    pattern: str
    special_tokens: tuple[str, ...]
    end_tokens: tuple[str, str]
    bos_token: str | None
    normalize_nfc: bool


GPT4_STYLE_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Qwen/Qwen-7B, tokenization_qwen.py.
QWEN = Format(
    model_name="Qwen",
    num_ranks=151_643,
    pattern=GPT4_STYLE_PATTERN % r"\p{N}",
    special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))),
    end_tokens=("<|endoftext|>", "<|im_end|>"),
    bos_token=None,
    normalize_nfc=True,
)

# meta-llama/llama3, llama/tokenizer.py.
LLAMA_3 = Format(
    model_name="Llama 3",
    num_ranks=128_000,
    pattern=GPT4_STYLE_PATTERN % r"\p{N}{1,3}",
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
    bos_token="<|begin_of_text|>",
    normalize_nfc=False,
)


def read(path: pathlib.Path, form: Format) -> dict[bytes, int]:
    """The merge rank of each token, from lines of a token in base64 and its rank, in order of rank.

    Raises:
        UserError: the file is damaged, or another model's.
    """
    ranks = {}
    remedy = f"download {form.model_name}'s file again"
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
    if len(ranks) != form.num_ranks:
        raise errors.UserError(
            f"{path} ends at line {len(lines)} with {len(ranks):,} tokens, not {form.num_ranks:,}: {remedy}"
        )
    return ranks


def special_tokens(
    form: Format, ranks: Mapping[bytes, int], settings: tokenizer_settings.Settings, path: pathlib.Path
) -> tuple[str, ...]:
    """The special tokens in order of id, by the names that the settings beside a rank file give to some.

    Later models of Llama 3 name tokens that were reserved.

    Raises:
        UserError: a setting asks for what a rank file has no place for.
    """
    settings.refuse("add_prefix_space", "add_eos_token", *tokenizer_settings.BERT_SETTINGS)
    names = list(form.special_tokens)
    for token_id, fields in settings.added.items():
        text, place = fields["content"], token_id - form.num_ranks
        if odd := [
            option for option in ("single_word", "lstrip", "rstrip", "normalized") if fields.get(option)
        ]:
            raise errors.UserError(
                f"{settings.path}: {path} cannot read {text!r} with {odd[0]}: add tokenizer.json"
            )
        if 0 <= place < len(names):
            names[place] = text
        elif ranks.get(text.encode()) != token_id:
            raise errors.UserError(
                f"{text!r} has id {token_id} in {settings.path}, which it has not in {path}: take the files from the "
                "same model, or add tokenizer.json"
            )
    if len(set(names)) != len(names):
        raise errors.UserError(f"{settings.path} gives two tokens of {path} one name: download it again")
    return tuple(names)
