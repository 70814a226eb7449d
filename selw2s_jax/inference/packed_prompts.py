"""Prompts that are read in one row of tokens, what several of them begin with once."""

from typing import NamedTuple

import numpy as np

MOST_TOKENS = 1024  # of a row; one prompt alone may be longer


class Request(NamedTuple):
    """A completion that is wanted of a prompt."""

    example: int
    tokens: np.ndarray  # of the prompt, without what all prompts begin with
    stem: int  # of them, that its neighbours begin with too
    key: np.ndarray  # [2] uint32
    limit: int  # most tokens to generate


class Packed:
    """Prompts in one row of tokens.

    Attributes:
        size: tokens so far.
    """

    def __init__(self):
        self.size, self._last = 0, None
        # Tokens, position of the first, segment of the parent.
        self._parts: list[tuple[np.ndarray, int, int]] = []
        self._stem_start = self._start = 0

    def _new(self, request: Request) -> tuple[bool, bool]:
        """Whether the stem of a request, and what is behind, are others than those of the request before."""
        last, stem = self._last, request.stem
        if last is None or last.stem != stem or not np.array_equal(last.tokens[:stem], request.tokens[:stem]):
            return stem > 0, True
        return False, not np.array_equal(last.tokens[stem:], request.tokens[stem:])

    def has_room(self, request: Request) -> bool:
        of_stem, behind = self._new(request)
        wanted = of_stem * request.stem + behind * (len(request.tokens) - request.stem)
        return not self.size or self.size + wanted <= MOST_TOKENS

    def add(self, request: Request) -> tuple[int, int]:
        """The columns of a request's stem and of what is behind it."""
        of_stem, behind = self._new(request)
        if of_stem:
            self._stem_start, self._stem_segment = self.size, len(self._parts) + 1
            self._append(request.tokens[: request.stem], 0, self._stem_segment)
        if behind:
            self._start = self.size
            parent = self._stem_segment if request.stem else len(self._parts) + 1
            self._append(request.tokens[request.stem :], request.stem, parent)
        self._last = request
        return self._stem_start, self._start

    def _append(self, tokens: np.ndarray, position: int, parent: int) -> None:
        self._parts.append((tokens, position, parent))
        self.size += len(tokens)

    def grid(self, num_tokens: int) -> np.ndarray:
        """Tokens, segments, parents and positions `[4, T]` int32."""
        grid, column = np.zeros((4, num_tokens), np.int32), 0
        for segment, (tokens, position, parent) in enumerate(self._parts, start=1):
            own = grid[:, column : column + len(tokens)]
            own[0], own[1], own[2] = tokens, segment, parent
            own[3] = np.arange(position, position + len(tokens))
            column += len(tokens)
        return grid


def num_slots(num_tokens: int) -> int:
    """Slots of a packed row for so many tokens: a power of two or three quarters of it, so that few are compiled."""
    power = max(1 << (num_tokens - 1).bit_length(), 64)
    return power * 3 // 4 if num_tokens <= power * 3 // 4 else power
