"""Token ids of texts that were tokenised before: in this process, and in files for the next one.

A text is known by its content and an id list belongs to one tokenizer, so that what is found is what tokenising anew
would give, whichever split, seed or stage asks. A file holds what one call had to tokenise, with a checksum behind it:
one that is damaged is removed, and its texts are tokenised anew.
"""

import hashlib
import io
import threading
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath

from selw2s_jax.runtime import distributed, storage

MIN_TEXTS = 256  # fewer at once, as when a prompt is cut to its context, are quicker tokenised than looked up
_MOST_TOKENS = 2**26  # in memory, and so in files: a quarter of a GiB
_NAME_BYTES, _CHECK_BYTES = 16, 20
# Groups of devices make their stages in threads. One for all tokenizers, which can be sent to other processes.
_LOADING = threading.Lock()


class KeptTokens:
    """The ids of texts by one tokenizer.

    Args:
        folder: of that tokenizer alone, by a name that changes with all that its ids depend on.
    """

    def __init__(self, folder: epath.PathLike):
        self._folder = epath.Path(folder)
        self._ids: dict[bytes, np.ndarray] | None = None  # by name of the text
        self._num_tokens = 0

    def encode(
        self, texts: Sequence[str], encode_anew: Callable[[Sequence[str]], list[list[int]]]
    ) -> list[list[int]]:
        """`encode_anew(texts)`, asked only of texts that are not kept yet, each once.

        Args:
            encode_anew: whose ids of a text do not depend on the others.
        """
        if len(texts) < MIN_TEXTS:
            return encode_anew(texts)
        with _LOADING:
            if self._ids is None:
                self._load()
        names = [_name(text) for text in texts]
        missing = {name: text for name, text in zip(names, texts, strict=True) if name not in self._ids}
        if missing:
            if self._num_tokens > _MOST_TOKENS:
                return encode_anew(texts)
            encoded = encode_anew(list(missing.values()))
            lengths = np.array([len(ids) for ids in encoded], np.int64)
            joined = np.fromiter((one for ids in encoded for one in ids), np.int32, int(lengths.sum()))
            self._add(list(missing), lengths, joined)
            if len(missing) >= MIN_TEXTS:
                self._write(list(missing), lengths, joined)
        return [self._ids[name].tolist() for name in names]

    def _add(self, names: Sequence[bytes], lengths: np.ndarray, joined: np.ndarray) -> None:
        ends = np.cumsum(lengths).tolist()
        starts = [0, *ends[:-1]]
        self._ids |= {name: joined[a:b] for name, a, b in zip(names, starts, ends, strict=True)}
        self._num_tokens += len(joined)

    def _load(self) -> None:
        self._ids = {}
        # Others may write beside it, as they go by names with a dot in front.
        for file in [name for name in storage.names(self._folder) if not name.startswith(".")]:
            if self._num_tokens > _MOST_TOKENS:
                return
            try:
                self._add(*_unpack(storage.read_bytes(self._folder / file) or b""))
            except ValueError:
                if distributed.is_main():
                    storage.remove_file(self._folder / file)

    def _write(self, names: Sequence[bytes], lengths: np.ndarray, joined: np.ndarray) -> None:
        if not distributed.is_main():
            return
        storage.make_folder(self._folder)
        file = hashlib.blake2b(b"".join(names), digest_size=_NAME_BYTES).hexdigest()
        # Not flushed to the disk: what a loss of power leaves of it is no file that passes its check.
        storage.write_bytes(self._folder / f"{file}.npy", _pack(names, lengths, joined), durable=False)


def _name(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_NAME_BYTES).digest()


def _pack(names: Sequence[bytes], lengths: np.ndarray, joined: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    for array in (np.frombuffer(b"".join(names), np.uint8), lengths, joined):
        np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue() + hashlib.blake2b(buffer.getbuffer(), digest_size=_CHECK_BYTES).digest()


def _unpack(content: bytes) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Names, lengths and ids as `_pack` had them; ValueError where the content is not what it wrote."""
    packed, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
    if hashlib.blake2b(packed, digest_size=_CHECK_BYTES).digest() != check:
        raise ValueError("its checksum is another")
    buffer = io.BytesIO(packed)
    names, lengths, joined = (np.load(buffer, allow_pickle=False) for _ in range(3))
    whole = names.tobytes()
    split = [whole[at : at + _NAME_BYTES] for at in range(0, len(whole), _NAME_BYTES)]
    return split, lengths, joined
