"""Texts as token ids within what a model is given to read."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from selw2s_jax.errors import UserError


class Tokenizer(Protocol):
    """What makes token ids of texts, as `hf.tokenizers.Tokenizer`.

    Attributes:
        bos_id: the token that it puts in front of every text, None for none.
    """

    bos_id: int | None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...


class Reader(Protocol):
    """A model as far as its texts go, as `hf.pretrained.Model`; hashable.

    Attributes:
        role: its name in messages.
        max_length: longest text it is given, in tokens.
    """

    role: str
    tokenizer: Tokenizer
    max_length: int


_SPACES = " \t\n\r\v\f"


def most_tokens(text: str) -> int:
    """More tokens than any tokenizer makes of a text.

    No token is shorter than a byte, and NFC, which Qwen's tokenizer applies, at most triples a text; ASCII it leaves as
    it is, but SentencePiece's mark for a space has three bytes. A BOS token and such a mark may be in front.
    """
    if text.isascii():
        return len(text) + 2 * sum(map(text.count, _SPACES)) + 2
    return 3 * len(text.encode(errors="surrogatepass")) + 2


def is_overlong(texts: Sequence[str], model: Reader) -> np.ndarray:
    """Which texts have more tokens than a model is given: `[N]` bool."""
    candidates = [i for i, text in enumerate(texts) if most_tokens(text) >= model.max_length]
    overlong = np.zeros(len(texts), bool)
    if candidates:
        encoded = model.tokenizer.encode_batch([texts[i] for i in candidates])
        overlong[candidates] = [len(ids) > model.max_length for ids in encoded]
    return overlong


def encode(texts: Sequence[str], model: Reader) -> list[np.ndarray]:
    """Token ids of each text, int32, truncated from the left to what the model is given; a BOS token in front stays.

    Raises:
        UserError: a text without any token, or no room for one.
    """
    num_front, max_length = int(model.tokenizer.bos_id is not None), model.max_length
    if max_length <= num_front:
        raise UserError(
            f"the {model.role} model is given {max_length} token(s), which its BOS token takes: raise data.max_length"
        )
    encoded = model.tokenizer.encode_batch(list(texts))
    empty = next((i for i, ids in enumerate(encoded) if len(ids) <= num_front), None)
    if empty is not None:
        raise UserError(f"text {texts[empty]!r} has no token for the {model.role} model; remove its row")
    return [np.array(truncated(ids, max_length, num_front), np.int32) for ids in encoded]


def truncated(ids: Sequence[int], max_length: int, num_front: int) -> Sequence[int]:
    """The first `num_front` ids and the last of the others, as many as there may be: more than `num_front`."""
    return [*ids[:num_front], *ids[num_front - max_length :]] if len(ids) > max_length else ids
